# 330_kills.pl
#	J1, outbound half: random changes while workers, and the whole server, are killed at random moments.
#	Whatever happens, afterwards Notion holds each row once, with its values. ANGLES_SEED repeats a run.
use strict;
use warnings;

use Test::More;
use Time::HiRes ();

use AnglesTest;
use SyncTest;

my $seed = $ENV{ANGLES_SEED} // time;
srand($seed);
note("seed $seed");

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim,
	conf => { 'fsync' => 'on', 'angles.notion_verify_window' => '1s', 'angles.http_timeout' => '3s' });
my $rounds = soak(12, 200);
my $next = 0;

$node->sql(q{
	CREATE TABLE p (id int PRIMARY KEY, title text, n int);
	CREATE TABLE c (id int PRIMARY KEY, title text, p int REFERENCES p ON DELETE CASCADE)});
link_table($node, $_) foreach ('p', 'c');
# many rows are deleted here on purpose
$node->sql('UPDATE angles.links SET mass_limit = 1000000');

# Returns a transaction of a few random changes.
sub random_changes
{
	my @sql;
	for (1 .. 1 + int rand 6)
	{
		my $id = 1 + int rand($next + 1);
		my $kind = rand;
		if ($kind < 0.45 || $next < 3)
		{
			$next++;
			push @sql, "INSERT INTO p VALUES ($next, 'p $next', $next) ON CONFLICT DO NOTHING",
			  "INSERT INTO c VALUES ($next, 'c $next', (SELECT max(id) FROM p)) ON CONFLICT DO NOTHING";
		}
		elsif ($kind < 0.8) { push @sql, "UPDATE p SET n = n + 1, title = title || '.' WHERE id = $id"; }
		elsif ($kind < 0.9) { push @sql, "UPDATE c SET p = (SELECT min(id) FROM p) WHERE id = $id"; }
		elsif ($kind < 0.95) { push @sql, "DELETE FROM c WHERE id = $id"; }
		else { push @sql, "DELETE FROM p WHERE id = $id"; }
	}
	return join('; ', 'BEGIN', @sql, rand() < 0.9 ? 'COMMIT' : 'ROLLBACK');
}

my @faults = (
	{ action => 'reset_after' }, { action => 'reset_before' }, { action => 503 }, { action => '503_committed' },
	{ action => '502html' }, { action => 409 }, { action => 'truncate', after => 0 });

foreach my $round (1 .. $rounds)
{
	$sim->faults({ method => 'POST|PATCH', path => '^/v1/pages', count => 1, %{ $faults[rand @faults] } })
	  if rand() < 0.5;
	# the server may go down in the middle of any of these
	$node->psql('postgres', random_changes(), stderr => \my $err) foreach (1 .. 4);

	# a moment that nobody chose: not a wait for a condition, so no sleep of the test's own
	my $until = Time::HiRes::time() + rand 0.05;
	1 while Time::HiRes::time() < $until;
	my $how = rand;
	if ($how < 0.6) { $node->crash; }
	else
	{
		my $kind = $how < 0.9 ? 'sync' : 'bridge';
		my ($pid) = $node->worker_pids($kind);
		kill('KILL', $pid) if $pid;
		$node->wait_alive;
	}
}
$sim->clear_faults;
drained($node, 120);
$node->wait_sql("SELECT count(*) = 0 FROM angles.queue WHERE state = 'waiting'", 'J1: nothing waits', 60);
is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'J1: nothing is parked')
  or diag($node->sql('SELECT * FROM angles.parked'));

foreach my $table ('p', 'c')
{
	my $expected = join("\n", map { join('|', map { $_ // '' } @$_) } $node->rows($table eq 'p'
		? 'SELECT id, title, n FROM p ORDER BY id'
		: "SELECT c.id, c.title, g.page_id FROM c LEFT JOIN angles.pages g ON g.key = c.p::text
			AND g.link_id = (SELECT id FROM angles.links WHERE relid = 'p'::regclass) ORDER BY c.id"));
	my $found = join("\n", map { join('|', $_->{id}, $_->{title}, ($table eq 'p' ? $_->{n} : $_->{p}) // '') }
		sort { $a->{id} <=> $b->{id} } pages($node, $sim, $table));
	is($found, $expected, "J1: $table in Notion is the table after $rounds kills (seed $seed)");
}

done_testing();
