# 333_plans.pl
#	The queue is empty most of the time, so its statistics say that reading all of it costs nothing. The
#	worker must not believe that: a plan made then would read the dead rows of everything that was ever
#	in it, for every batch of a large one.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'autovacuum' => 'off' });
$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
link_table($node, 't');
$node->sql('ANALYZE angles.queue_entries; ANALYZE angles.pages');

# no query of this test may look at the queue itself until the end
sub pages_known
{
	my ($n) = @_;
	$node->wait_sql("SELECT count(*) = $n FROM angles.pages WHERE state = 'live'", "$n pages are known", 60);
}

my $session = $node->background_psql('postgres');
$session->query_safe("INSERT INTO t VALUES ($_, 'one by one')") for 1 .. 300;
pages_known(300);
my $scans = 'SELECT COALESCE(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE schemaname = \'angles\'
	AND relname IN (\'queue_entries\')';
# the worker tells its counts with a transaction, at most once a second
my $stats = sub {
	my ($n) = @_;
	wait_for(sub { $node->sql('SELECT angles.wake()');
			$node->sql("SELECT n_tup_del >= $n FROM pg_stat_user_tables WHERE relname = 'queue_entries'") eq 't' },
		"$n entries are counted");
};
# what setup and views read was read before
$stats->(300);
my $before = $node->sql($scans);
$session->query_safe("INSERT INTO t VALUES ($_, 'one by one')") for 301 .. 600;
pages_known(600);
$session->query_safe("INSERT INTO t SELECT g, 'many' FROM generate_series(1001, 4000) g");
pages_known(3600);
$session->query_safe("UPDATE t SET title = title || '!'");
$node->wait_sql("SELECT count(*) = 0 FROM angles.pages WHERE state = 'live' AND base::text NOT LIKE '%!%'", 'all are updated', 60);
$stats->(7200);
is($node->sql($scans), $before, 'H5: the worker reads the queue by its indexes alone');
$session->quit;

done_testing();
