# 430_drift.pl
#	Scenarios K1 to K3, D2: which rows differ from their pages, in which field, who changed it, and
#	what will become of it; told without a request, or by what Notion shows now.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
# nothing is asked by itself: what is known of Notion is what the test lets be known
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.poll_interval' => '1h', 'angles.notion_query_lag' => '0' });

$node->sql(q{CREATE TABLE t (id int PRIMARY KEY, title text NOT NULL, n int CHECK (n < 1000), note text,
	tags text[], secret text)});
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, g, 'note ' || g, '{a,b}' FROM generate_series(1, 20) g));
link_table($node, 't', q(filter => $$title <> 'private'$$));

# Returns the id of a row's page.
sub page_of
{
	my ($key) = @_;
	return $node->sql("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE key = '$key' AND l.relid = 't'::regclass");
}

# A person edits a row's page.
sub edit
{
	my ($key, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => page_of($key), properties => \%properties });
}

# Calls drift_notion() and returns a line for each difference of table t: key column class base local remote state.
sub drift
{
	my ($args, $columns) = @_;
	$columns //= q(key, "column", class, base, local, remote, state);
	return $node->sql("SELECT string_agg(concat_ws(' ', $columns), E'\\n')
		FROM angles.drift_notion('{t}'" . ($args ? ", $args" : '') . ')');
}

# Returns the requests that a sub caused.
sub requests_of
{
	my ($sub) = @_;
	my $before = $sim->requests;
	$sub->();
	return scalar $sim->requests($before);
}

# Lets writes to Notion fail while the sub runs.
sub while_unsent
{
	my ($sub) = @_;
	$sim->faults({ method => 'PATCH', path => '^/v1/pages', count => 100000, action => '503' });
	$sub->();
	$sim->call('DELETE', '/_sim/faults');
	drained($node);
	return;
}

is(drift(), '', 'drift: nothing differs');
my ($summary) = $node->rows('SELECT "table", half, fresh, complete IS NULL, compared, counts, left_out, measured_by
	FROM angles.drift_summary');
is(join(' ', @$summary[0 .. 6]), 't notion f t 20 {} 0', 'drift: and the summary says what was compared');

# the row was changed
while_unsent(sub {
	$node->sql("UPDATE t SET n = 42, note = 'ours' WHERE id = 1");
	$node->wait_sql("SELECT count(*) > 0 FROM angles.queue WHERE state = 'retry'", 'it cannot be sent');
	my $since = $node->sql("SELECT changed_at FROM angles.queue_entries");
	is(drift(), qq(1 n changed_here 1 42 1 queued\n1 note changed_here "note 1" "ours" "note 1" queued),
		'drift: a change of the row that is queued');
	is($node->sql("SELECT DISTINCT since FROM angles.drift"), $since, 'drift: since when');
	is($node->sql('SELECT count(DISTINCT measured_at) FROM angles.drift'), 1, 'drift: measured at');
});
is(drift(), '', 'drift: sent, nothing differs');

# a change that nobody captured
$node->sql("SET angles.sync = off; UPDATE t SET n = 43 WHERE id = 1");
is(drift(), '1 n changed_here 42 43 42 unseen', 'drift: a change that was not captured');
like(drift(undef, 'remark'), qr/angles\.reconcile\('public\.t'\)/, 'drift: and what to do');
$node->sql(q(SELECT angles.reconcile('t')));
compared($node, 't');
is(drift(), '', 'drift: that helped');

# Notion is not asked
{
	edit(2, n => 99);
	my $n = requests_of(sub { is(drift(), '', 'drift: what no question has shown is not known') });
	is($n, 0, 'K3: zero requests');
	$n = requests_of(sub {
		is(drift('fresh => true'), '2 n changed_in_notion 2 2 99 unseen', 'drift: fresh finds it') });
	is($n, 1, 'drift: with one request for 20 pages');
	my ($line) = $node->rows('SELECT fresh, complete FROM angles.drift_summary');
	is("@$line", 't t', 'drift: the summary says that it was fresh');
	is($node->sql('SELECT n FROM t WHERE id = 2'), 2, 'K3: and writes nothing into the row');
	is($node->sql('SELECT count(*) FROM angles.inbox'), 0, 'K3: nor into the inbox');
	is($node->sql("SELECT since IS NOT NULL AND remote_at > now() - interval '1 min' AND remote_by IS NOT NULL
		FROM angles.drift"), 't', 'drift: since when, by whom, known when');
	is(drift('NULL'), '', 'drift: null is not fresh');
	$node->sql('SELECT * FROM angles.sync_notion()');
	is($node->sql('SELECT n FROM t WHERE id = 2'), 99, 'drift: the sync takes it');
	is(drift('fresh => true'), '', 'drift: nothing differs');
}

# noted, and refused by the table
{
	edit(3, n => 5000);
	$node->sql('SELECT * FROM angles.sync_notion()');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", 'parked', 20);
	is(drift(), '3 n changed_in_notion 3 3 5000 parked', 'drift: a change in Notion that the table refuses');
	like(drift(undef, 'remark'), qr/t_n_check/, 'drift: with the reason');
	is(drift('fresh => true'), '3 n changed_in_notion 3 3 5000 parked', 'drift: the same when asked');
	edit(3, n => 3);
	$node->sql('SELECT * FROM angles.sync_notion()');
	is(drift(), '', 'drift: taken back');
}

# both sides
$node->sql("UPDATE angles.links SET conflict = 'manual' WHERE relid = 't'::regclass");
while_unsent(sub {
	$node->sql("UPDATE t SET n = 21 WHERE id = 4");
	edit(4, n => 31);
	is(drift('fresh => true'), '4 n both_changed 4 21 31 unseen', 'D2: both sides, before it is noted');
	like(drift('fresh => true', 'remark'), qr/question/, 'drift: nobody has asked');
	# an edit is believed when it is shown again, so one question is not enough
	$node->configure('angles.poll_interval' => '100ms');
	$node->sql('SELECT * FROM angles.sync_notion(wait => false)');
	$node->wait_sql('SELECT count(*) = 1 FROM angles.conflicts WHERE winner IS NULL', 'a conflict', 20);
});
$node->configure('angles.poll_interval' => '1h');
is(drift(), '4 n both_changed 4 21 31 conflict', 'D2: a conflict that waits');
is($node->sql('SELECT d.since = c.detected_at FROM angles.drift d, angles.conflicts c WHERE c.winner IS NULL'), 't',
	'drift: since it was found');
$node->sql(q(SELECT angles.resolve(id, 'notion') FROM angles.conflicts WHERE winner IS NULL));
$node->wait_sql('SELECT n = 31 FROM t WHERE id = 4', 'resolved');
drained($node);
is(drift(), '', 'drift: decided');
$node->sql("UPDATE angles.links SET conflict = 'newest' WHERE relid = 't'::regclass");

# a write whose answer was lost is no person's edit
$sim->faults([ { method => 'PATCH', path => '^/v1/pages', nth => 1, action => 'reset_after' },
	{ method => 'PATCH', path => '^/v1/pages', count => 100000, action => '503' } ]);
$node->sql('UPDATE t SET n = 201 WHERE id = 18');
wait_for(sub { $sim->call('GET', '/v1/pages/' . page_of(18))->{properties}{n}{number} == 201 }, 'it arrives', 20);
$node->sql('UPDATE t SET n = 202 WHERE id = 18');
is(drift('fresh => true'), '18 n changed_here 18 202 201 queued', 'drift: a write of ours is not taken for an edit');
$sim->call('DELETE', '/_sim/faults');
drained($node);

# queries that are behind: what was just written is not believed to be otherwise
$sim->call('POST', '/_sim/lag', { ms => 600000 });
$node->configure('angles.notion_query_lag' => '60s');
$node->sql("UPDATE t SET n = 203 WHERE id = 18; INSERT INTO t (id, title) VALUES (40, 'new')");
drained($node);
is(drift('fresh => true'), '', 'drift: a query that is behind shows no drift');
$node->configure('angles.notion_query_lag' => '0');
is(drift('fresh => true', 'key, class'), "18 changed_in_notion\n40 missing_page", 'drift: unless it is said not to be behind');
$sim->call('POST', '/_sim/lag', { ms => 0 });

# the same value in two forms
$node->sql("UPDATE t SET tags = '{A}' WHERE id = 5");
drained($node);
is(drift(), '5 tags representation ["a"] ["A"] ["a"] none', 'drift: the same in another form');
is(drift('fresh => true'), '5 tags representation ["a"] ["A"] ["a"] none', 'drift: also when asked');
$node->sql("UPDATE t SET tags = '{a}' WHERE id = 5");
drained($node);

# rows without a page
$node->sql(q(SELECT angles.pause('t', 'lunch')));
$node->sql("INSERT INTO t (id, title) VALUES (50, 'paused')");
$node->sql("SET angles.sync = off; INSERT INTO t (id, title) VALUES (51, 'unseen')");
is(drift(undef, q(key, class, local->>'title', state, remark)), "50 missing_page paused paused lunch\n"
		. '51 missing_page unseen paused lunch', 'drift: rows without a page, paused');
$node->sql(q(SELECT angles.resume('t')));
drained($node);
is(drift(undef, q(key, class, local->>'title', local->>'tags', state)), '51 missing_page unseen [] unseen',
	'drift: a row that nobody saw');
$node->sql('DELETE FROM t WHERE id = 51');

# pages without a row
$node->sql('SET angles.sync = off; DELETE FROM t WHERE id = 6');
is(drift(undef, q(key, class, remote->>'title', state)), '6 missing_row row 6 unseen', 'drift: a page without a row');
$node->sql("SELECT angles.alter_link('t', on_local_delete => 'hold')");
compared($node, 't');
$node->sql('DELETE FROM t WHERE id = 7');
$node->wait_sql("SELECT count(*) = 2 FROM angles.queue WHERE state = 'held'", 'held');
is(drift(undef, q(key, class, state)), "6 missing_row held\n7 missing_row held", 'drift: deletions that wait');
my @left = (page_of(6), page_of(7));
$node->sql("SELECT angles.refuse('t')");
$node->wait_sql("SELECT count(*) = 0 FROM angles.queue", 'refused');
is(drift(undef, q(key, class, state)), '', 'drift: pages that stay are nobody\'s');
is($node->sql(q(SELECT string_agg(concat_ws(' ', class, remote->>'id', state), '; ' ORDER BY remote->>'id')
	FROM angles.drift_notion('{t}', true))), '', 'drift: also when Notion is asked');
$sim->call('POST', '/_sim/edit', { op => 'trash', page_id => $_ }) foreach @left;

# out of the filter
$node->sql("UPDATE t SET title = 'private' WHERE id = 8");
drained($node);
is(drift(undef, q(key, class, state)), '8 out_of_scope none', 'drift: a row that left the filter')
	or diag($node->sql('TABLE angles.drift'));
$node->sql("UPDATE t SET title = 'row 8' WHERE id = 8");
drained($node);

# values that cannot be held, rows that cannot be read
$node->sql(q(UPDATE t SET tags = (SELECT array_agg('t' || g) FROM generate_series(1, 101) g) WHERE id = 9));
$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", 'parked');
is(drift(undef, q(key, "column", class, base, state)), '9 tags unreadable ["a", "b"] parked',
	'drift: a value that Notion cannot hold');
like(drift(undef, 'remark'), qr/100/, 'drift: and why');
$node->sql(q(UPDATE t SET tags = '{a,b}' WHERE id = 9));
drained($node);
$node->sql(q(SELECT angles.alter_link('t', filter => $$100 / COALESCE(n, 1) < 1000 AND title <> 'private'$$)));
compared($node, 't');
$node->sql('UPDATE t SET n = 0 WHERE id = 10');
$node->wait_sql("SELECT count(*) = 1 FROM angles.parked", 'parked');
is(drift(undef, q(key, "column", class, state)), '10 unreadable parked', 'drift: a row that cannot be read');
like(drift(undef, 'remark'), qr/division by zero/, 'drift: and why');
$node->sql(q(SELECT angles.alter_link('t', filter => $$title <> 'private'$$)));
compared($node, 't');
$node->sql(q(SELECT angles.retry('t')));
drained($node);
is(drift('fresh => true'), '', 'drift: nothing differs') or diag($node->sql('TABLE angles.queue'));

# what only Notion knows
{
	my $source = $node->sql("SELECT data_source_id FROM angles.links WHERE relid = 't'::regclass");
	my $gone = page_of(11);
	$sim->call('POST', '/_sim/edit', { op => 'trash', page_id => $gone });
	$sim->call('POST', '/_sim/edit', { op => 'add', data_source => $source, properties => { title => 'by hand' } });
	$sim->call('POST', '/_sim/edit', { op => 'duplicate', page_id => page_of(12) });
	is(drift(), '', 'drift: nobody has seen them');
	my $found = $node->sql(q(SELECT string_agg(concat_ws(' ', key, class, COALESCE(remote->>'title', local->>'title'), state),
		'; ' ORDER BY key, remote->>'title') FROM angles.drift_notion('{t}', true)));
	is($found, '11 missing_page row 11 unseen; missing_row by hand unseen; missing_row row 12 unseen',
		'drift: a page in the trash, one made by hand, one that was copied');
	my $alone = $node->sql("SELECT page_id FROM angles.drift WHERE class = 'missing_row'");
	is($node->sql("SELECT remark FROM angles.drift WHERE remote->>'title' = 'row 12'"),
		'it carries the key of row 12, which has another page', 'drift: the copy names its row');
	# a listing that is cut says nothing about what it does not show, and goes on from minute to minute
	$sim->call('POST', '/_sim/settings', { query_cap => 7 });
	$found = $node->sql(q(SELECT count(*) FILTER (WHERE class = 'missing_page') FROM angles.drift_notion('{t}', true)));
	is($found, 0, 'drift: where Notion does not show all, absence proves nothing');
	is($node->sql("SELECT complete FROM angles.drift_summary"), 'f', 'drift: and the summary says so');
	for my $key (12 .. 17)
	{
		$sim->call('POST', '/_sim/clock', { advance => 61000 });
		edit($key, note => "later $key");
	}
	$sim->call('POST', '/_sim/settings', { query_cap => 18 });
	$found = $node->sql(q(SELECT count(*) FILTER (WHERE class = 'missing_page') FROM angles.drift_notion('{t}', true)));
	is($found, 1, 'drift: more pages than a query shows are read in parts') or diag($node->sql('TABLE angles.drift'));
	is($node->sql("SELECT complete FROM angles.drift_summary"), 't', 'drift: all of them');
	$sim->call('POST', '/_sim/settings', { query_cap => undef });
	$sim->call('POST', '/_sim/edit', { op => 'restore', page_id => $gone });
	$sim->call('POST', '/_sim/edit', { op => 'trash', page_id => $_ }) foreach split /\n/, $alone;
	$node->sql('SELECT * FROM angles.sync_notion()');
}

# states of pages that this file knows nothing of
$node->sql('ALTER TABLE angles.pages DROP CONSTRAINT pages_state_check');
$node->sql("UPDATE angles.pages SET state = 'odd' WHERE key = '13'");
is(drift(undef, 'key, class'), '13 page_odd', 'drift: a state of a page that is new has a class of its own');
$node->sql("UPDATE angles.pages SET state = 'live' WHERE key = '13'");

# relations
{
	$node->sql('CREATE TABLE c (id int PRIMARY KEY, title text, t_id int REFERENCES t)');
	$node->sql("INSERT INTO c VALUES (1, 'one', 14)");
	link_table($node, 'c');
	$node->sql(q(SELECT angles.pause('t')));
	$node->sql("INSERT INTO t (id, title) VALUES (60, 'parent')");
	$node->sql('UPDATE c SET t_id = 60 WHERE id = 1');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.queue WHERE state = 'waiting'", 'it waits');
	is($node->sql(q(SELECT concat_ws(' ', key, property, class, base IS NOT NULL, local IS NULL, state)
		FROM angles.drift_notion('{c}'))), '1 t_id changed_here t t waiting', 'drift: a row that references one without a page');
	$node->sql(q(SELECT angles.resume('t')));
	drained($node);
	is($node->sql("SELECT count(*) FROM angles.drift_notion('{c}', true)"), 0, 'drift: both have their pages');
}

# links that do not write
{
	$node->sql("UPDATE angles.links SET direction = 'out' WHERE relid = 't'::regclass");
	edit(15, n => 77);
	is(drift('fresh => true'), '15 n changed_in_notion 15 15 77 none', 'drift: direction out');
	$node->sql("UPDATE angles.links SET direction = 'both' WHERE relid = 't'::regclass");
	my $identity = $node->sql("SELECT identity FROM angles.links WHERE relid = 't'::regclass");
	$node->sql("UPDATE angles.links SET identity = 'another' WHERE relid = 't'::regclass");
	is(drift('fresh => true'), '15 n changed_in_notion 15 15 77 fenced', 'drift: a link of another server');
	$node->sql("UPDATE angles.links SET identity = '$identity' WHERE relid = 't'::regclass");
	edit(15, n => 15);
}

# who sees what
{
	$node->sql(q(CREATE ROLE op LOGIN IN ROLE angles_operator; CREATE ROLE looks LOGIN IN ROLE angles_viewer;
		CREATE ROLE clerk LOGIN IN ROLE angles_operator; GRANT SELECT (id, n) ON t TO clerk; CREATE ROLE nobody LOGIN));
	while_unsent(sub {
		$node->sql("UPDATE t SET n = 1, note = 'quiet' WHERE id = 16");
		my $show = q(SELECT string_agg(concat_ws(' ', key, "column", class, base, local, remote), '; ' ORDER BY property)
			FROM angles.drift_notion('{t}'));
		is($node->sql("SET ROLE op; $show"), '16 n changed_here; 16 note changed_here',
			'K1: values are for those who may read the table');
		is($node->sql("SET ROLE clerk; $show"), '16 n changed_here 16 1 16; 16 note changed_here', 'K1: or the column');
		is($node->sql('SET ROLE looks; SELECT count(*) FROM angles.drift'), 2, 'K1: a viewer sees what was found');
		is(($node->sql_error('SET ROLE looks; SELECT * FROM angles.drift_notion()'))[0], '42501', 'K1: and finds nothing anew');
		is(($node->sql_error('SET ROLE nobody; SELECT * FROM angles.drift'))[0], '42501', 'K1: others see nothing');
		is(($node->sql_error('SET ROLE op; SELECT * FROM angles.drift_fields'))[0], '42501', 'K1: nor behind the view');
		$node->sql('GRANT SELECT ON t TO op; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
			CREATE POLICY own ON t USING (true)');
		is($node->sql("SET ROLE op; $show"), '16 n changed_here; 16 note changed_here',
			'K2: row security hides values: it cannot be asked about a row of then');
		$node->sql('ALTER TABLE t DISABLE ROW LEVEL SECURITY');
		like($node->sql("SET ROLE op; $show"), qr/quiet/, 'K1: the table may be read: values');
	});
	is($node->sql("SELECT count(*) FILTER (WHERE result IS NOT NULL), count(*) > 0 FROM angles.runs WHERE task = 'list_pages'"),
		'0|t', 'K1: runs keep no values');
	for my $call (q(angles.request_rows('list_pages', '{}')), q(angles.enqueue_run('list_pages')))
	{
		is(($node->sql_error("SET ROLE op; SELECT * FROM $call"))[0], '22023', 'K1: nobody reads pages past the rights');
	}
	is(($node->sql_error(q(SET ROLE op; CALL angles.run('list_pages'))))[0], '22023', 'K1: nor by CALL');
	# as an operator, with hostile settings of his session
	is($node->sql(q(SET ROLE op; SET row_security = off; SET "DateStyle" = 'German'; SET extra_float_digits = 0;
		SET search_path = pg_temp; SELECT count(*) FROM angles.drift_notion())), 0, 'K1: settings of a session do not matter');
}

# a link whose properties Notion has not told of
$node->sql(q(SELECT angles.pause('t')));
$node->sql("CREATE TABLE ids AS SELECT property_name, property_id FROM angles.link_columns WHERE link_id = angles.linked('t');
	UPDATE angles.link_columns SET property_id = NULL WHERE link_id = angles.linked('t');
	UPDATE angles.links SET state = 'binding' WHERE relid = 't'::regclass; DELETE FROM angles.pages WHERE key = '20'");
is($node->sql(q(SELECT string_agg(DISTINCT concat_ws(' ', class, key, state), '; ') FROM angles.drift_notion('{t}', true))),
	'missing_page 20 paused; missing_row queued', 'drift: a link that is being set up');
$node->sql("UPDATE angles.link_columns c SET property_id = i.property_id FROM ids i
	WHERE link_id = angles.linked('t') AND c.property_name = i.property_name; DROP TABLE ids");
$node->sql(q(SELECT angles.resume('t')));
$node->wait_sql("SELECT state = 'active' FROM angles.links WHERE relid = 't'::regclass", 'bound again');
drained($node);
is(drift('fresh => true'), '', 'drift: it has found its pages');

# arguments
is(($node->sql_error("SELECT * FROM angles.drift_notion('{pg_class}')"))[0], 'NG101', 'drift: a table that is not linked');
is(($node->sql_error('SELECT * FROM angles.drift_notion(ARRAY[NULL]::regclass[])'))[0], '22004', 'drift: a null table');
is($node->sql("SELECT count(*) FROM angles.drift_notion('{}')"), 0, 'drift: no table');
is($node->sql('SELECT count(*) FROM angles.drift_notion(NULL, NULL)'), 0, 'drift: null is all tables, not fresh');
is($node->sql("SELECT count(*) FROM angles.drift_notion('{t,t}', true)"), 0, 'drift: a table twice');
is($node->sql('SELECT angles.measure_drift(NULL, true)'), '', 'drift: null inside');
is(($node->sql_error("BEGIN; SELECT * FROM angles.drift_notion('{t}', true)"))[0], 'NG006',
	'drift: Notion is not waited for inside a transaction');
is($node->sql("BEGIN; SELECT count(*) FROM angles.drift_notion('{t}'); COMMIT"), 0, 'drift: what is known can be told there');
is(($node->sql_error("SET default_transaction_read_only = on; SELECT * FROM angles.drift_notion('{t}')"))[0], '25006',
	'drift: the result is written');
edit(15, n => 78);
is($node->sql("SET default_transaction_isolation = 'repeatable read';
	SELECT count(*) FROM angles.drift_notion('{t}', true)"), 1, 'drift: an older snapshot sees what Notion shows');
edit(15, n => 15);

# waiting, and what ends it
{
	my $rule = $sim->faults({ method => 'POST', path => 'query', count => 1000, action => 'delay', ms => 3000, when => 'before' });
	is(($node->sql_error("SET angles.wait_max = '300ms'; SELECT * FROM angles.drift_notion('{t}', true)"))[0], 'NG005',
		'drift: it waits for angles.wait_max');
	is(($node->sql_error("SET statement_timeout = '300ms'; SELECT * FROM angles.drift_notion('{t}', true)"))[0], '57014',
		'drift: and can be cancelled');
	$node->wait_sql("SELECT count(*) = 0 FROM angles.runs WHERE state = 'running'", 'the runs end');
	is($node->sql("SELECT string_agg(DISTINCT state, ' ') FROM (SELECT state FROM angles.runs WHERE task = 'list_pages'
		ORDER BY id DESC LIMIT 2) r"), 'cancelled', 'drift: the runs were cancelled');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $runs = $node->sql('SELECT max(id) FROM angles.runs');
	$session->query_until(qr/asked/, "\\echo asked\nSELECT * FROM angles.drift_notion('{t}', true);\n");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.runs WHERE id > $runs AND state = 'running'", 'it is under way');
	$node->kill_worker('sync', 'TERM');
	$session->query('SELECT 1');
	like($session->{stderr}, qr/worker ended|cancel/, 'drift: the worker dies: the caller is told');
	$session->quit;
	$sim->call('DELETE', '/_sim/faults');
	is(drift('fresh => true'), '', 'drift: the next call works');
	$sim->faults({ method => 'POST', path => 'query', nth => 1, action => '503' });
	is(drift('fresh => true'), '', 'drift: a request that fails is sent again');
	$sim->faults({ method => 'POST', path => 'query', count => 1000, action => '404' });
	my ($state, $message) = $node->sql_error("SELECT * FROM angles.drift_notion('{t}', true)");
	is($state, 'NG201', 'drift: a data source that cannot be read');
	like($message, qr/check_notion/, 'drift: and what to do');
	$sim->call('DELETE', '/_sim/faults');
	# a person's cancel is not taken for a row that takes long
	$node->sql(q{CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(CASE WHEN current_setting(''statement_timeout'') = ''0'' THEN 0 ELSE 20 END); RETURN true; END'});
	$node->sql(q(SELECT angles.alter_link('c', filter => 'public.slow(id)')));
	compared($node, 'c');
	my $begin = now_ms();
	is(($node->sql_error("SET statement_timeout = '300ms'; SELECT * FROM angles.drift_notion('{c}')"))[0], '57014',
		'drift: reading rows can be cancelled');
	cmp_ok(now_ms() - $begin, '<', 5000 * slow_factor(), 'drift: at once');
	$node->sql(q(SELECT angles.alter_link('c', filter => '')));
	compared($node, 'c');
}

# one table that cannot be read keeps nobody from the others
{
	my $session = $node->background_psql('postgres');
	$session->query('BEGIN; LOCK TABLE c IN ACCESS EXCLUSIVE MODE');
	is($node->sql(q(SELECT string_agg(concat_ws(' ', "table", key, class), '; ') FROM angles.drift_notion())),
		'c unreadable', 'drift: a table that is being altered');
	$session->query('ROLLBACK');
	# an open transaction that has measured holds up no worker
	$session->query("BEGIN; SELECT count(*) FROM angles.drift_notion()");
	$node->sql("UPDATE t SET n = 5 WHERE id = 5");
	drained($node);
	is(($node->sql_error("SET lock_timeout = '100ms'; SELECT * FROM angles.drift_notion('{t}')"))[0], '55P03',
		'drift: other callers wait for it');
	$session->query('COMMIT');
	$session->quit;
	is($node->sql('SELECT count(*) FROM angles.drift_notion()'), 0, 'drift: nothing differs');
}

# not more is kept than people can read
{
	$node->sql('CREATE TABLE big (id int PRIMARY KEY, title text)');
	$node->sql("INSERT INTO big SELECT g, 'row ' || g FROM generate_series(1, 11000) g");
	$node->sql("BEGIN; SELECT count(*) FROM angles.link('big'); SELECT angles.pause('big'); COMMIT");
	is($node->sql("SELECT count(*) FROM angles.drift_notion('{big}') WHERE class = 'missing_page'"), 10000, 'drift: so many are kept');
	like($node->sql("SELECT remark FROM angles.drift WHERE class = 'left_out'"), qr/^1000 more/, 'drift: the others are counted');
	is($node->sql(q(SELECT counts FROM angles.drift_summary WHERE "table" = 'big'::regclass)), '{"missing_page": 11000}',
		'drift: by class');
	$node->sql("SELECT angles.unlink('big')");
	is($node->sql(q(SELECT count(*) FROM angles.drift WHERE "table" = 'big'::regclass)), 0, 'drift: what is unlinked is not shown');
	$node->sql('SELECT * FROM angles.drift_notion()');
	is($node->sql('SELECT count(*) FROM angles.drift_fields'), 0, 'drift: nor kept');
	$node->sql('DROP TABLE c');
	is($node->sql('SELECT class FROM angles.drift_notion()'), 'unreadable', 'drift: a table that was dropped');
}

# the extension goes while somebody waits for Notion
{
	$sim->faults({ method => 'POST', path => 'query', count => 1000, action => 'delay', ms => 8000, when => 'before' });
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $runs = $node->sql('SELECT max(id) FROM angles.runs');
	$session->query_until(qr/asked/, "\\echo asked\nSELECT * FROM angles.drift_notion('{t}', true);\n");
	$node->wait_sql("SELECT count(*) = 1 FROM angles.runs WHERE id > $runs AND state = 'running'", 'it is under way');
	my $begin = now_ms();
	$node->sql('DROP EXTENSION angles CASCADE');
	cmp_ok(now_ms() - $begin, '<', 20_000 * slow_factor(), 'J7: DROP EXTENSION comes to its end');
	$session->query('SELECT 1');
	like($session->{stderr}, qr/ERROR/, 'J7: the caller is told');
	$session->quit;
}

done_testing();
