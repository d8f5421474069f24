# 414_converge.pl
#	J1, both halves: random changes of rows and random edits in Notion, faults of the network, and
#	workers and servers killed at random; at rest both sides are the same. The seed is printed, and
#	taken from ANGLES_SEED.
use strict;
use warnings;

use Test::More;
use Time::HiRes ();

use AnglesTest;
use SyncTest;

my $seed = $ENV{ANGLES_SEED} // int(rand(1 << 30));
srand($seed);
note("seed $seed");
my $rounds = soak(15, 300);
my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { fsync => 'on', 'angles.poll_interval' => '100ms',
	'angles.notion_verify_window' => '1s', 'angles.http_timeout' => '2s', 'angles.retry_initial' => '50ms',
	'angles.retry_cap' => '500ms' });

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text, n int, tags text[], note text, twice int)});
# what the owner's code makes of a change goes back to Notion
$node->sql(q{CREATE FUNCTION doubles() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN NEW.twice := NEW.n * 2; RETURN NEW; END'});
$node->sql('CREATE TRIGGER doubles BEFORE INSERT OR UPDATE OF n ON t FOR EACH ROW EXECUTE FUNCTION doubles()');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, g, '{a}' FROM generate_series(1, 40) g));
link_table($node, 't');
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');
my $counter = 100;

sub any { return 1 + int(rand 40); }

# One random change of rows, as SQL.
sub change
{
	my ($id, $v) = (any(), $counter++);
	my @kinds = ("UPDATE t SET n = $v WHERE id = $id", "UPDATE t SET title = 'ours $v' WHERE id = $id",
		"UPDATE t SET tags = array_append(array_remove(tags, 'a'), 'o" . $v % 7 . "') WHERE id = $id AND NOT tags @> '{o" . $v % 7 . "}'",
		"UPDATE t SET note = NULLIF(note, 'x') WHERE id BETWEEN $id AND $id + 5",
		"BEGIN; UPDATE t SET n = n + 1 WHERE id = $id; UPDATE t SET note = 'ours $v' WHERE id = $id % 40 + 1; COMMIT");
	return $kinds[ rand @kinds ];
}

# One random edit of a person, in Notion.
sub edit
{
	my ($id, $v) = (any(), $counter++);
	my @kinds = ({ n => $v }, { title => "theirs $v" }, { tags => [ 'a', 't' . $v % 5 ] }, { note => "theirs $v" },
		{ n => $v, note => '' }, { twice => $v }, { id => "wrong $v" });
	$sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{$id}, properties => $kinds[ rand @kinds ] });
	return;
}

foreach my $round (1 .. $rounds)
{
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 3, probability => 0.3,
		action => (qw(reset_after reset_before 503 409 502html))[ rand 5 ] });
	$sim->faults({ method => 'POST', path => 'query', count => 2, probability => 0.3,
		action => (qw(reset_after 503 truncate))[ rand 3 ], bytes => 100 });
	foreach (1 .. 8)
	{
		# the server may go down in the middle of any of these
		$node->psql('postgres', change(), stderr => \my $err) if rand() < 0.6;
		edit() if rand() < 0.6;
	}
	# a moment that nobody chose: not a wait for a condition, so no sleep of the test's own
	my $until = Time::HiRes::time() + rand 0.1;
	1 while Time::HiRes::time() < $until;
	my $how = rand;
	next if $how < 0.3;
	if ($how < 0.5) { $node->crash; next; }
	my $kind = (qw(sync bridge apply))[ rand 3 ];
	my ($pid) = $node->worker_pids($kind);
	kill((rand() < 0.5 ? 'KILL' : 'TERM'), $pid) if $pid;
	$node->wait_alive;
}
$sim->clear_faults;
# edits that were made while a write was under way are shown again by the next answers
foreach (1 .. 3)
{
	drained($node, 120);
	my $since = $sim->requests;
	wait_for(sub { 2 <= grep { $_->{path} =~ /query/ } $sim->requests($since) }, 'a poll', 60);
	$node->wait_sql('SELECT count(*) = 0 FROM angles.inbox', 'nothing is on its way', 60);
	drained($node, 120);
}
is($node->sql("SELECT count(*) FROM angles.queue WHERE state = 'waiting'"), 0, 'J1: nothing waits');
is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'J1: nothing is parked')
  or diag($node->sql('SELECT * FROM angles.parked'));
my @there = sort { $a->{id} <=> $b->{id} } pages($node, $sim, 't');
is(scalar @there, 40, 'J1: a page for each row');
my $found = join("\n", map { join('|', map { $_ // '' } @$_{qw(id title n tags note twice)}) } @there);
my $expected = join("\n", map { join('|', map { $_ // '' } @$_) } $node->rows(q{SELECT id, title, n,
	array_to_string(ARRAY(SELECT unnest(tags) ORDER BY 1), ','), note, twice FROM t ORDER BY id}));
is($found, $expected, "J1: both sides are the same after $rounds rounds (seed $seed)");

done_testing();
