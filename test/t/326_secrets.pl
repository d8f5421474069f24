# 326_secrets.pl
#	Scenario K1: the token is nowhere to be found: not in logs, tables, settings, process titles,
#	statistics, dumps or errors; and who has no right cannot read or change what angles keeps.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SyncTest;

use PostgreSQL::Test::Utils;

my $secret = 'ntn_k1Secret0123456789';
my $second = 'ntn_k1Rotated987654321';
my $pattern = qr/k1Secret|k1Rotated/;
my $sim = start_simulator(token => $secret);
# everything that a server can be made to say
my $node = new_cluster('main', sim => $sim, conf => {
	'log_statement' => 'all', 'log_min_messages' => 'debug3', 'log_error_verbosity' => 'verbose',
	'log_min_error_statement' => 'debug5', 'log_parameter_max_length' => '-1', 'track_activity_query_size' => '16kB',
	'angles.http_timeout' => '2s', 'angles.notion_verify_window' => '1s', 'angles.wait_max' => '30s' });

$node->sql(q{
	CREATE TABLE t (id int PRIMARY KEY, title text);
	CREATE ROLE someone LOGIN;
	CREATE ROLE viewer LOGIN; GRANT angles_viewer TO viewer;
	CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor;
	CREATE ROLE admin LOGIN; GRANT angles_admin TO admin});
link_table($node, 't');

# Returns what psql says, answers and errors, as this role.
sub said
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', "SET ROLE $role; $sql", stdout => \$out, stderr => \$err,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $out . $err;
}

# the server goes through all that speaks of the token
$node->sql("INSERT INTO t VALUES (1, 'one')");
drained($node);
$node->sql('SELECT * FROM angles.check_notion()');
$sim->faults({ path => '^/v1/', action => $_, count => 1 }) foreach '500', '400', 'reset_before', 'html200';
$node->sql("INSERT INTO t SELECT g, 'row' FROM generate_series(2, 10) g");
drained($node);
$sim->call('POST', '/_sim/tokens', { token => $secret, revoked => \1 });
$node->sql("UPDATE t SET title = 'refused'");
$node->wait_sql("SELECT count(*) = 1 FROM angles.alerts WHERE fingerprint = 'notion_token'", 'K1: the token is refused');
like($node->sql('SELECT * FROM angles.check_notion()'), qr/token.*\b(?:invalid|refused|not valid)/is,
	'H4: angles.check_notion() answers while the token is refused');
$node->configure('angles.notion_token' => $second);
$sim->clear_faults;
$node->sql("SELECT angles.retry('t')");
drained($node);
$node->arm_kill_point('answer_taken');
$node->psql('postgres', "UPDATE t SET title = 'crash'");
wait_for(sub { $node->kill_point_struck }, 'K1: the worker dies', 60);
$node->disarm_kill_point;
drained($node, 60);

foreach my $role ('postgres', 'someone', 'viewer', 'monitor', 'admin')
{
	foreach my $sql ('SHOW angles.notion_token', "SELECT current_setting('angles.notion_token', true)",
		"SELECT * FROM pg_settings WHERE name LIKE 'angles%'", 'SHOW ALL',
		"SELECT * FROM pg_file_settings WHERE name LIKE 'angles.%' AND name <> 'angles.notion_token'",
		'SELECT * FROM pg_stat_activity', "SELECT * FROM pg_stat_get_activity(NULL)")
	{
		unlike(said($role, $sql), $pattern, "K1: $role: $sql");
	}
}
foreach my $role ('postgres', 'someone', 'admin')
{
	like(said($role, "SET angles.notion_token = 'ntn_mine'"), qr/ERROR:\s+55P02/, "K1: $role: no session sets a token");
	like(said($role, "ALTER ROLE CURRENT_USER SET angles.notion_token = 'ntn_mine'"), qr/ERROR/,
		"K1: $role: nor does a role");
	unlike(said($role, "ALTER SYSTEM SET angles.notion_token = '$secret'"), qr/^ALTER SYSTEM/m,
		"K1: $role: nor ALTER SYSTEM");
}
foreach my $relation (split(/\n/, $node->sql(q{SELECT c.oid::regclass FROM pg_class c
	WHERE relnamespace = 'angles'::regnamespace AND relkind IN ('r', 'v', 'm')})))
{
	unlike($node->sql("SELECT x::text FROM $relation x"), $pattern, "K1: $relation");
}
foreach my $dump ('pg_dump', 'pg_dumpall')
{
	my ($out, $err) = run_command([ $node->installed_command($dump), '-h', $node->host, '-p', $node->port,
		($dump eq 'pg_dump' ? 'postgres' : ()) ]);
	like($out, qr/CREATE EXTENSION.*angles/, "K1: $dump has the extension");
	unlike($out . $err, $pattern, "K1: $dump has no token");
}
my $log = $node->log_from(0);
# the statements above carry it in the log of this test alone; what is said by angles does not
$log =~ s/^.*ALTER SYSTEM.*\n//mg;
cmp_ok(length $log, '>', 10000, 'K1: the log is a long one');
unlike($log, $pattern, 'K1: the log of the server');
foreach my $pid (split(/\n/, $node->sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'angles%'")))
{
	unlike(slurp_file("/proc/$pid/cmdline"), $pattern, "K1: the title of process $pid");
}

# files of the data directory, but for the configuration it was written in
{
	my @with;
	foreach my $file (split(/\n/, `grep -rlaE 'k1Secret|k1Rotated' @{[ $node->data_dir ]}`))
	{
		push @with, $file unless $file =~ m{/postgresql\.conf$};
	}
	is("@with", '', 'K1: no file of the server holds it');
}

# rights
foreach my $sql ('SELECT * FROM angles.queue_entries', 'SELECT * FROM angles.pages', 'SELECT * FROM angles.links',
	'SELECT * FROM angles.queue', 'SELECT * FROM angles.status', 'SELECT * FROM angles.change_log_0',
	'DELETE FROM angles.queue_entries', 'INSERT INTO angles.change_log_0 SELECT', "SELECT angles.pause('t')",
	"SELECT * FROM angles.link('t')", "SELECT angles.approve('t')", "SELECT angles.retry('t')",
	'SELECT * FROM angles.sync_notion()', 'SELECT * FROM angles.check_notion()', "SELECT angles.alert_close('x')",
	"SELECT angles.audit('x', 'y', NULL)")
{
	like(said('someone', $sql), qr/ERROR:\s+42501/, "K1: a role without rights: $sql");
}
foreach my $sql ('SELECT count(*) FROM angles.queue', 'SELECT count(*) FROM angles.status', 'SELECT count(*) FROM angles.links')
{
	unlike(said('viewer', $sql), qr/ERROR/, "K1: a viewer may: $sql");
}
foreach my $sql ('DELETE FROM angles.queue_entries', 'UPDATE angles.links SET paused = true', 'SELECT base FROM angles.pages',
	"SELECT angles.pause('t')", "SELECT angles.unlink('t')")
{
	like(said('viewer', $sql), qr/ERROR:\s+42501/, "K1: a viewer may not: $sql");
}
like(said('admin', "SELECT angles.unlink('t')"), qr/ERROR:\s+42501.*owner/s, 'K1: an admin may not unlink the table of another');
# the trigger does not ask its user for rights
$node->sql('GRANT ALL ON t TO someone');
unlike(said('someone', "INSERT INTO t VALUES (100, 'by someone')"), qr/ERROR|WARNING/, 'K1: anybody may write into a linked table');
drained($node);
is($node->sql("SELECT count(*) FROM angles.pages WHERE key = '100'"), 1, 'K1: and it is captured');

done_testing();
