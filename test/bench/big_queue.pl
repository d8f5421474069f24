# big_queue.pl
#	The sync worker with 1,000,000 queued rows: its memory above that of an idle backend, and how
#	long a claim takes at the beginning and the end of 400,000 sent rows; the second time while
#	another session keeps an old snapshot, so that nothing that is dead can be removed.
#
#	The times of claims come from auto_explain, which sees the statements of workers too.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use List::Util 'max';
use Test::More;

use AnglesTest;
use BenchTest;
use SyncTest;

use constant ROWS => 1000000;
use constant SENT => 400000;

my $sim = start_simulator(args => [ '--keep', 1000 ]);
my $node = bench_node('big', $sim, shared_preload_libraries => 'pg_cron,auto_explain,angles',
	'auto_explain.log_min_duration' => -1);

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
link_table($node, 't');
my $sync = $node->wait_worker('sync');
my $idle = $node->background_psql('postgres');
$idle->query_safe('SELECT 1');
my $idle_kb = anon_kb($idle->query_safe('SELECT pg_backend_pid()'));
my $most = 0;

# Returns when the sub is true; notes the worker's memory meanwhile.
sub watch
{
	my ($sub, $what) = @_;
	wait_for(sub { $most = max($most, anon_kb($sync)); $sub->() }, $what, 900);
}

$node->sql("SELECT angles.pause('t')");
my $begin = now_ms();
$node->sql("INSERT INTO t SELECT g, 'row ' || g, g FROM generate_series(1, @{[ROWS]}) g");
note(sprintf('%d rows inserted in %.1f s', ROWS, (now_ms() - $begin) / 1000));
watch(sub { $node->sql('SELECT count(*) = 0 FROM angles.change_log') eq 't' }, 'all is in the queue');
note(sprintf('and in the queue after %.1f s', (now_ms() - $begin) / 1000));
is($node->sql('SELECT count(*) FROM angles.queue_entries'), ROWS, 'the queue holds every row');
my $fold_kb = $most;

# Sends rows with the link's pause taken back for a while; returns the milliseconds of the claims in order.
sub claims
{
	my ($what) = @_;
	my $offset = $node->log_offset;
	my $left = $node->sql('SELECT count(*) FROM angles.queue_entries') - SENT;

	$node->configure('auto_explain.log_min_duration' => 0);
	my $start = now_ms();
	$node->sql("SELECT angles.resume('t')");
	watch(sub { $node->sql('SELECT count(*) FROM angles.queue_entries') <= $left }, "$what: @{[SENT]} rows are sent");
	my $seconds = (now_ms() - $start) / 1000;
	$node->sql("SELECT angles.pause('t')");
	$node->configure('auto_explain.log_min_duration' => -1);
	$node->wait_sql("SELECT count(*) = 0 FROM angles.queue_entries WHERE state = 'claimed'", "$what: at rest");

	# a claim looks for ready rows, then marks those that it takes, in parts
	my @ms;
	my ($looked, $took) = (0, 0);
	my $marked = 0;
	foreach my $line (split /\n/, $node->log_from($offset))
	{
		$took = $1 if $line =~ /duration: ([\d.]+) ms\s+plan:/;
		next unless $line =~ /Query Text: (.*)/;
		if ($1 =~ /FROM angles\.queue_entries\s+WHERE state = 'ready'/)
		{
			push @ms, $looked + $marked if $marked;
			($looked, $marked) = ($marked ? $took : $looked + $took, 0);
		}
		elsif ($1 =~ /UPDATE angles\.queue_entries SET state = 'claimed'/)
		{
			$marked += $took;
		}
	}
	note(sprintf('%s: %d claims, %.0f rows/s', $what, scalar @ms, SENT / $seconds));
	return @ms;
}

# Compares the claims of the first quarter with those of the last.
sub flat
{
	my ($what, @ms) = @_;
	cmp_ok(scalar @ms, '>=', 600, "$what: enough claims to compare");
	my $part = int(@ms / 4);
	my ($first, $last) = (quantile(0.99, @ms[ 0 .. $part - 1 ]), quantile(0.99, @ms[ -$part .. -1 ]));
	figure("claim p99 with 1,000,000 queued rows, $what", sprintf('%.2f ms at the beginning, %.2f ms at the end; p50 %.2f, %.2f ms',
		$first, $last, quantile(0.5, @ms[ 0 .. $part - 1 ]), quantile(0.5, @ms[ -$part .. -1 ])),
		'flat: <= 1.5x, or within 1 ms', $last <= 1.5 * $first || $last <= $first + 1);
}

flat('no old snapshot', claims('no old snapshot'));
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe('SELECT count(*) FROM pg_class');
flat('an old snapshot open', claims('an old snapshot open'));
$old->query_safe('COMMIT');
is($node->wait_worker('sync'), $sync, 'the same sync worker');

note(sprintf('the worker\'s own memory: %d kB at most (%d kB while it filled the queue); an idle backend: %d kB',
	$most, $fold_kb, $idle_kb));
figure('sync worker with 1,000,000 queued rows', sprintf('%.1f MB above an idle backend', ($most - $idle_kb) / 1024),
	'<= 64 MB', $most - $idle_kb <= 64 * 1024);
$_->quit foreach $idle, $old;
say_load('load after');
done_testing();
