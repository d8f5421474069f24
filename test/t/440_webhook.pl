# 440_webhook.pl
#	Scenarios C10 and K1: events that Notion sends to a front end make the worker ask at once: who sent
#	them is checked, twice counts once, order does not matter, forgeries are dropped and audited, and
#	no value is taken from them. The examples of README.md run here as they stand there.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use JSON::PP;
use Test::More;

use AnglesTest;
use SyncTest;

use PostgreSQL::Test::Utils;

my $token = 'secret_k1Webhook0123456789abcdef';
my $secrets = PostgreSQL::Test::Utils::tempdir();
my $readme = slurp_file(($ENV{ANGLES_TOP} || '.') . '/README.md');
my $sim = start_simulator();
# only webhooks bring a question during this test
my $node = new_cluster('main', sim => $sim, conf => {
	'angles.poll_interval' => '1h', 'log_statement' => 'none', 'log_min_messages' => 'debug1' });

$node->sql(q{
	CREATE ROLE web LOGIN; GRANT angles_webhook TO web;
	CREATE ROLE someone LOGIN;
	CREATE ROLE admin LOGIN; GRANT angles_admin TO admin;
	CREATE TABLE t (id int PRIMARY KEY, title text, n int);
	INSERT INTO t SELECT g, 'row ' || g, 0 FROM generate_series(1, 60) g});
link_table($node, 't');
my %page = map { @$_ } $node->rows('SELECT key, page_id FROM angles.pages');
my $source = $node->sql('SELECT data_source_id FROM angles.links');
my $database = $node->sql('SELECT database_id FROM angles.links');
my $serial = 0;

# Posts a body as a front end does; returns the status it shall answer with.
sub post
{
	my ($body, $signature) = @_;
	my $hex = unpack('H*', $body);
	$signature = defined $signature ? "'$signature'" : 'NULL';
	return $node->sql("SET ROLE web; SELECT angles.notion_webhook('\\x$hex', $signature)");
}

sub signature_of { my ($body, $key) = @_; return 'sha256=' . hmac_sha256_hex($body, $key // $token); }

# Returns the body of an event about a page.
sub event
{
	my ($type, $page, %other) = @_;
	$serial++;
	return encode_json({
		id => sprintf('367cba44-b6f3-4c92-81e7-%012d', $serial), timestamp => '2026-11-01T10:09:12.345Z',
		workspace_id => '8b2e0d5c-3c5a-4a1d-9b57-000000000001', workspace_name => 'W',
		subscription_id => '8b2e0d5c-3c5a-4a1d-9b57-000000000002',
		integration_id => '8b2e0d5c-3c5a-4a1d-9b57-000000000003', type => $type,
		authors => [ { id => '8b2e0d5c-3c5a-4a1d-9b57-000000000004', type => 'person' } ],
		attempt_number => 1, api_version => '2026-03-11', entity => { id => $page, type => 'page' },
		data => { parent => { id => $database, type => 'database', data_source_id => $source } }, %other });
}

sub post_event
{
	my ($body) = @_;
	return post($body, signature_of($body));
}

sub edit
{
	my ($key, $n) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page{$key}, properties => { n => $n } });
}

sub arrives
{
	my ($key, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->wait_sql("SELECT n = $n FROM t WHERE id = $key", $name, 20), $name);
}

# Returns the questions for changes since a number of requests.
sub questions
{
	my ($since) = @_;
	return grep { $_->{path} =~ m{/data_sources/.*/query} && ($_->{body} ? 1 : 1) } $sim->requests($since);
}

# Returns when the worker has taken what was posted.
sub taken
{
	return $node->wait_sql('SELECT count(*) = 0 FROM angles.change_log', 'the hints are taken');
}

# the first question, which a link asks by itself
wait_for(sub { questions(0) > 0 }, 'the link has asked once');
drained($node);

# ---- the handshake ----
{
	my $handshake = encode_json({ verification_token => $token });

	$node->fails_with('SET ROLE admin; SELECT angles.notion_webhook_expect()', 'NG007', qr/secrets_dir/,
		'without a directory for secrets nothing can be kept');
	is(post($handshake, undef), 401, 'C10: a handshake that nobody expects is refused');
	$node->configure('angles.secrets_dir' => "$secrets/none");
	$node->fails_with('SET ROLE admin; SELECT angles.notion_webhook_expect()', 'NG007', qr/none/,
		'a directory that cannot be written is told of at once');
	$node->configure('angles.secrets_dir' => $secrets);
	is(post($handshake, undef), 401, 'C10: and still refused');
	ok(!glob("$secrets/*"), 'C10: nothing was kept');
	$node->sql("SET ROLE admin; SELECT angles.notion_webhook_expect('1 microsecond')");
	is(post($handshake, undef), 401, 'C10: nor when it comes too late');
	foreach my $bad ("'0'", 'NULL', "'2 days'", "'10 min', '../x'", "'10 min', 'notion.token'", "'10 min', ''")
	{
		$node->fails_with("SET ROLE admin; SELECT angles.notion_webhook_expect($bad)", '22023', undef, "refused: $bad");
	}

	like($node->sql('SET ROLE admin; SELECT angles.notion_webhook_expect()'), qr/notion_webhook_token/,
		'who opens the handshake is told where the token will be');
	like($node->sql("SELECT state || detail FROM angles.status WHERE item = 'webhook'"), qr/warning.*until/,
		'and the status says that it is open');
	foreach my $bad ('{"verification_token": ""}', '{"verification_token": "short"}', '{"verification_token": 7}',
		'{"verification_token": "with space and more"}', '{"verification_token": "' . 'x' x 5000 . '"}',
		'{"verification_token": "secret_\u0000\u0000\u0000"}', '[]', '', "\xff\x00", '{' x 3000)
	{
		is(post($bad, undef), 401, 'C10: no token: ' . substr($bad, 0, 40) =~ s/[^ -~]/?/gr);
	}
	is(post($handshake, undef), 200, 'C10: the handshake is taken');
	is(slurp_file("$secrets/notion_webhook_token"), "$token\n", 'C10: into a file');
	is(sprintf('%o', (stat "$secrets/notion_webhook_token")[2] & 07777), '600', 'K1: that only the server reads');
	is(join(' ', map { s{.*/}{}r } glob("$secrets/{.[!.]*,*}")), 'notion_webhook_token', 'K1: and no other file is left');
	is(post($handshake, undef), 200, 'C10: sent again, the same token is right');
	is(post(encode_json({ verification_token => 'secret_of_an_attacker_0123' }), undef), 401,
		'C10: another one is not: the handshake was answered');
	is(slurp_file("$secrets/notion_webhook_token"), "$token\n", 'C10: the token stays');
	like($node->sql('SET ROLE admin; SELECT angles.notion_webhook_expect()'), qr/replace => true/,
		'a token that is there is replaced only on demand');
	is(post(encode_json({ verification_token => 'secret_of_an_attacker_0123' }), undef), 401, 'C10: and not before');
	is($node->sql("SELECT count(*) FROM angles.audit_log WHERE action = 'webhook_token'"), 1, 'the token is in the audit trail');
}

# ---- forged ----
{
	my $before = $sim->requests;
	my $body = event('page.properties_updated', $page{1});
	my $audited = sub { $node->sql("SELECT count(*) || ' ' || COALESCE(sum((detail->>'requests')::int), 0)
		FROM angles.audit_log WHERE action = 'webhook_refused'") };
	my $rows;

	$node->configure('angles.test_clock_offset' => 100);
	post($body, undef);
	$rows = $audited->();
	is(post($body, signature_of($body, 'secret_other')), 401, 'C10: a signature by another key');
	is(post($body, signature_of("$body ")), 401, 'C10: a signature of another body');
	is(post($body, undef), 401, 'C10: no signature');
	is(post($body, $_), 401, 'C10: ' . substr($_, 0, 30)) foreach '', 'sha256=', 'sha1=' . '0' x 40,
		'sha256=' . '0' x 64, signature_of($body) . '0', substr(signature_of($body), 0, -1), 'sha256=' . 'g' x 64,
		hmac_sha256_hex($body, $token), 'x' x 100000;
	post($body, 'sha256=' . '1' x 64) for 1 .. 20;
	is($audited->(), $rows, 'C10: a flood leaves nothing more in the audit trail within the minute');
	$node->configure('angles.test_clock_offset' => 200);
	is(post($body, 'sha256=' . '1' x 64), 401, 'C10: refused after the minute');
	my ($n, $sum) = split(/ /, $audited->());
	my ($n_before, $sum_before) = split(/ /, $rows);
	is($n - $n_before, 1, 'C10: it has one row for them');
	is($sum - $sum_before, 33, 'C10: with their number');
	is($node->sql('SELECT count(*) FROM angles.webhook_events'), 0, 'C10: no event was taken');
	is(scalar questions($before), 0, 'C10: and nothing was read');
	like($node->sql("SELECT state || ' ' || detail FROM angles.status WHERE item = 'webhook'"), qr/^warning.*refused/,
		'C10: the status says so');
	is($node->sql("SET ROLE web; SELECT angles.notion_webhook(NULL, NULL)"), 400, 'no body at all');
	is(post('x' x 1100000, signature_of('x')), 413, 'a body that is too large');
}

# ---- events ----
{
	my $before = $sim->requests;
	my $body = event('page.properties_updated', $page{1},
		data => { parent => { id => $database, type => 'database', data_source_id => $source },
			updated_properties => ['n'], properties => { n => { number => 666 } }, n => 666 });

	edit(1, 41);
	is(post_event($body), 200, 'C10: a true event');
	arrives(1, 41, 'C10: brings what Notion holds, not what it says itself');
	taken();
	is(scalar questions($before), 1, 'C10: with one question');
	is($node->sql("SELECT type || ' ' || attempt || ' ' || deliveries || ' ' || entity_id FROM angles.webhook_events"),
		"page.properties_updated 1 1 $page{1}", 'C10: it is noted');
	is(post($body, uc(signature_of($body)) =~ s/^SHA/sha/r), 200, 'C10: the same again');
	is(post_event($body), 200, 'C10: and again');
	is($node->sql('SELECT count(*) FROM angles.change_log'), 0, 'C10: marks nothing');
	is($node->sql('SELECT sum(deliveries) FROM angles.webhook_events'), 3, 'C10: is counted');
	is(scalar questions($before), 1, 'C10: and asks nothing');
	ok($node->sql("SELECT state = 'ok' FROM angles.status WHERE item = 'webhook'") eq 't', 'the status is good again');
}
{
	# the later one comes first
	my $first = event('page.properties_updated', $page{2}, timestamp => '2026-11-01T10:09:12.345Z');
	my $second = event('page.properties_updated', $page{2}, timestamp => '2026-11-01T10:09:13.345Z');

	edit(2, 1);
	edit(2, 2);
	is(post_event($second), 200, 'C10: out of order');
	is(post_event($first), 200, 'C10: the earlier one');
	arrives(2, 2, 'C10: the row has the last value');
	taken();
	is($node->sql('SELECT n FROM t WHERE id = 2'), 2, 'C10: and keeps it');
}
{
	my $before = $sim->requests;
	my $elsewhere = { parent => { id => '11111111-2222-4333-8444-555555555555', type => 'page' } };
	my $other = { parent => { id => '11111111-2222-4333-8444-555555555555', type => 'database',
		data_source_id => '11111111-2222-4333-8444-555555555556' } };
	my $unknown = '11111111-2222-4333-8444-666666666666';

	is(post_event(event('page.properties_updated', $unknown, data => $elsewhere)), 200, 'C10: an unknown page');
	is(post_event(event('page.created', $unknown, data => $other)), 200, 'C10: of an unknown data source');
	is(post_event(event('comment.created', $page{1}, entity => { id => $unknown, type => 'comment' })), 200, 'C10: a comment');
	is(post_event(event('page.locked', $page{1})), 200, 'C10: what changes no value');
	is(post_event(event('something.new', $page{1})), 200, 'C10: what nobody knows');
	is(post_event(event('page.properties_updated', 'no id', data => undef, entity => 7)), 200, 'C10: of no form');
	is($node->sql("SELECT count(*) FROM angles.webhook_events WHERE links = '{}'"), 6, 'C10: all are counted');
	is($node->sql('SELECT count(*) FROM angles.change_log'), 0, 'C10: none marks anything');
	is(scalar questions($before), 0, 'C10: nor is anything read');
	is(post_event($_), 400, 'C10: signed, but no event: ' . substr($_, 0, 20)) foreach '{}', 'no json', '[1]',
		'{"id": 1, "type": 2}', encode_json({ id => 'x' x 101, type => 'page.created' }), '', "\xff\xfe";
}
{
	# every way in which an event names its data source
	my @ways = (
		[ 'by its page alone', 'page.content_updated', $page{3}, data => {} ],
		[ 'by its data source', 'page.created', '11111111-2222-4333-8444-777777777777' ],
		[ 'by its database', 'page.created', '11111111-2222-4333-8444-777777777778',
			data => { parent => { id => $database, type => 'database' } } ],
		[ 'of the data source', 'data_source.schema_updated', undef, entity => { id => $source, type => 'data_source' }, data => {} ],
		[ 'of the database', 'database.moved', undef, entity => { id => $database, type => 'database' }, data => {} ],
		[ 'to the trash', 'page.deleted', $page{3} ], [ 'out of it', 'page.undeleted', $page{3} ],
		[ 'to another place', 'page.moved', $page{3}, data => { parent => { type => 'page', id => $database } } ]);

	foreach my $way (@ways)
	{
		my ($name, @args) = @$way;
		my $before = $sim->requests;

		is(post_event(event(@args)), 200, "C10: an event $name");
		wait_for(sub { questions($before) == 1 }, "C10: an event $name is asked for", 20);
	}
}

# a page that is trashed or put back, and the data source itself, show in no question for changes
{
	my $before = $sim->requests;
	my $lists = sub { scalar grep { $_->{path} =~ m{/data_sources/.*/query} && $_->{body}{sorts}
		&& $_->{body}{sorts}[0]{timestamp} eq 'created_time' } $sim->requests($before) };

	$sim->call('POST', '/_sim/edit', { op => 'trash', page_id => $page{50} });
	is(post_event(event('page.deleted', $page{50})), 200, 'C10: an event of a page in the trash');
	ok($node->wait_sql(q{SELECT count(*) = 1 FROM angles.held_deletes WHERE key = '50'}, 'held', 20),
		'C10: is looked into at once');
	is($lists->(), 0, 'C10: without a listing');
	$sim->call('POST', '/_sim/edit', { op => 'restore', page_id => $page{50} });
	is(post_event(event('page.undeleted', $page{50})), 200, 'C10: an event of a page out of the trash');
	ok($node->wait_sql(q{SELECT count(*) = 0 FROM angles.held_deletes}, 'not held', 20), 'C10: lets pages be listed');

	my $seen = $sim->call('POST', '/_sim/edit', { op => 'rename_property', data_source_id => $source, property => 'n', name => 'Number' });
	is(post_event(event('data_source.schema_updated', undef, entity => { id => $source, type => 'data_source' }, data => {})), 200,
		'C10: an event of the data source');
	ok($node->wait_sql(q{SELECT property_name = 'Number' FROM angles.link_columns WHERE attname = 'n'}, 'renamed', 20),
		'C10: lets its properties be read');
	$sim->call('POST', '/_sim/edit', { op => 'rename_property', data_source_id => $source, property => 'Number', name => 'n' });
	post_event(event('data_source.schema_updated', undef, entity => { id => $source, type => 'data_source' }, data => {}));
	ok($node->wait_sql(q{SELECT property_name = 'n' FROM angles.link_columns WHERE attname = 'n'}, 'back', 20), 'C10: each time');
}

# many events of one data source are one read, or a few
{
	$node->configure('angles.notion_rate_limit' => 600);
	my $before = $sim->requests;
	my $begun = now_ms();

	edit($_, 100 + $_) foreach 1 .. 40;
	post_event(event('page.properties_updated', $page{$_})) foreach 1 .. 40;
	arrives(40, 140, 'C10: a burst of events');
	$node->wait_sql('SELECT count(*) = 40 FROM t WHERE n = 100 + id', 'C10: brings all rows');
	my $seconds = (now_ms() - $begun) / 1000;
	# a fifth of the limit: one in half a second
	cmp_ok(scalar questions($before), '<=', 2 + 2 * $seconds, sprintf('C10: with few questions in %.1f s', $seconds));
	$node->configure('angles.notion_rate_limit' => 0);
}

# a query may be behind the event
{
	$node->configure('angles.notion_query_lag' => '1500ms');
	my $before = $sim->requests;

	post_event(event('page.properties_updated', $page{5}));
	# hints of before may bring a question of their own
	ok(wait_for(sub { my @asked = questions($before); @asked && $asked[-1]{t_us} - $asked[0]{t_us} >= 1400000 },
		'C10: it is asked once more after the lag', 20), 'C10: it is asked once more after the lag');
	cmp_ok(scalar questions($before), '<=', 3, 'C10: and not all the time');
	$node->configure('angles.notion_query_lag' => 0);
}

# ---- around it ----
{
	# nobody there: the hint waits as any change does
	$node->kill_worker('sync', 'TERM');
	edit(6, 606);
	is(post_event(event('page.properties_updated', $page{6})), 200, 'C10: taken while a worker is away');
	arrives(6, 606, 'C10: and answered when it is back');

	# rolled back: the next delivery counts
	my $body = event('page.properties_updated', $page{7});
	my ($hex, $signature) = (unpack('H*', $body), signature_of($body));
	edit(7, 707);
	is($node->sql("BEGIN; SELECT angles.notion_webhook('\\x$hex', '$signature'); ROLLBACK"), 200, 'C10: a transaction that is rolled back');
	is(post_event($body), 200, 'C10: is delivered again');
	arrives(7, 707, 'C10: and counts then');

	# what this server does not own it does not ask for
	$node->sql("BEGIN; UPDATE angles.links SET identity = 'other';
		SELECT angles.notion_webhook('\\x" . unpack('H*', $body = event('page.created', $page{7})) . "', '" . signature_of($body) . "');
		DO \$\$ BEGIN ASSERT NOT EXISTS (SELECT FROM angles.change_log); END \$\$; ROLLBACK");
	pass('C10: a fenced link is marked with nothing');
	$node->sql("SELECT angles.pause('t')");
	is(post_event(event('page.properties_updated', $page{8})), 200, 'C10: an event of a paused table');
	taken();
	$node->sql("SELECT angles.resume('t')");
	is($node->sql("SELECT count(*) FROM angles.queue"), 0, 'C10: no hint is taken for a change that waits');
}
{
	# kept for some days, and in bounds
	$node->sql(q{INSERT INTO angles.webhook_events (id, type, links, attempt, received_at)
		SELECT 'old ' || g, 'page.created', '{}', 1, now() - interval '8 days' FROM generate_series(1, 1500) g});
	$node->sql(q{INSERT INTO angles.webhook_events (id, type, links, attempt)
		SELECT 'new ' || g, 'page.created', '{}', 1 FROM generate_series(1, 500) g});
	my $kept = $node->sql("SELECT count(*) FROM angles.webhook_events WHERE id NOT LIKE 'old%'");
	$node->sql("SELECT setval('angles.webhook_events_n_seq', 2999)");
	post_event(event('comment.created', $page{1}));
	is($node->sql("SELECT count(*) FROM angles.webhook_events WHERE id LIKE 'old%'"), 0, 'old events go');
	is($node->sql('SELECT count(*) FROM angles.webhook_events'), $kept + 1, 'the others stay');
	$node->sql("SELECT setval('angles.webhook_events_n_seq', 200999)");
	post_event(event('comment.created', $page{1}));
	cmp_ok($node->sql('SELECT count(*) FROM angles.webhook_events'), '<=', 1, 'there are never more than so many');
}

# K1: rights, and the token
{
	my $body = event('page.properties_updated', $page{1});
	my $call = "SELECT angles.notion_webhook('\\x" . unpack('H*', $body) . "', '" . signature_of($body) . "')";

	foreach my $role ('someone', 'admin')
	{
		$node->fails_with("SET ROLE $role; $call", '42501', undef, "K1: $role may not post events");
	}
	foreach my $sql ('SELECT angles.notion_webhook_expect()', 'SELECT * FROM angles.webhook_events', 'SELECT * FROM angles.webhook',
		'SELECT * FROM angles.status', "SELECT angles.webhook_read('x', 'x', 'notion_webhook_token')",
		"SELECT angles.webhook_keep('x', 'notion_webhook_token', true)", 'SELECT angles.wake()',
		"SELECT angles.webhook_refused(true)", "SELECT angles.webhook_handshake('x')")
	{
		$node->fails_with("SET ROLE web; $sql", '42501', undef, "K1: the front end may not: $sql");
	}
	foreach my $relation (split(/\n/, $node->sql(q{SELECT c.oid::regclass FROM pg_class c
		WHERE relnamespace = 'angles'::regnamespace AND relkind IN ('r', 'v', 'm')})))
	{
		unlike($node->sql("SELECT x::text FROM $relation x"), qr/k1Webhook/, "K1: $relation");
	}
	my ($dump) = run_command([ $node->installed_command('pg_dump'), '-h', $node->host, '-p', $node->port, 'postgres' ]);
	like($dump, qr/CREATE EXTENSION.*angles/, 'K1: the dump has the extension');
	unlike($dump, qr/k1Webhook/, 'K1: a dump has no token');
	unlike($node->log_from(0), qr/k1Webhook/, 'K1: nor has the log');
}

# a file that cannot be read is the administrator's business, and nobody else's
{
	my $body = event('page.properties_updated', $page{1});
	my $offset = $node->log_offset;
	my ($out, $err) = ('', '');

	rename("$secrets/notion_webhook_token", "$secrets/aside") or die "could not rename: $!";
	mkdir "$secrets/notion_webhook_token" or die "could not make a directory: $!";
	$node->psql('postgres', "SELECT angles.notion_webhook('\\x" . unpack('H*', $body) . "', '" . signature_of($body) . "')",
		stdout => \$out, stderr => \$err);
	is($out, 401, 'C10: without a token nothing is believed');
	is($err, '', 'K1: and the front end is told no path');
	like($node->log_from($offset), qr/notion_webhook_token/, 'the log has it');
	rmdir "$secrets/notion_webhook_token" or die "could not remove: $!";
	rename("$secrets/aside", "$secrets/notion_webhook_token") or die "could not rename: $!";
}

# ---- PostgREST, as README.md says ----
{
	my ($sql) = $readme =~ /```sql\n([^`]*CREATE FUNCTION api\.notion_webhook.*?)```/s;
	my $body = event('page.properties_updated', $page{9}, note => 'ä');
	my $call = sub {
		my ($signature) = @_;
		return $node->sql("BEGIN; SET LOCAL ROLE anon;
			DO \$\$ BEGIN PERFORM set_config('request.headers', '{\"x-notion-signature\": \"$signature\"}', true); END \$\$;
			SELECT api.notion_webhook('$body'::json);
			SELECT current_setting('response.status'); COMMIT") =~ s/\s//gr;
	};

	ok($sql, 'README.md has an example for PostgREST');
	$node->sql('CREATE SCHEMA api; CREATE ROLE anon; GRANT USAGE ON SCHEMA api TO anon');
	$node->sql($sql);
	edit(9, 909);
	is($call->('sha256=' . '0' x 64), 401, 'C10: PostgREST answers a forgery with 401');
	is($call->(signature_of($body)), 200, 'C10: and an event with 200');
	arrives(9, 909, 'C10: through PostgREST');
}

# ---- any front end, as README.md says, and the simulator's own webhooks ----
{
	my ($js) = $readme =~ /```js\n(.*?)```/s;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	ok($js, 'README.md has an example of a front end');
	cmp_ok(scalar(split(/\n/, $js // '')), '<=', 15, 'of 15 lines');
	mkdir "$dir/node_modules";
	mkdir "$dir/node_modules/pg";
	# what npm's "pg" does for it, by way of psql
	append_to_file("$dir/node_modules/pg/index.js", <<'JS');
const { execFile } = require('child_process');
exports.Pool = class {
  query(text, [body, signature]) {
    const quoted = signature === null ? 'NULL' : `'${signature.replace(/'/g, "''")}'`;
    const sql = text.replace('$1', `'\\x${body.toString('hex')}'::bytea`).replace('$2', `${quoted}::text`);
    return new Promise((done, fail) => {
      execFile('psql', ['-XAtq'], (error, out) => error ? fail(error) : done({ rows: [{ status: Number(out) }] })).stdin.end(sql);
    });
  }
};
JS
	append_to_file("$dir/front.js", $js);
	{
		local %ENV = (%ENV, PORT => $port, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => 'web',
			PATH => $node->config_data('--bindir') . ":$ENV{PATH}");
		AnglesTest::spawn("$PostgreSQL::Test::Utils::log_path/front.log", $ENV{NODE} || 'node', "$dir/front.js");
	}
	my $http = HTTP::Tiny->new(timeout => 10);
	my $url = "http://127.0.0.1:$port/notion";
	wait_for(sub { $http->post($url, { content => '{}' })->{status} == 401 }, 'the front end answers', 20);

	$node->sql("SET ROLE admin; SELECT angles.notion_webhook_expect('10 min', 'notion_webhook_two')");
	my $made = $sim->call('POST', '/_sim/webhooks', { url => $url, duplicate => 0.5, disorder => \1, delay_ms => 10, retry_ms => 100 });
	wait_for(sub { -s "$secrets/notion_webhook_two" }, 'C10: the token of the handshake is kept', 20);
	is(slurp_file("$secrets/notion_webhook_two"), "$made->{verification_token}\n", 'C10: for the person who pastes it');
	foreach my $round (1 .. 3)
	{
		edit($_, 1000 * $round + $_) foreach 10 .. 30;
	}
	ok($node->wait_sql('SELECT count(*) = 21 FROM t WHERE n = 3000 + id', 'C10: all edits arrive', 60), 'C10: edits arrive by webhooks alone');
	wait_for(sub { $sim->call('GET', '/_sim/webhooks')->{waiting} == 0 }, 'C10: all were delivered', 60);
	my %status;
	$status{ $_->{status} }++ foreach @{ $sim->call('GET', '/_sim/webhooks')->{deliveries} };
	is(join(' ', sort keys %status), '200', 'C10: and each was answered with 200');

	# what this server writes itself comes back as an event, and is no reason to ask
	my $delivered = sub { scalar @{ $sim->call('GET', '/_sim/webhooks')->{deliveries} } };
	$node->sql("UPDATE t SET title = 'ours'");
	drained($node);
	wait_for(sub { $sim->call('GET', '/_sim/webhooks')->{waiting} == 0 }, 'C10: events of our writes were delivered', 60);
	taken();
	my ($before, $n_before) = (scalar($sim->requests), $delivered->());
	$node->sql("UPDATE t SET title = 'ours again'");
	drained($node);
	wait_for(sub { $sim->call('GET', '/_sim/webhooks')->{waiting} == 0 && $delivered->() >= $n_before + 60 },
		'C10: those of the next ones, too', 60);
	taken();
	is(scalar questions($before), 0, 'C10: the events of our own writes ask nothing');
	edit(11, 4011);
	arrives(11, 4011, 'C10: those of a person do');

	# a new subscription has a new token
	$node->sql("SET ROLE admin; SELECT angles.notion_webhook_expect(replace => true)");
	$made = $sim->call('POST', '/_sim/webhooks', { url => $url });
	wait_for(sub { slurp_file("$secrets/notion_webhook_two") eq "$made->{verification_token}\n" },
		'C10: a token is replaced on demand', 20);
	edit(10, 4010);
	arrives(10, 4010, 'C10: and holds from then on');
	$sim->call('DELETE', '/_sim/webhooks');
}

$node->sql('DROP EXTENSION angles CASCADE');
is($node->sql("SELECT count(*) FROM pg_proc WHERE proname = 'notion_webhook_expect'"), 0, 'the extension goes');

done_testing();
