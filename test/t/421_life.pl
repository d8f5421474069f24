# 421_life.pl
#	H2, H4, J8, K4: long outages, long queues, and a status that says so.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use PagesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim, conf => { 'angles.poll_interval' => '500ms', 'angles.retry_cap' => '60s' });
work_with($sim, $node);

sub worker_pid
{
	return $node->sql(q{SELECT sync_pid FROM angles.workers WHERE database = current_database()});
}

# Returns the memory of the sync worker that is its own, in MB.
sub own_memory
{
	my $pid = worker_pid() or return 0;
	open(my $f, '<', "/proc/$pid/status") or return 0;
	my ($anonymous) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$f>;
	close($f);
	return $anonymous / 1024;
}

# K4
{
	table('busy', 2000);
	my $pid = worker_pid();
	my $state = q{SELECT state FROM angles.status WHERE item = 'unsent changes'};
	is($node->sql($state), 'ok', 'K4: at rest the status is green');
	kill STOP => $pid or die;
	$node->sql("UPDATE busy SET n = 888 WHERE id = 8");
	is($node->sql($state), 'ok', 'K4: a change of now');
	$node->sql("UPDATE angles.change_log_$_ SET at = at - interval '61 s'") for 0 .. 3;
	is($node->sql($state), 'warning', 'K4: a worker that is stuck for 60 s is not green');
	$node->sql("UPDATE angles.change_log_$_ SET at = at - interval '10 min'") for 0 .. 3;
	is($node->sql($state), 'critical', 'K4: nor for ten minutes');
	kill CONT => $pid;
	drained($node);
	is($node->sql($state), 'ok', 'K4: until it goes on');
}

# H2: six hours (from here on the worker's clock is ahead) without Notion
{
	my $rows = 2000;
	my $before = $sim->ledger;
	my $rule = $sim->faults({ action => '503' });
	foreach my $hour (1 .. 6)
	{
		$node->sql("UPDATE busy SET n = n + 1") for 1 .. 8;
		$node->sql("UPDATE busy SET title = 'hour $hour of ' || id");
		$node->configure('angles.test_clock_offset' => ($hour * 3600) . 's');
	}
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded', 60);
	is($node->sql('SELECT count(*) FROM angles.queue'), $rows, 'H2: 108,000 changes are one entry for each row');
	my @tries = writes($sim, $before);
	is(scalar(grep { $_->{status} < 300 } @tries), 0, 'H2: nothing has arrived');
	cmp_ok(scalar(@tries), '<', 200, 'H2: and Notion was not pestered');
	cmp_ok($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL AND severity = 'critical'"), '<=', 2, 'H2: people are told, not flooded');
	$node->sql("UPDATE busy SET n = -1 WHERE id = 77");
	$sim->call('DELETE', '/_sim/faults');
	comes('(SELECT count(*) FROM angles.queue) = 0', 'H2: after the outage all is sent', 120);
	my @w = grep { $_->{status} < 300 } writes($sim, $before);
	is(scalar(@w), $rows, 'H2: each row once');
	my %page = map { @$_ } $node->rows("SELECT page_id, key FROM angles.pages");
	my ($at) = grep { ($page{ $w[$_]{page_id} // ($w[$_]{path} =~ m{([0-9a-f-]{36})$})[0] } // '') eq '77' } 0 .. $#w;
	cmp_ok($at, '<', 700, "H2: a person's edit does not wait for the backlog (number $at)");
	my %seen = map { $_->{id} => "$_->{title} $_->{n}" } pages($node, $sim, 'busy');
	is(join(' ', map { $seen{$_} } 1, 77, 2000), $node->sql("SELECT string_agg(title || ' ' || n, ' ' ORDER BY id) FROM busy WHERE id IN (1, 77, 2000)"),
		'H2: both sides are equal');
}

# H4: a token is revoked while edits come from there, and renewed
{
	my $good = $sim->token;
	$sim->call('POST', '/_sim/tokens', { token => $good, revoked => \1 });
	person('set', 'busy', 5, properties => { n => 555 });
	comes("EXISTS (SELECT FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL)", 'H4: a token that is refused: one alert');
	$node->sql("UPDATE busy SET n = 666 WHERE id = 6");
	is($node->sql("SELECT count(*) FROM angles.alerts WHERE closed_at IS NULL AND severity = 'critical'"), 1, 'H4: one');
	$node->configure('angles.notion_token' => 'ntn_another_token');
	$sim->{token} = 'ntn_another_token';
	comes("(SELECT n FROM busy WHERE id = 5) = 555", 'H4: with a good one edits from there arrive', 60);
	comes('(SELECT count(*) FROM angles.queue) = 0', 'H4: and those from here', 60);
	comes("NOT EXISTS (SELECT FROM angles.alerts WHERE fingerprint = 'notion_token' AND closed_at IS NULL)", 'H4: the alert is closed');
}

# J8
{
	my $rows = soak(100_000, 1_000_000);
	$node->sql("CREATE TABLE long (id int PRIMARY KEY, title text); INSERT INTO long VALUES (0, 'first')");
	link_table($node, 'long', q{title_column => 'title'});
	my $before = own_memory();
	$node->sql("SELECT angles.pause('long')");
	$node->sql("INSERT INTO long SELECT g, 'row ' || g FROM generate_series(1, $rows) g");
	$node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'folded', 300);
	is($node->sql("SELECT count(*) FROM angles.queue_entries"), $rows, "J8: $rows rows wait");
	$node->sql("UPDATE busy SET n = 777 WHERE id = 7");
	comes("NOT EXISTS (SELECT FROM angles.queue_entries q JOIN angles.links l ON l.id = q.link_id WHERE relid = 'busy'::regclass)",
		'J8: another table goes on beside them', 30);
	my $grown = own_memory() - $before;
	cmp_ok($grown, '<', 40, sprintf('J8: the worker takes %.1f MB more', $grown));
	$node->sql("SELECT angles.unlink('long')");
	comes("(SELECT count(*) FROM angles.queue_entries) = 0", 'J8: unlinked, they are gone', 120);
}

done_testing();
