# Rate windows, breakers and delays: the limit holds in any 60 s, for the whole cluster, over restarts
# and crashes; a pause stops everything (H1); the backlog leaves room for edits (H5).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib", "$FindBin::Bin/../net-peer";

use AnglesTest;
use NetPeer;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = net_cluster('rate');
my $file = $node->data_dir . '/angles/rate';
my $offset = 0;

# Moves the clock of angles for all sessions to come.
sub later
{
	my ($seconds) = @_;
	$offset += $seconds;
	$node->configure('angles.test_clock_offset' => "${offset}s");
}

sub take
{
	my ($token, $limit, $n, $backlog) = @_;
	return $node->sql(sprintf('SELECT nettest.rate_take(%d, %d, %s, %d)', $token, $limit,
		$backlog ? 'true' : 'false', $n // 1));
}

sub state_of
{
	my ($token) = @_;
	return $node->sql("SELECT nettest.rate_get($token)");
}

# Starts again with all windows empty.
sub fresh
{
	$node->stop('fast');
	unlink $file;
	$node->start;
}

subtest 'never more than the limit in any 60 s' => sub {
	my $runs = soak(60, 2000);
	for my $limit (1, 30, 180, 600, 2000)
	{
		my ($worst, $seen) = @{ ($node->rows(
			"SELECT max(worst_minute), min(seen) FROM generate_series(1, $runs) seed, LATERAL
			nettest.simulate(seed, $limit, 6, seed * $limit / 50.0, seed * $limit / 40, seed % 3 > 0)"))[0] };
		cmp_ok($worst, '<=', $limit, "limit $limit: $worst in the worst minute of $runs runs");
		cmp_ok($seen, '>', 0, 'and something was sent');
	}
};

subtest 'the window is used, and edits overtake the backlog (H5)' => sub {
	for my $limit (180, 600)
	{
		my ($used) = $node->sql("SELECT used FROM nettest.simulate(1, $limit, 60)");
		cmp_ok($used, '>=', 0.98, sprintf('%d: the backlog alone uses %.2f %%', $limit, $used * 100));
		my ($share, $longest) = @{ ($node->rows(
			"SELECT avg(used), max(longest_wait_us) FROM generate_series(1, 20) seed, LATERAL
			nettest.simulate(seed, $limit, 30, 5)"))[0] };
		cmp_ok($share, '>=', 0.98, sprintf('%d: with 5 edits a minute %.2f %%', $limit, $share * 100));
		cmp_ok($longest, '<', 2_000_000, sprintf('%d: an edit waits at most %d ms', $limit, $longest / 1000));
	}
};

subtest 'a backlog that begins has nothing to catch up with (H5)' => sub {
	fresh();
	later(61);
	is(take(1, 180, 1, 1), 0, 'the first goes at once');
	my $wait = take(1, 180, 1, 1);
	cmp_ok($wait, '>', 250_000, "the next as they are spread over the window, not at double speed: $wait us");
	cmp_ok($wait, '<=', 340_000, 'and not later');
};

subtest 'one window for the whole cluster' => sub {
	fresh();
	is(take(1, 180, 100), 0, '100 in one session');
	is(take(1, 180, 80), 0, '80 in another');
	my $wait = take(1, 180);
	cmp_ok($wait, '>', 50_000_000, 'the 181st waits');
	cmp_ok($wait, '<=', 60_500_000, 'for the first to leave the window');
	is(state_of(1), 'known 180 0 0 ', 'everybody can see it');
	is(take(2, 180), 0, 'another token has its own');
	cmp_ok(take(1, 600), '==', 0, 'a raised limit counts at once');
	later(61);
	is(take(1, 180, 180), 0, 'a minute later all of it');
	is(take(3, 0, 2500), 0, 'no limit');
	cmp_ok(take(3, 600), '>', 0, 'but it was counted');
};

subtest 'a pause stops everything (H1)' => sub {
	later(61);
	$node->sql("SELECT nettest.rate_pause(1, 7, 'public_api_request_rate_limit')");
	is(state_of(1), 'known 0 0 7 public_api_request_rate_limit', 'and says why');
	for my $limit (0, 180)
	{
		for my $backlog (0, 1)
		{
			my $wait = take(1, $limit, 1, $backlog);
			ok($wait > 5_000_000 && $wait <= 7_000_000, "limit $limit, backlog $backlog: $wait us");
		}
	}
	$node->sql("SELECT nettest.rate_pause(1, 2, 'shorter')");
	is(state_of(1), 'known 0 0 7 public_api_request_rate_limit', 'a shorter one does not end it');
	is(take(2, 180), 0, 'other tokens go on');
	later(8);
	is(take(1, 180), 0, 'afterwards it goes on');
	$node->sql("SELECT nettest.rate_pause(1, 3600, 'public_api_request_blocked')");
	cmp_ok(take(1, 180), '>', 3_000_000_000, 'an hour');
	$node->sql('SELECT nettest.rate_resume(1)');
	is(take(1, 180), 0, 'taken back by a person');
};

subtest 'more tokens than places' => sub {
	fresh();
	is(take($_, 180), 0, "token $_") for 1 .. 16;
	cmp_ok(take(17, 180), '>', 0, 'the 17th has to wait');
	is(state_of(17), 'unknown 0 0 0 ', 'and has no window');
	$node->sql("SELECT nettest.rate_pause(5, 300, 'long')");
	later(61);
	is(take(17, 180), 0, 'until another is idle');
	is(take($_, 180), 0, "token $_") for 18 .. 31;
	cmp_ok(take(32, 180), '>', 0, 'a paused one keeps its place');
	like(state_of(5), qr/ long$/, 'and its pause');
};

subtest 'a clean restart' => sub {
	fresh();
	is(take(1, 180, 170), 0, '170 sent');
	$node->sql("SELECT nettest.rate_pause(2, 40, 'space')");
	$node->sql('SELECT nettest.rate_save()');
	$node->restart;
	is(state_of(1), 'known 170 0 0 ', 'is remembered');
	like(state_of(2), qr/^known 0 0 (39|40) space$/, 'pauses are, too');
	ok(!-e $file, 'the file is read once');
	is(take(1, 180, 10), 0, '10 more');
	cmp_ok(take(1, 180), '>', 0, 'and no more');
	$node->sql('SELECT nettest.rate_save()');
	$node->stop('fast');
	$offset += 30;
	$node->adjust_conf('postgresql.conf', 'angles.test_clock_offset', "'${offset}s'");
	$node->start;
	my $wait = take(1, 180);
	ok($wait > 20_000_000 && $wait < 31_000_000, "30 s of sleep count: $wait us left");
	$node->sql('SELECT nettest.rate_save()');
	$node->stop('fast');
	$offset -= 3600;
	$node->adjust_conf('postgresql.conf', 'angles.test_clock_offset', "'${offset}s'");
	$node->start;
	$wait = take(1, 180);
	ok($wait > 20_000_000 && $wait < 31_000_000, "a clock that went back does no harm: $wait us left");

	# nobody saved after the last grant
	later(61);
	is(take(1, 180), 0, 'one more');
	$node->restart;
	is(state_of(1), 'unknown 0 61 0 ', 'not saved: everything counts as full');
	cmp_ok(take(1, 180), '>', 55_000_000, 'for a minute');
	is(take(1, 0), 0, 'but not without a limit');
	later(61);
	is(take(1, 180, 170), 0, 'then it goes on');

	for my $damage ('', 'x' x 300, undef)
	{
		$node->sql('SELECT nettest.rate_save()');
		$node->stop('fast');
		my $good = slurp_file($file);
		my $bad = $damage // substr($good, 0, length($good) - 8);
		open(my $fh, '>', $file) or die "$file: $!";
		binmode $fh;
		print $fh $bad;
		close $fh;
		$node->start;
		like(state_of(1), qr/ 6[01] 0 $/, 'a damaged file of ' . length($bad) . ' bytes: full');
		later(61);
		is(take(1, 180, 100), 0, 'for a minute');
	}
	fresh();
	is(take(1, 180), 0, 'a server that never sent may send at once');
};

subtest 'after a crash' => sub {
	fresh();
	is(take(1, 180, 5), 0, 'five sent');
	$node->sql('SELECT nettest.rate_save()');
	my $pid = $node->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill('KILL', $pid);
	wait_for(sub { !kill(0, $pid) }, 'the process is dead');
	$node->wait_alive;
	like(wait_for(sub { state_of(1) }, 'the state is seen'), qr/^unknown 0 6[01] 0 $/,
		'of a process: everything counts as full');
	cmp_ok(take(1, 180), '>', 50_000_000, 'nothing may be sent');
	later(61);
	is(take(1, 180, 180), 0, 'for a minute');
	$node->crash;
	like(state_of(1), qr/^unknown 0 6[01] 0 $/, 'of the whole server: the same');
};

subtest 'breaker' => sub {
	my $do = sub { $node->sql("SELECT nettest.breaker($_[0], '$_[1]')") };
	$node->configure('angles.retry_initial' => '1s', 'angles.retry_cap' => '60s');
	is($do->(1, 'ask'), 0, 'unknown: go');
	is($do->(1, 'failure'), -$_, "$_ failures: closed") for 1 .. 4;
	is($do->(1, 'ask'), 0, 'go');
	is($do->(1, 'failure'), 5, 'five: open');
	my $wait = $do->(1, 'ask');
	ok($wait > 0 && $wait <= 2_000_000, "a first probe in $wait us");
	is($do->(2, 'ask'), 0, 'another remote goes on');
	later(3);
	is($do->(1, 'ask'), 0, 'then one probe');
	cmp_ok($do->(1, 'ask'), '>', 0, 'and only one');
	my ($before, $growing) = (0, 0);
	for my $probe (1 .. 8)
	{
		is($do->(1, 'failure'), 5 + $probe, "probe $probe fails");
		$wait = $do->(1, 'ask');
		ok($wait > 0 && $wait <= 60_000_000, "the next in $wait us");
		later(61);
		is($do->(1, 'ask'), 0, 'which is let through');
	}
	is($do->(1, 'success'), 0, 'an answer closes it');
	is($do->(1, 'ask'), 0, 'go');
	is($do->(1, 'failure'), -1, 'and failures are counted anew');
	$do->($_, 'failure') for 100 .. 140;
	is($do->(140, 'open'), -1, 'more remotes than places: the newest are kept');
};

subtest 'delays' => sub {
	my @of = $node->rows(
		'SELECT attempt, min(us), max(us), avg(us) FROM generate_series(1, 12) attempt, LATERAL
		(SELECT nettest.backoff(attempt, -1) AS us FROM generate_series(1, 2000)) d GROUP BY 1 ORDER BY 1');
	for my $row (@of)
	{
		my ($attempt, $min, $max, $avg) = @$row;
		my $ceiling = 1_000_000 * (2**($attempt - 1) < 60 ? 2**($attempt - 1) : 60);
		ok($max <= $ceiling && $max > 0.97 * $ceiling && $min < 0.03 * $ceiling
			  && abs($avg - $ceiling / 2) < 0.05 * $ceiling, "attempt $attempt: all of 0 .. $ceiling us");
	}
	is($node->sql('SELECT min(nettest.backoff(1, 17)) FROM generate_series(1, 100)'), 17_000_000,
		'what the remote says wins');
	cmp_ok($node->sql('SELECT nettest.backoff(2000000000, -1)'), '<=', 60_000_000, 'no overflow');
};

subtest 'not preloaded' => sub {
	my $bare = net_cluster('bare', undef);
	$bare->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
	$bare->restart;
	$bare->fails_with('SELECT nettest.rate_take(1, 180)', 'NG001', qr/shared_preload_libraries/,
		'no window without shared memory');
	is($bare->sql('SELECT nettest.rate_get(1)'), 'unknown 0 0 0 ', 'and nothing to see');
};

done_testing();
