# Commands that need a database empty: the workers leave in time, and only when the command succeeds.
use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

my $hole = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "could not listen: $!";
my $node = new_cluster('databases', preload => 'angles',
	conf => { 'angles.notion_url' => 'http://127.0.0.1:' . $hole->sockport,
		'angles.sweep_interval' => '1h' });
my $limit = "SET statement_timeout = '" . 5 * slow_factor() . "s';\n";

# Makes a database with the extension and a request under way; returns the pids of its workers.
sub busy_database
{
	my ($db) = @_;
	$node->sql("CREATE DATABASE $db");
	$node->sql('CREATE EXTENSION angles', $db);
	return make_busy($db);
}

sub make_busy
{
	my ($db) = @_;
	$node->sql("SELECT angles.enqueue_run('check_notion')", $db);
	wait_for(sub { $node->sql("SELECT count(*) FROM angles.runs WHERE state = 'running'", $db) >= 1 },
		"a request of $db is under way");
	return pids($db);
}

sub pids
{
	my ($db) = @_;
	return map { $node->worker_pids($_, $db) } qw(bridge sync);
}

sub gone
{
	my ($words, @pids) = @_;
	ok(wait_for(sub { !grep { kill(0, $_) } @pids }, $words, 5), $words);
}

# A command that must be refused, and must stop nobody.
sub refused
{
	my ($words, $sql, $sqlstate, $db, %opt) = @_;
	my @before = pids($db);
	my ($state, $message) = $node->sql_error($sql, $opt{from});

	is($state, $sqlstate, "$words: refused") or diag($message);
	is("@{[pids($db)]}", "@before", "$words: stops nobody");
}

# ---- unrelated ----

my @busy = busy_database('busy');
is(scalar @busy, 2, 'a bridge and a sync worker');
$node->sql('CREATE DATABASE unrelated');
my $start = now_ms();
$node->sql($limit . 'DROP DATABASE unrelated');
note(sprintf('unrelated DROP DATABASE during a slow request: %.0f ms', now_ms() - $start));
is("@{[pids('busy')]}", "@busy", 'an unrelated DROP DATABASE is done during a slow request, and stops nobody');

# ---- refused ----

$node->sql('CREATE ROLE stranger LOGIN CREATEDB');
$node->sql('CREATE ROLE owner LOGIN');
$node->sql('CREATE DATABASE other');
refused('DROP of a database one does not own', 'SET SESSION AUTHORIZATION stranger; DROP DATABASE busy',
	'42501', 'busy');
refused('DROP in a transaction block', "BEGIN;\nDROP DATABASE busy;\nCOMMIT", '25001', 'busy');
refused('DROP of the own database', 'DROP DATABASE busy', '55006', 'busy', from => 'busy');
refused('RENAME to a name that is taken', 'ALTER DATABASE busy RENAME TO other', '42P04', 'busy');
refused('RENAME of a database one does not own',
	'SET SESSION AUTHORIZATION stranger; ALTER DATABASE busy RENAME TO mine', '42501', 'busy');
$node->sql('ALTER DATABASE busy OWNER TO owner');
refused('RENAME without CREATEDB', 'SET SESSION AUTHORIZATION owner; ALTER DATABASE busy RENAME TO mine',
	'42501', 'busy');
refused('SET TABLESPACE to one that does not exist', 'ALTER DATABASE busy SET TABLESPACE nowhere', '42704', 'busy');
refused('template that one does not own',
	'SET SESSION AUTHORIZATION stranger; CREATE DATABASE mine TEMPLATE busy', '42501', 'busy');
refused('template for a name that is taken', 'CREATE DATABASE other TEMPLATE busy', '42P04', 'busy');
refused('DROP of a template', 'ALTER DATABASE busy IS_TEMPLATE true; DROP DATABASE busy', '42809', 'busy');
$node->sql('ALTER DATABASE busy IS_TEMPLATE false');

$node->sql("CREATE TABLE t (a integer); BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'stays'", 'busy');
refused('DROP with a prepared transaction', 'DROP DATABASE busy', '55006', 'busy');
refused('DROP FORCE with a prepared transaction', 'DROP DATABASE busy WITH (FORCE)', '55006', 'busy');
$node->sql("ROLLBACK PREPARED 'stays'", 'busy');

my $session = $node->background_psql('busy');
$session->query_safe('SELECT 1');
refused('DROP with another session', 'DROP DATABASE busy', '55006', 'busy');
refused('RENAME with another session', 'ALTER DATABASE busy RENAME TO other2', '55006', 'busy');
refused('template with another session', 'CREATE DATABASE copy TEMPLATE busy', '55006', 'busy');
$session->quit;

# ---- rename, template, tablespace ----

$start = now_ms();
$node->sql($limit . 'ALTER DATABASE busy RENAME TO renamed');
note(sprintf('RENAME during a slow request: %.0f ms', now_ms() - $start));
gone('RENAME: the workers left', @busy);
ok($node->wait_worker('bridge', 'renamed'), 'RENAME: a bridge comes back');

@busy = make_busy_again('renamed');
$node->sql($limit . "BEGIN;\nALTER DATABASE renamed RENAME TO busy;\nROLLBACK");
gone('RENAME rolled back: the workers left', @busy);
ok($node->wait_worker('bridge', 'renamed'), 'RENAME rolled back: a bridge comes back');

@busy = make_busy_again('renamed');
$start = now_ms();
$node->sql($limit . 'CREATE DATABASE copy TEMPLATE renamed');
note(sprintf('use as template during a slow request: %.0f ms', now_ms() - $start));
ok($node->wait_worker('bridge', 'renamed'), 'TEMPLATE: a bridge comes back');
ok($node->wait_worker('bridge', 'copy'), 'TEMPLATE: the copy gets a bridge of its own');
$node->wait_sql("SELECT state = 'fenced' FROM angles.workers WHERE database = 'copy'",
	'J4: a database made from a template with angles is fenced');

my $dir = PostgreSQL::Test::Utils::tempdir();
$node->sql("CREATE TABLESPACE space LOCATION '$dir'");
@busy = make_busy_again('renamed');
$node->sql($limit . 'ALTER DATABASE renamed SET TABLESPACE space');
ok($node->wait_worker('bridge', 'renamed'), 'SET TABLESPACE: a bridge comes back');

# ---- the holder dies ----

@busy = make_busy_again('renamed');
$session = $node->background_psql('postgres');
my $holder = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN');
$session->query_safe('ALTER DATABASE renamed RENAME TO busy');
gone('the workers left', @busy);
is($node->sql("SELECT state FROM angles.workers WHERE held_by = $holder"), 'held', 'the slot is held');
is(scalar $node->worker_pids('bridge', 'renamed'), 0, 'no bridge while it is held');
$node->sql("SELECT pg_terminate_backend($holder)");
ok($node->wait_worker('bridge', 'renamed'), 'a hold ends with its session');
$session->{run}->kill_kill;

# ---- drop ----

@busy = make_busy_again('renamed');
$start = now_ms();
$node->sql($limit . 'DROP DATABASE renamed');
note(sprintf('DROP DATABASE with a slow request of its own: %.0f ms', now_ms() - $start));
gone('J7: DROP DATABASE ends the workers', @busy);
is($node->sql("SELECT count(*) FROM angles.workers WHERE database NOT IN (SELECT datname FROM pg_database)"), 0,
	'J7: nothing is left of it');

@busy = busy_database('forced');
$node->sql('ALTER DATABASE forced OWNER TO owner');
$session = $node->background_psql('forced');
$session->query_safe('SELECT 1');
refused('DROP FORCE when the other session may not be ended',
	'SET SESSION AUTHORIZATION owner; DROP DATABASE forced WITH (FORCE)', '42501', 'forced');
$node->sql($limit . 'DROP DATABASE forced WITH (FORCE)');
gone('DROP DATABASE WITH (FORCE) ends the workers, too', @busy);
$session->{run}->kill_kill;

# a role that may not signal superusers' processes drops its own database all the same
@busy = busy_database('owned');
$node->sql('ALTER DATABASE owned OWNER TO owner');
$node->sql($limit . 'SET SESSION AUTHORIZATION owner; DROP DATABASE owned WITH (FORCE)');
gone('the owner may drop a database that has workers', @busy);

sub make_busy_again
{
	my ($db) = @_;
	$node->wait_worker('bridge', $db);
	return make_busy($db);
}

done_testing();
