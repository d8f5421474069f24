# 412_apply.pl
#	What an apply worker does to tables and sessions: it never waits for a user, is the victim of a
#	deadlock itself, writes as the table's owner, and leaves all or nothing when it is killed.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

my $sim = start_simulator();
my $node = new_cluster('main', sim => $sim,
	conf => { 'angles.poll_interval' => '200ms', 'angles.retry_initial' => '50ms', 'angles.retry_cap' => '500ms' });

$node->sql('CREATE TABLE t (id int PRIMARY KEY, title text, n int)');
$node->sql(q(INSERT INTO t SELECT g, 'row ' || g, 0 FROM generate_series(1, 20) g));
link_table($node, 't');

sub page_of
{
	my ($key, $table) = @_;
	$table //= 't';
	return $node->sql("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE p.key = '$key' AND l.relid = '$table'::regclass");
}

sub edit
{
	my ($page, %properties) = @_;
	return $sim->call('POST', '/_sim/edit', { op => 'set', page_id => $page, properties => \%properties });
}

sub arrives
{
	my ($condition, $name, $table) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$table //= 't';
	ok($node->wait_sql("SELECT EXISTS (SELECT FROM $table WHERE $condition)", $name, 30), $name);
}

# a locked row
{
	my $user = $node->background_psql('postgres');
	$user->query_safe('BEGIN');
	$user->query_safe('SELECT * FROM t WHERE id = 1 FOR UPDATE');
	edit(page_of(1), n => 1);
	edit(page_of(2), n => 1);
	arrives('id = 2 AND n = 1', 'a row that a session has locked holds up no other');
	$node->wait_sql("SELECT class = 'busy' FROM angles.inbound WHERE key = '1'", 'and is told of', 20);
	is($user->query_safe("SET lock_timeout = '100ms'; UPDATE t SET title = 'mine' WHERE id = 1; SELECT 'written'"),
		'written', 'the session waits for nobody');
	$user->query_safe('COMMIT');
	arrives("id = 1 AND n = 1 AND title = 'mine'", 'and comes when the row is free');
	$user->quit;
}

# a deadlock with a user: his statement goes on, the worker gives up and comes again
{
	$node->sql(q{CREATE TABLE totals (id int PRIMARY KEY, n int)});
	$node->sql('INSERT INTO totals VALUES (1, 0), (2, 0)');
	$node->sql(q{CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN UPDATE totals SET n = n + 1 WHERE id = 1; PERFORM pg_advisory_xact_lock_shared(7);
			UPDATE totals SET n = n + 1 WHERE id = 2; RETURN NULL; END'});
	$node->sql('CREATE TRIGGER adds AFTER UPDATE OF n ON t FOR EACH ROW EXECUTE FUNCTION add_up()');
	my $waits = sub {
		my ($name) = @_;
		$node->wait_sql(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'angles apply'
			AND wait_event_type = 'Lock'}, $name, 20);
	};
	my $sum = 0;

	foreach my $timeout ('1s', '200ms', '20ms')
	{
		$node->configure(deadlock_timeout => $timeout);
		# he closes the circle, after the worker has begun to wait ...
		my $user = $node->background_psql('postgres');
		$user->query_safe('BEGIN');
		$user->query_safe('UPDATE totals SET n = n + 1 WHERE id = 2');
		edit(page_of(3), n => ++$sum + 100);
		$waits->("the apply worker waits in a trigger ($timeout)");
		is($user->query_safe("UPDATE totals SET n = n + 1 WHERE id = 1; SELECT 'done'"), 'done',
			"a user is never the victim of a deadlock with angles ($timeout)");
		$user->query_safe('COMMIT');
		arrives("id = 3 AND n = $sum + 100", "and the change is made afterwards ($timeout)");

		# ... or the worker does
		$user->query_safe('BEGIN');
		$user->query_safe('UPDATE totals SET n = n + 1 WHERE id = 2; SELECT pg_advisory_xact_lock(7)');
		edit(page_of(3), n => ++$sum + 100);
		$waits->("the apply worker waits for the advisory lock ($timeout)");
		is($user->query_safe("UPDATE totals SET n = n + 1 WHERE id = 1; SELECT 'done'"), 'done',
			"nor when two locks are between them ($timeout)");
		$user->query_safe('COMMIT');
		arrives("id = 3 AND n = $sum + 100", "the change is made afterwards ($timeout)");
		$user->quit;
	}
	$node->configure(deadlock_timeout => '1s');
	is($node->sql('SELECT string_agg(n::text, $$ $$ ORDER BY id) FROM totals'), '12 12', 'each change is counted once');
	is($node->sql('SELECT count(*) FROM angles.parked'), 0, 'nothing is parked for that');
	$node->sql('DROP TRIGGER adds ON t');
}

# a trigger that takes too long does not hold up other rows for ever
{
	$node->configure('angles.apply_timeout' => '500ms');
	$node->sql(q{CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN IF NEW.id = 4 THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END'});
	$node->sql('CREATE TRIGGER sleeps BEFORE UPDATE OF n ON t FOR EACH ROW EXECUTE FUNCTION sleeps()');
	edit(page_of(4), n => 6);
	edit(page_of(5), n => 6);
	arrives('id = 5 AND n = 6', 'a trigger without end holds up its own row only');
	$node->sql('DROP TRIGGER sleeps ON t');
	arrives('id = 4 AND n = 6', 'and that one comes later');
	$node->configure('angles.apply_timeout' => '30s');
}

# killed before and after its commit
foreach my $point ('applied', 'apply_committed')
{
	$node->arm_kill_point($point);
	edit(page_of(6), n => length $point);
	wait_for(sub { $node->kill_point_struck }, "kill point $point is struck", 60);
	ok($node->disarm_kill_point, "the apply worker was killed at $point");
	arrives('id = 6 AND n = ' . length $point, "the change is there after SIGKILL at $point");
	drained($node);
	is($node->sql('SELECT count(*) FROM angles.inbox'), 0, "$point: nothing is left");
}
{
	my $before = $sim->ledger;
	drained($node);
	is(scalar(grep { $_->{by} eq 'api' } $sim->ledger($before)), 0, 'and nothing was sent back');
}

# another owner, row security, names
{
	$node->sql('CREATE ROLE clerk LOGIN');
	$node->sql(q{CREATE SCHEMA "Odd ""schema"});
	$node->sql('GRANT ALL ON SCHEMA "Odd ""schema" TO clerk');
	$node->sql(q{SET ROLE clerk; CREATE TABLE "Odd ""schema"."T;--" ("Key 1" text, k2 uuid, "A ""col" text,
		secret boolean DEFAULT false, by text, PRIMARY KEY ("Key 1", k2))});
	my $table = '"Odd ""schema"."T;--"';
	$node->sql(qq{INSERT INTO $table VALUES ('a''b', '00000000-0000-0000-0000-00000000000a', 'x', false, 'postgres')});
	$node->sql(q{CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN NEW.by := current_user || $$/$$ || session_user || $$/$$ || current_setting($$search_path$$); RETURN NEW; END'});
	$node->sql("CREATE TRIGGER who BEFORE UPDATE ON $table FOR EACH ROW EXECUTE FUNCTION who()");
	$node->sql('ALTER ROLE clerk SET search_path = clerks_own');
	link_table($node, $table, q(mapping => '{"by": null}'));
	my $page = $node->sql("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE l.owner = 'clerk'::regrole");
	edit($page, 'A "col' => 'from Notion');
	arrives(q("A ""col" = 'from Notion'), 'odd names and a key of two columns', $table);
	is($node->sql("SELECT by FROM $table"), 'clerk/clerk/clerks_own', 'the owner\'s triggers run in a session of his');
	edit(page_of(7), n => 7);
	arrives('id = 7 AND n = 7', 'and the tables of others go on');

	$node->sql("ALTER TABLE $table ENABLE ROW LEVEL SECURITY");
	$node->sql("ALTER TABLE $table FORCE ROW LEVEL SECURITY");
	$node->sql(qq{CREATE POLICY p ON $table USING (true) WITH CHECK ("A ""col" <> 'forbidden')});
	edit($page, 'A "col' => 'forbidden');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.parked WHERE code = '42501'", 'K2: a policy refuses', 20);
	edit($page, 'A "col' => 'allowed');
	arrives(q("A ""col" = 'allowed'), 'K2: and lets pass', $table);

	$node->sql('ALTER ROLE clerk NOLOGIN');
	$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clerk'");
	$node->sql("UPDATE angles.links SET changed_at = now() WHERE owner = 'clerk'::regrole");
	edit($page, 'A "col' => 'later');
	$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE closed_at IS NULL AND hint LIKE '%ALTER ROLE clerk LOGIN%'",
		'an owner who may not log in is told of', 20);
	edit(page_of(8), n => 8);
	arrives('id = 8 AND n = 8', 'and holds up nobody else');
	$node->sql('ALTER ROLE clerk LOGIN');
	arrives(q("A ""col" = 'later'), 'when he may, it goes on', $table);
}

# relations
{
	$node->sql('CREATE TABLE parent (id int PRIMARY KEY, name text)');
	$node->sql('CREATE TABLE child (id int PRIMARY KEY, name text, parent_id int REFERENCES parent)');
	$node->sql(q{INSERT INTO parent VALUES (1, 'one'), (2, 'two')});
	$node->sql(q{INSERT INTO child VALUES (1, 'c', 1), (2, 'd', 1)});
	link_table($node, 'parent');
	link_table($node, 'child');
	my $relation = $node->sql("SELECT property_name FROM angles.link_columns WHERE property_type = 'relation'");
	edit(page_of(1, 'child'), $relation => [ page_of(2, 'parent') ]);
	arrives('id = 1 AND parent_id = 2', 'G: another row is referenced', 'child');
	edit(page_of(1, 'child'), $relation => []);
	arrives('id = 1 AND parent_id IS NULL', 'G: or none', 'child');
	edit(page_of(1, 'child'), $relation => [ page_of(1, 'parent'), page_of(2, 'parent') ]);
	$node->wait_sql("SELECT message LIKE '%2 pages%' FROM angles.parked", 'F7: two are told of', 20);
	is($node->sql('SELECT parent_id IS NULL FROM child WHERE id = 1'), 't', 'F7: and nothing is written');
	edit(page_of(1, 'child'), $relation => [ page_of(1, 'parent') ]);
	arrives('id = 1 AND parent_id = 1', 'F7: one is taken', 'child');

	# G3
	$sim->call('POST', '/_sim/edit', { op => 'unshare', id => page_of(1, 'parent') });
	edit(page_of(2, 'child'), name => 'still flows');
	arrives(q(id = 2 AND name = 'still flows'), 'G3: other properties flow', 'child');
	$node->sql("UPDATE child SET name = 'and back' WHERE id = 2");
	drained($node);
	is($node->sql('SELECT parent_id FROM child WHERE id = 2'), 1, 'G3: what Notion does not show is not taken for cleared');
	$sim->call('POST', '/_sim/edit', { op => 'share', id => page_of(1, 'parent') });
	edit(page_of(2, 'child'), name => 'shared again');
	arrives(q(id = 2 AND name = 'shared again'), 'G3: when it is shared again', 'child');
	$node->wait_sql('SELECT count(*) = 0 FROM angles.pages WHERE held IS NOT NULL', 'G3: nothing is held back', 20);
	$node->sql('UPDATE child SET parent_id = 2 WHERE id = 2');
	drained($node);
	is($sim->call('GET', '/v1/pages/' . page_of(2, 'child'))->{properties}{$relation}{relation}[0]{id}, page_of(2, 'parent'),
		'G3: the relation goes on');
}

# a row that leaves the filter while a change of its page waits
{
	$node->sql('CREATE TABLE f (id int PRIMARY KEY, title text, wanted boolean NOT NULL)');
	$node->sql(q{INSERT INTO f VALUES (1, 'x', true)});
	link_table($node, 'f', q(filter => 'wanted'));
	my $user = $node->background_psql('postgres');
	$user->query_safe('BEGIN');
	$user->query_safe('UPDATE f SET wanted = false WHERE id = 1');
	edit(page_of(1, 'f'), title => 'too late');
	$node->wait_sql("SELECT class = 'busy' FROM angles.inbound WHERE \"table\" = 'f'::regclass", 'it waits', 20);
	$user->query_safe('COMMIT');
	$user->quit;
	$node->wait_sql("SELECT count(*) = 1 FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE l.relid = 'f'::regclass AND p.state = 'out_of_scope'", 'a row that leaves the filter leaves', 20);
	$node->wait_sql('SELECT count(*) = 0 FROM angles.inbox', 'and nothing waits for it', 20);
}

# partitions, generated columns, and a run that pulls
{
	$node->sql('CREATE TABLE p (id int, part int, v text, up text GENERATED ALWAYS AS (upper(v)) STORED, PRIMARY KEY (id, part))
		PARTITION BY LIST (part)');
	$node->sql("CREATE TABLE p_$_ PARTITION OF p FOR VALUES IN ($_)") foreach 1, 2;
	$node->sql(q{INSERT INTO p VALUES (1, 1, 'one'), (2, 2, 'two')});
	link_table($node, 'p');
	my $page = $node->sql("SELECT page_id FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
		WHERE l.relid = 'p'::regclass AND key LIKE '%2%2%'");
	edit($page, v => 'zwei', up => 'NONSENSE');
	arrives(q(id = 2 AND v = 'zwei' AND up = 'ZWEI'), 'a partitioned table', 'p');
	wait_for(sub { $sim->call('GET', "/v1/pages/$page")->{properties}{up}{rich_text}[0]{plain_text} eq 'ZWEI' },
		'a generated column keeps what the server computes', 20);

	$node->configure('angles.poll_interval' => '1h');
	edit($page, v => 'deux');
	my ($row) = $node->rows("SELECT * FROM angles.sync_notion('{p}')");
	is($node->sql('SELECT v FROM p WHERE id = 2'), 'deux', 'sync_notion() brings what was changed in Notion');
}

done_testing();
