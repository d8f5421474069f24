# limit.pl
#	How much of the limit is used while work is queued, at 180 and at 600 requests in 60 s, side by
#	side for three windows each. The simulators refuse whatever exceeds the limit in any 60 s.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use List::Util 'max';
use Test::More;

use AnglesTest;
use BenchTest;
use SyncTest;

use constant WINDOW_S => 60;
use constant WINDOWS => 3;

my (%sim, %node);
foreach my $limit (180, 600)
{
	$sim{$limit} = start_simulator(limits => { limit => $limit, window => 'sliding' });
	$node{$limit} = bench_node("limit$limit", $sim{$limit}, 'angles.notion_rate_limit' => $limit);
	$node{$limit}->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
	link_table($node{$limit}, 't');
	$node{$limit}->sql("INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, " . 7 * $limit . ') g');
}

# the first window fills after a start (see src/net): the three after it count
sleep_s(WINDOW_S * (WINDOWS + 1) + 5);

foreach my $limit (180, 600)
{
	ok($node{$limit}->sql('SELECT count(*) > 0 FROM angles.queue') eq 't', "$limit: work is queued still");
	# all of angles' requests, those of link() too
	my @requests = arrivals($sim{$limit});
	my @t = map { $_->{t_us} / 1e6 } @requests;
	my $end = $t[-1];
	my @steady = grep { $_ > $end - WINDOWS * WINDOW_S } @t;
	my ($most, $from) = (0, 0);
	foreach my $to (0 .. $#t)
	{
		$from++ while $t[$from] <= $t[$to] - WINDOW_S;
		$most = max($most, $to - $from + 1);
	}
	my $refused = grep { $_->{status} == 429 } @requests;
	my $used = @steady / (WINDOWS * $limit);
	note(sprintf('%d: %d requests in %d s, %d in the fullest %d s', $limit, scalar @steady, WINDOWS * WINDOW_S,
		$most, WINDOW_S));
	figure("limit $limit used", sprintf('%.1f %%, %d answers 429, at most %d in any 60 s', 100 * $used, $refused, $most),
		">= 98 %, none, never above $limit", $used >= 0.98 && $refused == 0 && $most <= $limit);
}
say_load('load after');
done_testing();
