# 451_retention.pl
#	What is over is dropped after angles.history_retention, in batches; what is open never is.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '200ms', 'angles.notion_query_lag' => '0' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text)');
$node->sql(q(INSERT INTO t VALUES (1, 'a')));
link_table($node, 't');
is($node->sql('SHOW angles.history_retention'), '90d', 'the default is 90 days');
# conflicts of long ago and of late, open and over; rows removed, brought back or not
$node->sql(q{INSERT INTO angles.conflict_log (link_id, key, page_id, property_id, property_name, column_name, local, remote, policy, winner,
		remote_at, detected_at, resolved_at)
	SELECT l.id, g::text, gen_random_uuid(), 'x', 'x', 'title', '1', '2', 'newest', CASE WHEN g <= 2500 THEN 'postgres' END,
		now(), now() - interval '200 days', CASE WHEN g <= 2400 THEN now() - interval '91 days' WHEN g <= 2500 THEN now() - interval '80 days' END
	FROM generate_series(1, 2600) g, angles.links l});
$node->sql(q{INSERT INTO angles.removed_log (link_id, relid, key, page_id, columns, texts, removed_at, restored_at)
	SELECT l.id, l.relid, g::text, gen_random_uuid(), '{id}', '{1}', now() - interval '200 days', CASE WHEN g = 1 THEN now() - interval '91 days' END
	FROM generate_series(1, 2) g, angles.links l});

sub listed
{
	$node->sql('SELECT count(*) FROM angles.sync_notion()');
}

# a session that looks at one of them holds up nobody
my $user = $node->background_psql('postgres');
$user->query_safe('BEGIN');
$user->query_safe("SELECT 1 FROM angles.conflict_log WHERE key = '7' FOR UPDATE");
listed();
my $left = $node->sql('SELECT count(*) FROM angles.conflict_log');
cmp_ok($left, '<', 2600, 'a listing drops what is over');
cmp_ok(2600 - $left, '<=', 2000, 'not all at once');
listed() for 1 .. 3;
is($node->sql('SELECT count(*) FROM angles.conflict_log'), 201, 'all that is over for long, but for what somebody holds');
$user->query_safe('ROLLBACK');
$user->quit;
listed();
is($node->sql('SELECT count(*), count(*) FILTER (WHERE winner IS NULL) FROM angles.conflict_log'), '200|100', 'then that, too; what is open, or of late, stays');
is($node->sql('SELECT key FROM angles.removed_log'), '2', 'a row that was not brought back is kept');
$node->configure('angles.history_retention' => '0');
$node->sql(q{UPDATE angles.conflict_log SET resolved_at = now() - interval '10 years' WHERE winner IS NOT NULL});
listed();
is($node->sql('SELECT count(*) FROM angles.conflict_log'), 200, '0 keeps all');
is($node->sql(q(SELECT title FROM t)), 'a', 'the table is untouched');

done_testing();
