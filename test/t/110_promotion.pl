# 110_promotion.pl
#	A standby is promoted (scenario J6) where that is not simple: a transaction holds a link,
#	or both servers have the same angles.instance_id.
use strict;
use warnings;

use File::Path ();
use Test::More;

use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();

# Returns a standby of a node that has caught up.
sub standby_of
{
	my ($node, $name, %conf) = @_;
	my $standby = AnglesTest::Cluster->new($name);

	$node->backup("for_$name");
	$standby->init_from_backup($node, "for_$name", has_streaming => 1);
	$standby->append_conf('postgresql.conf', "$_ = '$conf{$_}'") foreach keys %conf;
	$standby->start;
	$node->wait_for_catchup($standby);
	return $standby;
}

# ---- links that a transaction holds follow when it ends ----

my $one = new_cluster('one', sim => $sim, init => { allows_streaming => 1 },
	conf => { 'angles.sweep_interval' => '1h', max_prepared_transactions => 5 });
$one->sql('CREATE TABLE t (id int PRIMARY KEY, title text); CREATE TABLE b (id int PRIMARY KEY, title text)');
link_table($one, $_) foreach qw(t b);
# of all transactions these alone live through a promotion
$one->sql(qq{BEGIN; SELECT FROM angles.links WHERE relid = '$_'::regclass FOR UPDATE; PREPARE TRANSACTION 'holds $_'})
  foreach qw(t b);
my $two = standby_of($one, 'two');
$one->stop;
$two->promote;
$two->wait_sql("SELECT how = 'promoted' FROM angles.identity", 'J6: a held link does not keep the server from its identity');
$two->wait_sql("SELECT state = 'running' FROM angles.workers WHERE database = 'postgres'", 'J6: which is not fenced');
is($two->sql('SELECT count(*) FROM angles.links WHERE identity = angles.identity_now()'), 0, 'J6: no link has followed yet');
$two->sql("COMMIT PREPARED 'holds b'; INSERT INTO b VALUES (1, 'one'); INSERT INTO t VALUES (1, 'one')");
wait_for(sub { live_keys($two, $sim, 'b') eq '1' }, 'J6: the link that is free follows and sends');
is($two->sql("SELECT relid::regclass FROM angles.links WHERE identity <> angles.identity_now()"), 't', 'J6: the other one waits');
is($two->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'fenced'"), 0, 'J6: and is not taken for that of a dump');
$two->sql("COMMIT PREPARED 'holds t'");
wait_for(sub { live_keys($two, $sim, 't') eq '1' }, 'J6: it follows when it is free');
$two->wait_sql('SELECT bool_and(mark_epoch = 2) FROM angles.links', 'J6: both are marked with the new epoch');
is($two->sql('SELECT epoch FROM angles.identity'), 2, 'J6: there was one promotion');
$two->stop;

# ---- one angles.instance_id for both: the configuration was copied ----

sub description
{
	my ($node, $table) = @_;
	my $source = $node->sql("SELECT data_source_id FROM angles.links WHERE relid = '$table'::regclass");
	return join('', map { $_->{plain_text} } @{ $sim->call('GET', "/v1/data_sources/$source")->{description} });
}

sub fence
{
	my ($node) = @_;
	return $node->sql(q{SELECT COALESCE(fence_reason, 'none') FROM angles.identity});
}

sub identity
{
	my ($node) = @_;
	return $node->sql('SELECT how, epoch FROM angles.identity');
}

# Returns when the server's bridge has looked at the identity after a start.
sub settled
{
	my ($node, $words) = @_;
	return $node->wait_sql("SELECT state = 'running' FROM angles.workers WHERE database = 'postgres'", $words);
}

my $old = new_cluster('old', sim => $sim, init => { allows_streaming => 1 },
	conf => { 'angles.sweep_interval' => '1s', 'angles.retry_cap' => '300ms', 'angles.retry_initial' => '100ms',
		'angles.instance_id' => 'box', wal_log_hints => 'on', wal_keep_size => '256MB' });
$old->sql('CREATE TABLE t (id int PRIMARY KEY, title text); CREATE TABLE b (id int PRIMARY KEY, title text)');
link_table($old, $_) foreach qw(t b);
$old->restart;
settled($old, 'J6: a restart');
$old->crash;
settled($old, 'J6: a crash');
is(identity($old), 'created|1', 'J6: neither is a promotion');

my $new = standby_of($old, 'new');
is($new->sql('SELECT identity = angles.identity_now() FROM angles.identity'), 't', 'J6: the standby has the identity of its primary');
$new->promote;
$new->wait_sql("SELECT how = 'promoted' FROM angles.identity", 'J6: its promotion is seen all the same');
is(identity($new), 'promoted|2', 'J6: it has a higher epoch');
$new->wait_sql('SELECT bool_and(mark_epoch = 2) FROM angles.links', 'J6: and writes it where it has nothing to send');
$new->sql("INSERT INTO t VALUES (2, 'by the new primary')");
wait_for(sub { live_keys($new, $sim, 't') =~ /\b2\b/ }, 'J6: it sends');
wait_for(sub { $old->sql("INSERT INTO b VALUES (1, 'old') ON CONFLICT (id) DO UPDATE SET title = 'old ' || clock_timestamp()"); fence($old) eq 'superseded' },
	'J6: the old primary fences itself, though the mark names its own identity');
is(fence($new), 'none', 'J6: the new one does not');
$new->restart;
settled($new, 'J6: a restart after the promotion');
$new->crash;
settled($new, 'J6: a crash after the promotion');
is(identity($new), 'promoted|2', 'J6: neither is another one');

# ---- a person adopts the old one: both have reached the same epoch ----

$old->sql('SELECT angles.adopt()');
# in epoch 2 as the other one, until its worker has seen that mark and gone beyond it
cmp_ok($old->sql('SELECT epoch FROM angles.identity'), '>=', 2, 'J6: both are in epoch 2 now');
$old->wait_sql('SELECT bool_and(mark_epoch = 3) FROM angles.links', 'J6: the one that was adopted takes the marks over');
wait_for(sub { $new->sql("INSERT INTO t VALUES (3, 'x') ON CONFLICT (id) DO UPDATE SET title = 'x ' || clock_timestamp()"); fence($new) eq 'superseded' },
	'J6: and the other one sees that');
is(fence($old), 'none', 'J6: it goes on itself');

# ---- the other one is made its standby again, and promoted ----

$new->stop;
$old->sql("INSERT INTO b VALUES (7, 'while the other one was down'); CHECKPOINT");
drained($old);
$old->stop;
command_ok([ 'pg_rewind', '--target-pgdata', $new->data_dir, '--source-pgdata', $old->data_dir, '--no-sync' ],
	'J6: the other one is rewound');
$old->start;
$new->append_conf('postgresql.conf', 'port = ' . $new->port);
$new->enable_streaming($old);
$new->set_standby_mode;
$new->start;
$old->wait_for_catchup($new);
settled($old, 'J6: a standby of the same name harms nobody');
is(identity($old), 'adopted|3', 'J6: its primary is still the owner');
$old->stop;
$new->promote;
$new->wait_sql("SELECT how = 'promoted' AND fence_reason IS NULL FROM angles.identity", 'J6: a rewound server is promoted like any standby');
is(identity($new), 'promoted|4', 'J6: with its own epoch');
$new->sql("INSERT INTO b VALUES (8, 'rewound')");
wait_for(sub { live_keys($new, $sim, 'b') =~ /\b8\b/ }, 'J6: and sends');
like(description($new, 'b'), qr/epoch 4 of/, 'J6: under its mark');

# before a bridge could look at a promoted server it was started anew
$new->sql('UPDATE angles.identity SET timeline = timeline - 1');
$new->restart;
$new->wait_sql('SELECT epoch = 5 FROM angles.identity', 'J6: a promotion is seen after a restart, too');
is(fence($new), 'none', 'J6: and is no reason to fence');
$new->wait_sql('SELECT bool_and(mark_epoch = 5) FROM angles.links', 'J6: the marks follow');

# ---- its disk is set back ----

drained($new);
$new->stop;
my $kept = $new->basedir . '/kept';
PostgreSQL::Test::RecursiveCopy::copypath($new->data_dir, $kept);
$new->start;
$new->sql('SELECT angles.adopt()');
$new->wait_sql("SELECT bool_and(mark_epoch = 6 AND state = 'active') FROM angles.links", 'J6: it goes on in epoch 6');
$new->stop;
File::Path::remove_tree($new->data_dir);
rename($kept, $new->data_dir) or die "could not rename: $!";
chmod(0700, $new->data_dir) or die "could not chmod: $!";
$new->start;
is(identity($new) . fence($new), 'promoted|5none', 'J6: an earlier state of it knows nothing of that');
my $before = $sim->ledger;
$new->sql("INSERT INTO b VALUES (9, 'set back')");
wait_for(sub { fence($new) eq 'superseded' }, 'J6: it sees a higher epoch than it knows of, and fences itself');
is($sim->ledger, $before, 'J6: before it has sent anything');

done_testing();
