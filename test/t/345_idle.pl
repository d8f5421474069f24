# 345_idle.pl
#	A worker that can do nothing does nothing: without a token, with a paused link whose rows are due,
#	with a refused token. Measured in processor time, over a few seconds of the server's own clock.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim);

# Returns the clock ticks that the sync worker used while the server waited two seconds.
sub ticks_used
{
	my $pid = $node->wait_worker('sync');
	my $read = sub { my @f = split(/ /, slurp("/proc/$pid/stat")); return $f[13] + $f[14]; };
	my $before = $read->();

	$node->sql('SELECT pg_sleep(2)');	# lint: test-sleep: the time that is measured
	return $read->() - $before;
}

sub slurp
{
	open(my $file, '<', $_[0]) or die "$_[0]: $!";
	local $/;
	return <$file>;
}

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int); INSERT INTO t VALUES (1, $$a$$, 1)');
link_table($node, 't');
cmp_ok(ticks_used(), '<=', 2, 'A13: nothing to do');

$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 1000, action => 500 });
$node->sql('UPDATE t SET n = 2');
$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE state = 'retry'", 'H3: a row is to be tried again');
$node->sql("SELECT angles.pause('t')");
$node->wait_sql('SELECT next_at < now() FROM angles.queue', 'H3: and is due while its link is paused', 60);
cmp_ok(ticks_used(), '<=', 2, 'H3: which makes nobody busy');
$sim->clear_faults;
$node->sql("SELECT angles.resume('t')");
drained($node);

$node->configure('angles.notion_token' => 'bad');
$node->sql('UPDATE t SET n = 3');
$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL",
	'H4: a refused token is told');
cmp_ok(ticks_used(), '<=', 2, 'H4: and makes nobody busy');
$node->configure('angles.notion_token' => undef);
$node->sql('UPDATE t SET n = 4');
cmp_ok(ticks_used(), '<=', 2, 'H4: nor does none at all');
$node->configure('angles.notion_token' => $sim->token);
drained($node);
is((pages($node, $sim, 't'))[0]{n}, 4, 'H4: with a token all goes on');

done_testing();
