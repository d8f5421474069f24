# 323_outages.pl
#	Scenarios H: limits, faults of the remote, a token that is taken away, a backlog. Nothing is lost,
#	nothing is made twice, and the worker stays the same process.
use strict;
use warnings;

use JSON::PP ();
use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator(args => [ '--state', "$PostgreSQL::Test::Utils::tmp_check/outage.journal" ]);
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.notion_verify_window' => '1s', 'angles.http_timeout' => '2s' });

$node->sql(q{
	CREATE TABLE t (id int PRIMARY KEY, title text, n int);
	CREATE TABLE u (id int PRIMARY KEY, title text, n int);
	INSERT INTO t SELECT g, 'row', g FROM generate_series(1, 30) g;
	INSERT INTO u SELECT g, 'row', g FROM generate_series(1, 30) g});
link_table($node, 't');
link_table($node, 'u');

my $next = 1000;

# Tests that both tables are in Notion as they are here, each row once.
sub in_step
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	drained($node, 60);
	foreach my $table ('t', 'u')
	{
		is(join(' ', sort map { "$_->{id}:$_->{n}" } pages($node, $sim, $table)),
			join(' ', sort split(/\n/, $node->sql("SELECT id || ':' || n FROM $table"))),
			"$name: $table is in step");
	}
}

# H1
{
	$sim->faults({ path => '^/v1/', count => 1, action => '429', retry_after => 3 });
	my $seen = $sim->requests;
	$node->sql('UPDATE t SET n = n + 1 WHERE id = 1');
	wait_for(sub { $sim->requests($seen) >= 1 }, 'H1: the limit is met');
	$node->sql('UPDATE u SET n = n + 1');
	$node->sql("INSERT INTO t VALUES ($next, 'new', 1)");
	drained($node, 60);
	my @r = sort { $a->{t_us} <=> $b->{t_us} } $sim->requests($seen);
	is($r[0]{status}, 429, 'H1: the first request is refused');
	cmp_ok($r[1]{t_us} - $r[0]{t_us}, '>=', 2_900_000, 'H1: no request of any table before Retry-After');
	in_step('H1');
	is($node->sql("SELECT count(*) FROM angles.parked"), 0, 'H1: nothing is parked');
	# attempts are seen while the entry waits
	$sim->faults({ path => '^/v1/pages', count => 1, action => '429', retry_after => 2 });
	$seen = $sim->requests;
	$node->sql('UPDATE t SET n = n + 1 WHERE id = 2');
	wait_for(sub { $sim->requests($seen) >= 1 }, 'H1: again');
	is($node->sql("SELECT max(attempts) FROM angles.queue"), 0, 'H1: no attempt is burned');
	in_step('H1: again');
}

# H3: each fault strikes a create and an update
foreach my $fault (
	[ '409', '409' ], [ '500', '500' ], [ '502 with HTML', '502html' ], [ '503', '503' ], [ '504', '504' ],
	[ '529', '529', retry_after => 1 ], [ '200 with HTML', 'html200' ], [ 'a truncated answer', 'truncate', bytes => 40 ],
	[ 'a reset before', 'reset_before' ], [ 'a reset after', 'reset_after' ],
	[ 'a 504 that was carried out', '504', commit => JSON::PP::true() ],
	[ 'a stall beyond the timeout', 'stall', ms => 4000 ])
{
	my ($name, $action, @more) = @$fault;
	my ($pid) = $node->worker_pids('sync');
	my $before = $sim->ledger;
	$next++;
	$sim->faults({ method => $_, path => '^/v1/pages', count => 1, action => $action, @more }) foreach 'POST', 'PATCH';
	$node->sql("BEGIN; INSERT INTO t VALUES ($next, 'new', 1); UPDATE t SET n = n + 1 WHERE id = 3; COMMIT");
	in_step("H3: $name");
	is(scalar(grep { $_->{committed} } creates($sim, $before)), 1, "H3: $name: one create took effect");
	is($node->sql('SELECT count(*) FROM angles.parked'), 0, "H3: $name: nothing is parked");
	is(($node->worker_pids('sync'))[0], $pid, "H3: $name: the worker lives") if $pid;
	$sim->clear_faults;
}

# H3: nobody listens
{
	my ($pid) = $node->worker_pids('sync');
	my $before = $sim->state;
	$sim->stop;
	$node->sql("INSERT INTO t SELECT 2000 + g, 'outage', g FROM generate_series(1, 20) g");
	$node->sql('UPDATE t SET n = n + 1');
	$node->wait_sql('SELECT max(attempts) > 0 FROM angles.queue', 'H3: connections are refused');
	my @why = $node->rows("SELECT DISTINCT class FROM angles.queue WHERE state = 'retry'");
	is($why[0][0], 'transient', 'H3: which is a transient failure');
	$sim->restart;
	in_step('H3: an outage');
	is(($node->worker_pids('sync'))[0], $pid, 'H3: an outage: the worker lives') if $pid;
}

# H4
{
	my $good = $sim->token;
	$sim->call('POST', '/_sim/tokens', { token => $good, revoked => JSON::PP::true() });
	my $seen = $sim->requests;
	$node->sql('UPDATE t SET n = n + 1');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL",
		'H4: a token that is refused is an alert');
	my $asked = $sim->requests($seen);
	$node->sql('UPDATE u SET n = n + 1');
	$node->wait_sql("SELECT count(DISTINCT key) >= 30 FROM angles.queue WHERE \"table\" = 'u'::regclass",
		'H4: changes are kept in the queue');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'notion_token'"), 1, 'H4: one alert');
	# requests that were under way together are refused together, and no more follow
	cmp_ok(scalar($sim->requests($seen)), '<=', 64, 'H4: no more requests with that token');
	$node->sql("SELECT angles.pause('u')");
	$node->sql("SELECT angles.resume('u')");
	is($node->sql("SELECT count(*) FROM angles.parked"), 0, 'H4: nothing is parked');
	$node->configure('angles.notion_token' => 'ntn_another_token');
	$sim->{token} = 'ntn_another_token';
	in_step('H4: a new token');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL"), 0,
		'H4: the alert is closed');
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE fingerprint = 'notion_token'"), 1, 'H4: it was one');
	$sim->call('POST', '/_sim/tokens', { token => $good, revoked => JSON::PP::false() });
	$sim->{token} = $good;
	$node->configure('angles.notion_token' => $good);
	$node->sql('UPDATE u SET n = n + 1');
	in_step('H4: the old token again');
}

# H5
{
	$node->sql("CREATE TABLE big (id int PRIMARY KEY, title text, n int);
		INSERT INTO big SELECT g, 'row', g FROM generate_series(1, 600) g");
	$node->configure('angles.notion_rate_limit' => 600);
	my $before = $sim->ledger;
	$node->sql("SELECT count(*) FROM angles.link('big')");
	wait_for(sub { scalar(creates($sim, $before)) >= 20 }, 'H5: a backlog is being sent', 60);
	$node->sql("UPDATE t SET n = 5000 WHERE id = 5");
	my $at = scalar(creates($sim, $before));
	wait_for(sub { grep { $_->{method} eq 'PATCH' } writes($sim, $before) }, 'H5: an edit is sent', 60);
	my @w = writes($sim, $before);
	my ($place) = grep { $w[$_]{method} eq 'PATCH' } 0 .. $#w;
	cmp_ok($place, '<', 300, "H5: an edit made after $at creates overtakes the backlog of 600");
	cmp_ok($place - $at, '<=', 40, 'H5: at once');
	$node->sql("UPDATE big SET n = 6000 WHERE id = 599");
	wait_for(sub { grep { $_->{method} eq 'POST' && JSON::PP->new->encode($_->{body}{properties}) =~ /6000/ } creates($sim, $before) },
		'H5: an edit of a row of the backlog is sent', 60);
	@w = creates($sim, $before);
	cmp_ok(scalar @w, '<', 400, 'H5: before its turn');
	$node->configure('angles.notion_rate_limit' => 0);
	$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 'big'::regclass", 'H5: the backlog ends', 60);
	drained($node, 60);
	my @keys = map { $_->{id} } pages($node, $sim, 'big');
	is(scalar @keys, 600, 'H5: all rows are pages');
	my %once = map { $_ => 1 } @keys;
	is(scalar(keys %once), 600, 'H5: once each');
}

# H6
{
	my $other = start_simulator();
	my $seen = $sim->requests;
	foreach my $status (301, 302, 307, 308)
	{
		$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 1, action => 'redirect',
			status => $status, url => $other->url . '/v1/pages/x' });
		my $n = $sim->requests;
		$node->sql('UPDATE t SET n = n + 1 WHERE id = 6');
		wait_for(sub { grep { ($_->{fault} // '') } $sim->requests($n) }, "H6: $status is answered", 120);
		$sim->clear_faults;
	}
	$node->sql("SELECT angles.retry('t')");
	in_step('H6: after redirects');
	is(scalar($other->requests), 0, 'H6: no redirect to another host is followed, so no token goes there');
}

done_testing();
