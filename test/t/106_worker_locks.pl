# What is no fault of the rows and no reason to die: orderly ends of the sync worker, and rows that
# somebody's open transaction holds.
use strict;
use warnings;

use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, preload => 'angles');

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
link_table($node, 't');

# ---- only a death counts as the death of what was under way ----

# Returns when a later worker than that of the generation has all five rows in hand.
sub claimed_after
{
	my ($generation, $words) = @_;
	$node->wait_sql("SELECT count(*) = 5 FROM angles.queue_entries
		WHERE state = 'claimed' AND generation > $generation", "$words: the next worker has the rows in hand")
	  or die "the test cannot go on";
	return $node->sql('SELECT max(generation) FROM angles.queue_entries');
}

sub crashes_are
{
	my ($wanted, $words) = @_;
	is($node->sql('SELECT DISTINCT crashes FROM angles.queue_entries'), $wanted, $words);
}

# the rows are claimed, and stay so: Notion wants no request for a long time
$sim->faults({ path => '^/v1/', action => '429', retry_after => 3000 });
$node->sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 5) g");
my $generation = claimed_after(0, 'limited');

$node->kill_worker('sync', 'TERM');
$generation = claimed_after($generation, 'SIGTERM');
crashes_are(0, 'SIGTERM is no crash of the rows under way');

$node->sql('CREATE DATABASE copy TEMPLATE postgres', 'template1');
$generation = claimed_after($generation, 'stopped for a command');
crashes_are(0, 'nor is a stop for a command on the database');
$node->sql('DROP DATABASE copy');

my $dropper = $node->background_psql('postgres');
$dropper->query_safe('BEGIN');
$dropper->query_safe('DROP EXTENSION angles CASCADE');
$node->reload;
wait_for(sub { !$node->worker_pids('sync') }, 'the sync worker makes room for DROP EXTENSION');
$dropper->query_safe('ROLLBACK');
$dropper->quit;
$generation = claimed_after($generation, 'a change of the extension');
crashes_are(0, 'nor is a change of the extension');

$node->restart;
$generation = claimed_after($generation, 'restart');
crashes_are(0, 'nor is a restart of the server');

$node->crash;
$generation = claimed_after($generation, 'start after a loss of power');
crashes_are(0, 'nor is a start after the whole server was lost');

# an error: the worker misses a table
$node->sql('ALTER TABLE angles.queue_entries RENAME TO away');
$node->sql('SELECT angles.wake()');
wait_for(sub { $node->sql('SELECT sync_failures > 1 FROM angles.workers') eq 't' },
	'the sync worker dies of an error, and the next one, too');
$node->sql('ALTER TABLE angles.away RENAME TO queue_entries');
$generation = claimed_after($generation, 'error');
crashes_are(1, 'an error is a crash of the rows under way, once');

$node->kill_worker('sync', 'TERM');
$generation = claimed_after($generation, 'SIGTERM after that');
crashes_are(1, 'which is counted once');

$node->kill_worker('sync', 'KILL');
$node->wait_alive;
$generation = claimed_after($generation, 'SIGKILL');
crashes_are(2, 'SIGKILL is another one');

done_testing();
