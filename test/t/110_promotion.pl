# 110_promotion.pl
#	A standby is promoted (scenario J6) where that is not simple: a transaction holds a link.
use strict;
use warnings;

use Test::More;

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

done_testing();
