# 513_backup_kills.pl
#	Scenarios 1, 2 and 14: a backup that dies at any step leaves the last one or the next one, and the
#	one after it goes on; two at once; cancelled, terminated, in the way of others.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use BackupTest;

my $node = new_cluster('main', conf => { 'angles.backup_lock_timeout' => '200ms' });
backup_with($node);
$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 5000) i});
my ($first) = backup();
my $count = 1;

foreach my $point (qw(backup_snapshot backup_chunk backup_read backup_before_pack backup_after_pack backup_before_branch
	backup_after_branch backup_before_books))
{
	my $before = git('rev-parse', 'HEAD');
	$node->sql("UPDATE t SET v = '$point' WHERE id % 700 = 0");
	$node->arm_kill_point($point);
	$node->psql('postgres', 'SELECT * FROM angles.backup()', stderr => \my $err);
	wait_for(sub { $node->kill_point_struck }, "L1: $point strikes");
	$node->disarm_kill_point;
	$node->wait_sql(q{SELECT state = 'crashed' FROM angles.runs ORDER BY id DESC LIMIT 1}, "L1: $point: the run is buried");
	my $after = git('rev-parse', 'HEAD');
	my $moved = $point =~ /after_branch|before_books/;
	is($after eq $before ? 'old' : git('rev-parse', 'HEAD~1') eq $before ? 'new' : 'lost', $moved ? 'new' : 'old', "L1: $point: the branch has the one or the other");
	is(git('fsck', '--strict', '--no-dangling'), '', "L1: $point: git finds nothing wrong");
	my ($next) = backup();
	$count++;
	is($next->{commit} eq $after, $moved, "L1: $point: the next backup makes up for it");
	like($next->{remark}, qr/^equal/, "L1: $point: or finds it made") if $moved;
	is(git('rev-list', '--count', 'HEAD'), $count, "L1: $point: one commit for one change");
	is($node->sql('SELECT count(*) FROM angles.backups'), $count, "L1: $point: and each is in the view");
	is(git('grep', '-c', "\t$point\$", 'HEAD', '--', 'data/public.t') =~ s/.*://gr =~ tr/\n//dr > 0, 1, "L1: $point: the rows are there");
	is($node->sql("SELECT files > 0 FROM angles.verify_backup('$next->{commit}')"), 't', "L1: $point: and are what was written");
}
is(() = (glob(repository() . '/objects/pack/tmp*')), 0, 'L1: nothing is left of the dead');

# a whole server that loses its power
{
	$node->sql(q{UPDATE t SET v = 'power' WHERE id = 1});
	backup();
	$count++;
	$node->crash;
	is((backup())[0]->{remark} =~ /^equal/, 1, 'L2: after a loss of power the last backup is there');
	is($node->sql('SELECT count(*) FROM angles.backups'), $count, 'L2: and known');
}

# two at once, a cancel, a table that is locked
{
	# a sort that takes long enough to be seen
	$node->sql(q{CREATE TABLE slow AS SELECT i % 1000 AS a, md5(i::text) AS b FROM generate_series(1, 1500000) i});
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/go/, "\\echo go\nSELECT commit FROM angles.backup();\n");
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'angles job' AND query LIKE '%slow%')}, 'L14: a backup runs');
	is($node->sql(q{SELECT usename FROM pg_stat_activity WHERE backend_type = 'angles job'}), 'angles_backup', 'L21: as the backup role');
	$node->fails_with('SELECT * FROM angles.backup()', 'NG401', qr/another backup of this database is under way/, 'L14: a second one is told so');
	my $id = $node->sql(q{SELECT id FROM angles.runs WHERE task = 'backup' AND state = 'running'});
	is($node->sql("SELECT angles.cancel($id)"), 't', 'L14: it can be cancelled');
	$node->wait_sql("SELECT state = 'cancelled' FROM angles.runs WHERE id = $id", 'L14: and ends');
	wait_for(sub { !$node->worker_pids('job') }, 'L14: its process is gone');
	$session->quit;
	is(git('rev-list', '--count', 'HEAD'), $count, 'L14: no commit');

	my $waiting = $node->background_psql('postgres', on_error_stop => 0);
	$waiting->query_until(qr/go/, "\\echo go\nSELECT commit FROM angles.backup();\n");
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'angles job' AND query LIKE '%slow%')}, 'L5: a backup runs');
	$node->kill_worker('job', 'TERM');
	$node->wait_sql(q{SELECT state = 'crashed' FROM angles.runs ORDER BY id DESC LIMIT 1}, 'L5: terminated, it is noted');
	$waiting->quit;

	# the client goes away
	my $gone = $node->background_psql('postgres', on_error_stop => 0);
	$gone->query_until(qr/go/, "\\echo go\nSELECT commit FROM angles.backup();\n");
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'angles job' AND query LIKE '%slow%')}, 'L5: a backup runs');
	$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%angles.backup()%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()});
	wait_for(sub { !$node->worker_pids('job') }, 'L5: who waits for nobody ends');
	$node->sql('DROP TABLE slow');

	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; LOCK TABLE t');
	$node->fails_with('SELECT * FROM angles.backup()', '55P03', qr/lock timeout/, 'L21: a locked table is not waited for without end');
	is($node->sql(q{SELECT detail LIKE '%table with oid ' || 't'::regclass::oid || '%' FROM angles.runs ORDER BY id DESC LIMIT 1}), 't', 'L21: and is named');
	$holder->quit;
}

# nobody waits: tried again, and an alert when it fails
{
	$node->sql(q{SELECT * FROM angles.backup(wait => false)});
	$node->wait_sql(q{SELECT state = 'succeeded' AND result->0 ? 'commit' FROM angles.runs ORDER BY id DESC LIMIT 1}, 'L14: a queued one runs by itself');
	$node->sql('ALTER ROLE angles_backup NOBYPASSRLS');
	$node->sql(q{SELECT * FROM angles.backup(wait => false)});
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM angles.alerts WHERE fingerprint = 'job.backup' AND closed_at IS NULL)}, 'L21: one that fails is an alert');
	$node->sql('ALTER ROLE angles_backup BYPASSRLS');
	backup();
	is($node->sql(q{SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL}), 0, 'L21: until one goes well');
}

# in the way of nobody
{
	$node->sql('CREATE DATABASE other');
	$node->sql(q{CREATE EXTENSION angles; CREATE TABLE slow AS SELECT i % 1000 AS a, md5(i::text) AS b FROM generate_series(1, 1500000) i}, 'other');
	$node->sql(q{SELECT * FROM angles.backup(wait => false)}, 'other');
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'angles job' AND query LIKE '%slow%')}, 'J7: a backup runs');
	$node->sql('DROP DATABASE other');
	pass('J7: and its database can be dropped');
	wait_for(sub { !$node->worker_pids('job') }, 'J7: then it is gone');

	$node->sql(q{CREATE TABLE slow AS SELECT i % 1000 AS a, md5(i::text) AS b FROM generate_series(1, 1500000) i});
	$node->sql(q{SELECT * FROM angles.backup(wait => false)});
	$node->wait_sql(q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'angles job' AND query LIKE '%slow%')}, 'J7: a backup runs');
	$node->sql('DROP EXTENSION angles');
	pass('J7: and the extension can be dropped');
	wait_for(sub { !$node->worker_pids('job') }, 'J7: then it is gone, too');
}

done_testing();
