# latency.pl
#	From COMMIT to the request's arrival: 1,000 single-row inserts, one at a time with a pause, so
#	that nothing else is under way; beside it a program that commits and then posts by itself.
#
#	Counted from the moment at which the client sends the statement: that is before the commit, so
#	the figure holds the commit too, for both. The simulator notes the arrival when it has read the
#	request's head; both programs read the same clock.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use JSON::PP;
use Test::More;

use AnglesTest;
use BenchTest;
use PostgreSQL::Test::Utils;
use SyncTest;

use constant COMMITS => 1000;
use constant PAUSE_US => 15000;

my $client = program('client', 'pq', 'curl');
my $sim = start_simulator();
my $node = bench_node('latency', $sim);
my $insert = q{INSERT INTO %s VALUES (%d + {n}, 'row %d' || {n}, {n})};

$node->sql("CREATE TABLE $_ (id int PRIMARY KEY, title text, n int)") foreach qw(linked bare);
link_table($node, 'linked');
$node->sql("INSERT INTO linked VALUES (777777, 'row 777777', 777777)");
drained($node);
my ($example) = creates($sim, 0);
my $body = template_body('latency', $example, 777777);

# Returns the lines that the client printed, as lists.
sub run_client
{
	my ($mode, @more) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $client, $mode, $node->connstr('postgres'), COMMITS, PAUSE_US, @more ],
		'>', \$out, '2>', \$err) or die "client $mode: $err";
	return map { [ split ' ' ] } split /\n/, $out;
}

my (%p50, %p99, %after);
my $backwards = 0;
foreach my $run (1 .. RUNS)
{
	foreach my $mode ($run % 2 ? qw(angles bare) : qw(bare angles))
	{
		forget($sim);
		my $first = $run * 100000;
		my @lines = $mode eq 'angles'
		  ? run_client('commits', sprintf($insert, 'linked', $first, $run))
		  : run_client('bare', sprintf($insert, 'bare', $first, $run), $sim->url . '/v1/pages',
			$sim->token, $body);
		drained($node);
		# once a minute angles also looks at its mark in Notion
		my @arrived = map { $_->{t_us} } grep { $_->{path} eq '/v1/pages' } arrivals($sim);
		is(scalar @arrived, COMMITS, "run $run, $mode: every commit made one request");
		my (@all, @behind);
		foreach my $i (0 .. $#lines)
		{
			my ($n, $sent, $committed, $answered) = @{ $lines[$i] };
			push @all, ($arrived[$i] - $sent) / 1000;
			push @behind, ($arrived[$i] - $committed) / 1000;
			$backwards++ if defined $answered && ($arrived[$i] < $committed || $arrived[$i] > $answered);
		}
		$p50{$mode}[$run - 1] = quantile(0.5, @all);
		$p99{$mode}[$run - 1] = quantile(0.99, @all);
		push @{ $after{$mode} }, quantile(0.5, @behind);
		note(sprintf('run %d, %-6s: p50 %.2f ms, p99 %.2f ms, max %.2f ms; behind the return of COMMIT p50 %.2f ms',
			$run, $mode, $p50{$mode}[-1], $p99{$mode}[-1], quantile(1, @all), $after{$mode}[-1]));
	}
}
cmp_ok($backwards, '<=', 0.001 * RUNS * COMMITS, 'client and simulator read the same clock');

my ($p50, $p99, $bare50, $bare99) =
  map { median(@$_) } $p50{angles}, $p99{angles}, $p50{bare}, $p99{bare};
figure('commit to request received', sprintf('p50 %.2f ms, p99 %.2f ms; bare p50 %.2f ms, p99 %.2f ms',
	$p50, $p99, $bare50, $bare99), 'p50 <= 5 ms; p99 <= 25 ms or <= 3x bare',
	$p50 <= 5 && ($p99 <= 25 || $p99 <= 3 * $bare99));
note(sprintf('behind the return of COMMIT to the client: angles p50 %.2f ms, bare p50 %.2f ms',
	median(@{ $after{angles} }), median(@{ $after{bare} })));
say_load('load after');
done_testing();
