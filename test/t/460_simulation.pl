# 460_simulation.pl
#	J1 and all of C, D, E together: random SQL on one side, random deeds of people on the other (edits,
#	new pages, copies, trash, restore), faults of the network, and workers and servers killed at
#	random. At rest both sides hold the same, nothing is doubled, and whatever nobody deleted is
#	there. The seed is printed, and taken from ANGLES_SEED.
use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes ();

use AnglesTest;
use PagesTest;
use SyncTest;

plan(skip_all => 'make soak runs it: it looks for what nobody thought of') unless soak(0, 1) || $ENV{ANGLES_SEED};
my $seed = $ENV{ANGLES_SEED} // int(rand(1 << 30));
srand($seed);
note("seed $seed");
my $rounds = soak(25, 200);
my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { fsync => 'on', 'angles.poll_interval' => '100ms',
	'angles.list_interval' => '1s', 'angles.notion_verify_window' => '1s', 'angles.http_timeout' => '2s',
	'angles.retry_initial' => '50ms', 'angles.retry_cap' => '500ms' });
work_with($sim, $node);

table('t', 20, q{on_notion_delete => 'delete'}, 'note text');
my $source = source_of('t');
my $counter = 100;
# by title, which is never written again: what was made, and whether anybody ever deleted it
my %made = map { ("row $_" => 1) } 1 .. 20;
my %deleted;
my $kills = 0;

# A title of something that is made now.
sub title
{
	my ($by) = @_;
	my $title = "$by " . $counter++;
	$made{$title} = 1;
	return $title;
}

sub one_of { my @list = @_; return $list[ rand @list ]; }

# One random change of rows, as SQL. One that is not known to have been committed counts as if it
# had deleted, or had not made, what it is about.
sub change
{
	my $v = $counter++;
	my $some = one_of(keys %made);
	my $kind = int(rand 10);
	my $new;
	my $sql = "UPDATE t SET n = $v WHERE title = '$some'";

	if ($kind < 3)
	{
		$new = title('ours');
		$sql = "INSERT INTO t (title, n) VALUES ('$new', $v)";
	}
	elsif ($kind == 3)
	{
		$deleted{$some} = 1;
		$sql = "DELETE FROM t WHERE title = '$some'";
	}
	elsif ($kind == 4) { $sql = "UPDATE t SET id = id + 1000 WHERE title = '$some' AND id < 100000"; }
	elsif ($kind == 5) { $sql = "UPDATE t SET note = 'ours $v' WHERE n % 5 = " . $v % 5; }
	my $rc = $node->psql('postgres', $sql, stderr => \my $err);
	$deleted{$new} = 1 if $new && $rc != 0;
	return;
}

# One random deed of a person, in Notion.
sub deed
{
	my $v = $counter++;
	my @pages = grep { $_->{parent}{data_source_id} eq $source } @{ $sim->call('GET', '/_sim/state')->{pages} };
	my $page = one_of(@pages);
	my $title = $page->{values}{title} // '';
	my $kind = int(rand 10);
	my @edit = ({ op => 'set', page_id => $page->{id}, properties => one_of({ n => $v }, { note => "theirs $v" }, { n => $v, id => "wrong $v" }) });

	if ($kind < 2) { @edit = ({ op => 'add', data_source_id => $source, properties => { title => title('theirs'), n => $v } }); }
	# a copy is something new: it gets a title of its own
	elsif ($kind == 2) { @edit = ({ op => 'duplicate', page_id => $page->{id} }); }
	elsif ($kind == 3) { $deleted{$title} = 1; @edit = ({ op => 'trash', page_id => $page->{id} }); }
	elsif ($kind == 4) { @edit = map { { op => 'restore', page_id => $_->{id} } } one_of(grep { $_->{in_trash} } @pages) // (); }
	return if $page->{in_trash} && $kind > 4;
	foreach my $edit (@edit)
	{
		my $done = $sim->call('POST', '/_sim/edit', $edit);
		$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $done->{page_id}, properties => { title => title('copy') } })
		  if $kind == 2;
	}
	return;
}

foreach my $round (1 .. $rounds)
{
	$sim->faults({ method => one_of('PATCH', 'POST'), path => '^/v1/pages', count => 3, probability => 0.3,
		action => one_of(qw(reset_after reset_before 503 409 502html)) });
	$sim->faults({ method => 'POST', path => 'query', count => 2, probability => 0.3,
		action => one_of(qw(reset_after 503 truncate empty)), bytes => 100 });
	foreach (1 .. 6)
	{
		change() if rand() < 0.6;
		deed() if rand() < 0.6;
	}
	# a moment that nobody chose: not a wait for a condition, so no sleep of the test's own
	my $until = Time::HiRes::time() + rand 0.3;
	1 while Time::HiRes::time() < $until;
	my $how = rand;
	next if $how < 0.3;
	$kills++;
	if ($how < 0.5) { $node->crash; next; }
	my ($pid) = $node->worker_pids(one_of(qw(sync bridge apply)));
	kill(one_of('KILL', 'TERM'), $pid) if $pid;
	$node->wait_alive;
}
$sim->clear_faults;
note("$kills kills");

# what waits for a person is decided one way or the other
foreach (1 .. 6)
{
	listed('t');
	my $held = $node->sql('SELECT count(*) FROM angles.held_deletes');
	$node->sql("SELECT angles." . one_of('approve', 'refuse') . "('t')") if $held;
	drained($node, 120);
	last if !$held && $node->sql("SELECT count(*) FROM angles.inbox WHERE state = 'ready'") == 0;
}
$node->wait_sql("SELECT count(*) = 0 FROM angles.inbox WHERE state = 'ready'", 'nothing is on its way', 60)
  or diag($node->sql('SELECT i, p FROM angles.inbox i LEFT JOIN angles.pages p USING (link_id, page_id)'));
listed('t');
is($node->sql('SELECT count(*) FROM angles.held_deletes'), 0, 'E: nothing is held') or diag($node->sql('TABLE angles.held_deletes'));
is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'J1: nothing is parked') or diag($node->sql('SELECT * FROM angles.parked'));
is($node->sql("SELECT count(*) FROM angles.queue WHERE state <> 'waiting'"), 0, 'J1: nothing is queued') or diag($node->sql('TABLE angles.queue'));

my %nobodys = map { $_ => 1 } split /\n/, $node->sql("SELECT page_id FROM angles.pages WHERE state = 'left'");
my @there = grep { !$nobodys{ $_->{_id} } } pages($node, $sim, 't');
my $found = join("\n", sort map { join('|', map { $_ // '' } @$_{qw(id title n note)}) } @there);
my $expected = join("\n", sort map { join('|', map { $_ // '' } @$_) } $node->rows('SELECT id, title, n, note FROM t'));
is($found, $expected, "J1: both sides are the same after $rounds rounds, $kills kills (seed $seed)");
my %count;
$count{ $_->{title} // '' }++ foreach @there;
is(join(', ', grep { $count{$_} > 1 } sort keys %count), '', "J1: nothing is there twice (seed $seed)");
is(join(', ', grep { !$deleted{$_} && !$count{$_} } sort keys %made), '', "J1: what nobody deleted is there (seed $seed)");
my @creates = grep { ($_->{by} // '') eq 'api' && $_->{committed} && $_->{path} eq '/v1/pages' } $sim->ledger(0);
my %pages_of;
$pages_of{ join '', map { $_->{text}{content} } map { @{ $_->{title} // [] } } values %{ $_->{body}{properties} } }++ foreach @creates;
is(join(', ', grep { $pages_of{$_} > 1 && !$deleted{$_} } sort keys %pages_of), '', "B1: no page was made twice (seed $seed)")
  or diag(join("\n", map { JSON::PP->new->canonical->encode($_) } grep { my $t = JSON::PP->new->encode($_->{body}); grep { $pages_of{$_} > 1 && index($t, $_) >= 0 } keys %pages_of } @creates));

done_testing();
