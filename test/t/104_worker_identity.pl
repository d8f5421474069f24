# Copies of a server are fenced; a promoted standby is not.
use strict;
use warnings;

use File::Copy ();
use File::Path ();
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PostgreSQL::Test::RecursiveCopy;

use AnglesTest;

my $node = new_cluster('origin', preload => 'angles',
	init => { allows_streaming => 1, has_archiving => 1 }, conf => { 'angles.sweep_interval' => '1h' });

sub state_is
{
	my ($n, $state, $words) = @_;
	return $n->wait_sql("SELECT state = '$state' FROM angles.workers WHERE database = 'postgres'", $words);
}

sub fenced
{
	my ($n, $id, $words, $reason) = @_;

	state_is($n, 'fenced', "$id: $words is fenced");
	is($n->sql('SELECT fence_reason FROM angles.identity'), $reason, "$id: because it was $reason");
	is($n->sql("SELECT severity FROM angles.alerts WHERE fingerprint = 'fenced' AND closed_at IS NULL"),
		'critical', "$id: with an alert");
	$n->fails_with("SELECT angles.request_rows('sync')", 'NG004', qr/SELECT angles\.adopt\(\)/,
		"$id: what would send is refused, with the way out");
	is(scalar $n->worker_pids('sync'), 0, "$id: no sync worker runs");
	cmp_ok($n->sql("SELECT count(*) FROM angles.request_rows('check_notion')"), '>=', 1,
		"$id: what sends nothing is allowed");
	$n->kill_worker('sync', 'TERM');
	is(scalar $n->worker_pids('sync'), 0, "$id: and leaves no sync worker that comes back");
}

sub adopted
{
	my ($n, $id) = @_;
	my $epoch = $n->sql('SELECT epoch FROM angles.identity');

	$n->sql('SELECT angles.adopt()');
	state_is($n, 'running', "$id: adopt() opens the fence");
	is($n->sql('SELECT epoch, how, fence_reason IS NULL FROM angles.identity'), $epoch + 1 . '|adopted|t',
		"$id: with a new epoch");
	is($n->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'fenced' AND closed_at IS NULL"), 0,
		"$id: the alert is closed");
	is($n->sql("SELECT count(*) FROM angles.links WHERE identity <> angles.identity_now() OR state = 'active'"), 0,
		"$id: the links belong to this server and are compared in full before anything is sent");
}

state_is($node, 'running', 'the original is not fenced');
is($node->sql('SELECT identity = angles.identity_now() FROM angles.identity'), 't', 'its identity is recorded');
my $identity = $node->sql('SELECT angles.identity_now()');
like($identity, qr/^[0-9a-f]{64}$/, 'an identity is hex digits');

# a link as link() leaves it, without the network
$node->sql(q{CREATE TABLE t (a integer PRIMARY KEY);
	INSERT INTO angles.links (relid, owner, identity, title, direction, conflict, on_local_delete, on_notion_delete,
		settle, preflight, key_columns, state, paused)
	VALUES ('t', 'postgres'::regrole, angles.identity_now(), 't', 'both', 'newest', 'trash', 'hold', '2 s', 'fast',
		'{a}', 'active', true)});

$node->restart;
state_is($node, 'running', 'a restart changes nothing');
is($node->sql('SELECT angles.identity_now()'), $identity, 'the identity is the same');
$node->crash;
state_is($node, 'running', 'nor does a crash');

# ---- J6: a standby ----

$node->backup('base');
my $standby = AnglesTest::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
# its WAL after the promotion is of no use to the recovery below
$standby->append_conf('postgresql.conf', 'archive_mode = off');
$standby->start;
$node->wait_for_catchup($standby);
is(scalar $standby->worker_pids('launcher'), 0, 'J6: a standby runs no launcher');
is($standby->sql('SELECT count(*) FROM angles.workers'), 0, 'J6: and no worker');
$standby->fails_with("SELECT angles.request_rows('check_notion')", '25006', qr/standby/,
	'J6: a request on a standby is refused');
isnt($standby->sql('SELECT angles.identity_now()'), $identity, 'J6: it is another place');
$standby->promote;
state_is($standby, 'running', 'J6: a promoted standby is not fenced');
is($standby->sql('SELECT how, epoch, identity = angles.identity_now() FROM angles.identity'), 'promoted|2|t',
	'J6: it has recorded its new identity and a higher epoch');
is($standby->sql('SELECT count(*) FROM angles.links WHERE identity = angles.identity_now()'), 1,
	'J6: its links are its own');
is(scalar $standby->worker_pids('bridge'), 1, 'J6: one bridge after the promotion');
$standby->restart;
state_is($standby, 'running', 'J6: nor after a restart');
$standby->stop;

# ---- J4: a clone by copying the files ----

$node->stop;
my $clone = AnglesTest::Cluster->new('clone');
File::Path::make_path($clone->basedir) unless -d $clone->basedir;
PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $clone->data_dir);
chmod(0700, $clone->data_dir) or die "could not chmod: $!";
$clone->append_conf('postgresql.conf', 'port = ' . $clone->port);
$node->start;
$clone->start;
fenced($clone, 'J4', 'a copy of the files', 'copied');
is($clone->sql(q{SELECT detail ~ 'inode' FROM angles.alerts WHERE fingerprint = 'fenced'}), 't',
	'J4: the alert shows what was compared');
$clone->restart;
state_is($clone, 'fenced', 'J4: still after a restart');
adopted($clone, 'J4');
$clone->restart;
state_is($clone, 'running', 'J4: adopted for good');
state_is($node, 'running', 'J4: the original never noticed');

# the same copy with an instance_id that is the original's is the original (containers)
is($clone->sql(q{SELECT angles.identity_parts() ? 'inode'}), 't', 'the inode is a part of the identity');
$clone->append_conf('postgresql.conf', "angles.instance_id = 'box'");
$clone->restart;
state_is($clone, 'fenced', 'a new instance_id is another server');
adopted($clone, 'instance_id');
is($clone->sql(q{SELECT angles.identity_parts() ? 'inode'}), 'f', 'instance_id takes the place of the inode');
$clone->stop;
my $moved = AnglesTest::Cluster->new('moved');
File::Path::make_path($moved->basedir) unless -d $moved->basedir;
PostgreSQL::Test::RecursiveCopy::copypath($clone->data_dir, $moved->data_dir);
chmod(0700, $moved->data_dir) or die "could not chmod: $!";
$moved->append_conf('postgresql.conf', 'port = ' . $moved->port);
$moved->start;
state_is($moved, 'running', 'the same instance_id on other files is not fenced');
$moved->stop;

# ---- J3: point-in-time recovery, in a place with the same identity ----

$node->append_conf('postgresql.conf', "angles.instance_id = 'origin'");
$node->restart;
$node->sql('SELECT angles.adopt()');
state_is($node, 'running', 'the original has a name');
$node->backup('before');
$node->sql('CREATE TABLE later (a integer); SELECT pg_switch_wal()');
my $archived = $node->sql('SELECT pg_current_wal_lsn()');
$node->sql('CHECKPOINT; SELECT pg_switch_wal()');
$node->wait_sql("SELECT last_archived_wal >= pg_walfile_name('$archived') FROM pg_stat_archiver", 'archived');
$node->stop;

my $recovered = AnglesTest::Cluster->new('recovered');
$recovered->init_from_backup($node, 'before', has_restoring => 1, standby => 0);
$recovered->append_conf('postgresql.conf', "recovery_target_action = 'promote'");
$recovered->start;
$recovered->wait_sql('SELECT NOT pg_is_in_recovery()', 'the recovery ends');
is($recovered->sql("SELECT to_regclass('later') IS NOT NULL"), 't', 'J3: recovered from the archive');
is($recovered->sql('SELECT identity = angles.identity_now() FROM angles.identity'), 't',
	'J3: by name it is the same server');
fenced($recovered, 'J3', 'a recovered server', 'recovered');
# a database that no bridge saw before the next restart does not forget either
$recovered->sql('UPDATE angles.identity SET fence_reason = NULL, recovery_mark = \'\'');
$recovered->restart;
state_is($recovered, 'fenced', 'J3: the recovery is remembered across restarts');
adopted($recovered, 'J3');
$recovered->restart;
state_is($recovered, 'running', 'J3: adopted for good');

# ---- J5: a dump restored elsewhere brings links of another server ----

my $dump = $recovered->basedir . '/dump.sql';
run_log([ 'pg_dump', '-d', $recovered->connstr('postgres'), '-f', $dump ]);
$recovered->sql('CREATE DATABASE restored');
run_log([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $recovered->connstr('restored'), '-f', $dump ])
  or fail('the dump can be restored');
is($recovered->sql('SELECT count(*) FROM angles.links', 'restored'), 1, 'J5: the link came with the dump');
# the bridge came with CREATE EXTENSION, before the links: the sweep finds them
$recovered->configure('angles.sweep_interval' => '1s');
$recovered->wait_sql("SELECT state = 'fenced' FROM angles.workers WHERE database = 'restored'",
	'J5: a database with links of another server is fenced');
$recovered->sql('SELECT angles.adopt()', 'restored');
$recovered->wait_sql("SELECT state = 'running' FROM angles.workers WHERE database = 'restored'",
	'J5: adopt() opens it');
is($recovered->sql('SELECT count(*) FROM angles.links WHERE state <> \'active\' AND identity = angles.identity_now()', 'restored'), 1,
	'J5: its links are compared in full before anything is sent');

done_testing();
