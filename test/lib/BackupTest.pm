# BackupTest.pm
#	What the tests of backups share: asking for one, git on its repository, and the restore with plain
#	tools into a database of its own.
package BackupTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use Test::More;

use PostgreSQL::Test::Utils;

our @EXPORT = qw(backup_with backup git git_in table_text repository restores clone contents);

my $node;
my $restored = 0;

# Names the server that the other functions are about.
sub backup_with
{
	($node) = @_;
}

# Returns the result of angles.backup() as a hash, and the notices. $tables: SQL of an array, or undef.
sub backup
{
	my ($tables, $message, $db) = @_;
	my ($out, $err) = ('', '');
	my $args = join(', ', ($tables ? "tables => $tables" : ()), (defined $message ? "message => '$message'" : ()));
	my $rc = $node->psql($db // 'postgres', "SELECT * FROM angles.backup($args)", stdout => \$out, stderr => \$err, extra_params => [ '-F', "\x02" ]);

	die "backup failed: $err" if $rc != 0;
	my %row;
	@row{qw(commit rows bytes written reused seconds remark)} = split /\x02/, $out, -1;
	return (\%row, $err);
}

# Returns the path of the repository of a database.
sub repository
{
	my ($db) = @_;
	return $node->data_dir . '/angles_backup/' . $node->sql("SELECT oid FROM pg_database WHERE datname = '" . ($db // 'postgres') . "'") . '.git';
}

# Returns what git says in the repository of database postgres; dies when it fails.
sub git
{
	return git_in('postgres', @_);
}

# The same for another database.
sub git_in
{
	my ($db, @args) = @_;
	my ($out, $err) = ('', '');
	local $ENV{HOME} = $node->basedir;
	IPC::Run::run([ 'git', '-C', repository($db), @args ], '<', \undef, '>', \$out, '2>', \$err) or die "git @args: $err";
	chomp $out;
	return $out;
}

# Returns the text of a table as a commit of database postgres has it.
sub table_text
{
	my ($folder, $commit) = @_;
	my @files = grep { /\.copy$/ } split /\n/, git('ls-tree', '-r', '--name-only', $commit // 'HEAD', "data/$folder/");
	return join('', map { git('show', ($commit // 'HEAD') . ":$_") . "\n" } @files);
}

# Clones a commit's branch as git on Windows would, and returns the folder.
sub clone
{
	my ($branch) = @_;
	my $dir = $node->basedir . '/clone' . ++$restored;
	local $ENV{HOME} = $node->basedir;
	my $err = '';
	IPC::Run::run([ 'git', '-c', 'core.autocrlf=true', 'clone', '-q', '--depth', '1', '-c', 'core.autocrlf=true', ($branch ? ('-b', $branch) : ()),
		'file://' . repository(), $dir ], '<', \undef, '>', \my $out, '2>', \$err) or die "git clone: $err";
	return $dir;
}

# Restores the default branch into an empty database whose tables pg_dump copies, and compares them all.
sub restores
{
	my ($commit, @scenarios) = @_;
	my $id = join(', ', @scenarios);
	my $dir = clone();
	my $db = "restored$restored";
	my $schema = "$dir.sql";
	my ($out, $err) = ('', '');

	is(slurp_file("$dir/.git/HEAD") ne '', 1, "$id: cloned");
	ok(IPC::Run::run([ "$dir/restore.sh", '--check' ], '<', \undef, '>&', \$out), "$id: its sums are right") or diag($out);
	$node->sql("CREATE DATABASE $db");
	IPC::Run::run([ 'pg_dump', '-s', '-N', 'angles', '-N', 'cron', '--no-owner', '-f', $schema, '-d', $node->connstr('postgres') ]) or die 'pg_dump';
	# without the extensions, whose objects are not restored
	my $sql = join('', grep { !/EXTENSION|^COMMENT ON SCHEMA/ } split /^/, slurp_file($schema));
	my $rc = $node->psql($db, $sql, on_error_stop => 1, stderr => \$err);
	is($rc, 0, "$id: the tables are made anew") or diag($err);
	{
		local $ENV{PGHOST} = $node->host;
		local $ENV{PGPORT} = $node->port;
		$out = '';
		ok(IPC::Run::run([ "$dir/restore.sh", '-d', $db ], '<', \undef, '>&', \$out), "$id: restore.sh loads it") or diag($out);
	}
	is(contents($db), contents('postgres'), "$id: all rows are the same");

	# and from the backup alone
	$node->sql("CREATE DATABASE ${db}_new");
	{
		local $ENV{PGHOST} = $node->host;
		local $ENV{PGPORT} = $node->port;
		$out = '';
		ok(IPC::Run::run([ "$dir/restore.sh", '--create', '-d', "${db}_new" ], '<', \undef, '>&', \$out), "$id: restore.sh --create makes the tables, too") or diag($out);
		IPC::Run::run([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', "${db}_new", '-f', "$dir/schema/040-rights.sql" ], '<', \undef, '>&', \$out)
			or fail("$id: the rights") && diag($out);
	}
	is(contents("${db}_new"), contents('postgres'), "$id: and all rows are the same");
	return $db;
}

# Returns count and hash of the rows of each table, and the state of each sequence, of a database.
sub contents
{
	my ($db) = @_;
	my $tables = $node->sql(q{SELECT string_agg(format($$SELECT %L || ' ' || count(*) || ' ' || md5(COALESCE(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C"), '')) FROM ONLY %s t$$,
			c.oid::regclass::text, c.oid::regclass::text), ' UNION ALL ' ORDER BY c.oid::regclass::text COLLATE "C")
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema|angles|cron)'}, $db);
	my $sequences = $node->sql(q{SELECT string_agg(format('%s.%s %s', schemaname, sequencename, last_value), ' ' ORDER BY 1)
		FROM pg_sequences WHERE schemaname NOT IN ('angles', 'cron')}, $db);
	return join("\n", sort split /\n/, $node->sql($tables, $db)) . "\n$sequences";
}

1;
