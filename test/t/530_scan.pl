# 530_scan.pl
#	Scenario 27: secrets in tables are found where they are, and what is none is left alone; the report names
#	places and kinds, never values; the same rights hold as for reading the tables.
use strict;
use warnings;

use Test::More;

use AnglesTest;
use SecretCorpus;

my $node = new_cluster('main');

$node->sql(q{CREATE SCHEMA scantest;
	CREATE FUNCTION scantest.scan(text bytea, name text) RETURNS text LANGUAGE c AS 'angles', 'angles_scan_test';
	CREATE FUNCTION scantest.fuzz(seed text, rounds int, number bigint) RETURNS bigint LANGUAGE c STRICT AS 'angles', 'angles_scan_fuzz_test';
	CREATE FUNCTION scantest.scan(t text, name text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$ SELECT scantest.scan(convert_to(t, 'UTF8'), name) $$});

# Returns SQLSTATE and message of a statement that must fail.
sub refusal { return join(' ', $node->sql_error($_[0])); }

# Returns text as a literal.
sub quoted { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

sub scan
{
	my ($text, $name) = @_;
	return $node->sql('SELECT scantest.scan(' . quoted($text) . '::text, ' . (defined $name ? quoted($name) : 'NULL') . ')');
}

# ---- the corpus ----
{
	my $items = corpus(60);
	my $sql = "CREATE TABLE scantest.corpus (id int, body bytea);\n";
	$sql .= 'INSERT INTO scantest.corpus VALUES ' . join(', ', map { "($_, '\\x" . unpack('H*', $items->[$_]{text}) . "')" } 0 .. $#$items) . ';';
	$node->sql($sql);
	my ($hit, $missed, $wrong, $whole) = (0, 0, 0, 0);
	my %missed;
	foreach my $row ($node->rows('SELECT id, scantest.scan(body, NULL) FROM scantest.corpus ORDER BY id'))
	{
		my $item = $items->[ $row->[0] ];
		my $right = 0;
		while ($row->[1] =~ /:(\d+)-(\d+)/g)
		{
			if (defined $item->{kind} && $1 < $item->{end} && $2 > $item->{start})
			{
				$right = 1;
				$whole++ if $1 <= $item->{start} && $2 >= $item->{end};
			}
			else
			{
				$wrong++;
			}
		}
		next unless defined $item->{kind};
		if ($right) { $hit++; } else { $missed++; $missed{ $item->{kind} }++; }
	}
	note("found $hit, missed $missed, wrongly $wrong; the whole of it: $whole; missed: " . join(', ', map { "$_ $missed{$_}" } sort keys %missed));
	cmp_ok($hit / ($hit + $missed), '>=', 0.9, 'L27: recall on the labelled corpus');
	cmp_ok($hit / ($hit + $wrong), '>=', 0.9, 'L27: precision on the labelled corpus');
}

# ---- forms ----
{
	my $token = secret('GitHub');
	my $split = substr($token, 0, 20) . "\n    " . substr($token, 20);
	like(scan("text $split rest of it"), qr/^github-token:5-50$/, 'L27: a token that is split over lines');
	like(scan("text " . substr($token, 0, 20) . "\nwords that follow and are none"), qr/^$/, 'L27: half a token is none');
	is(scan(substr($token, 0, 39)), '', 'L27: nor is one that is too short');
	like(scan(secret('private key') =~ s/\n/\\n/gr), qr/^private-key/, 'L27: a key on one line, with line ends written out');
	my $password = 'k3y' . 'Q!' . 'w9Zx7';
	is(scan($password), '', 'L27: a password without a name is not known');
	like(scan($password, 'db_password'), qr/^assigned-password/, 'L27: it is by the name of its column');
	is(scan('open sesame to all of you', 'password_hint'), '', 'L27: a telling name alone is not enough');
	like(scan("postgres://u:$password\@h/d"), qr/^uri-password:13-23$/, 'L27: of a URI the password alone');
	is(scan("postgres://u:\$PGPASSWORD\@h/d"), '', 'L27: not a variable');
	is($node->sql(q{SELECT count(*) FROM scantest.scan('', NULL) s WHERE s <> ''}), '0', 'L27: nothing in nothing');
}

# ---- hostile bytes ----
my $seed = join("\n", map { $_->{text} } @{ corpus(3) });
cmp_ok($node->sql('SELECT scantest.fuzz(' . quoted($seed =~ s/[^\x01-\x7e]/?/gr) . ', 40000, 1)'), '>', 100, 'L27: changed bytes crash nothing, and spans stay within the text');

# ---- the report ----
my %s = map { $_ => secret($_) } qw(GitHub Notion Stripe npm Google);
my $pem = secret('private key');
my $password = 'k3y' . 'Q!' . 'w9Zx7';
$node->sql("CREATE TABLE notes (id int PRIMARY KEY, title varchar(80), body text, meta jsonb, raw json, tags text[], n numeric, password text, data bytea);
	INSERT INTO notes VALUES (1, 'plain', 'nothing here', '{\"a\": 1}', '{}', '{a,b}', 1, NULL, '\\x00'),
	(2, 'x', 'my token $s{GitHub} is here', NULL, NULL, NULL, 2, NULL, NULL),
	(3, 'x', 'again $s{GitHub}', jsonb_build_object('deep', jsonb_build_array(1, jsonb_build_object('k', " . quoted($pem) . "))), NULL, NULL, 3, NULL, NULL),
	(4, 'x', NULL, NULL, '{\"t\": \"\\u006etn_" . substr($s{Notion}, 4) . "\"}', ARRAY['a', 'b \"$s{Stripe}\"'], 4, '$password', NULL);
	CREATE TABLE tokens (token text PRIMARY KEY, who text); INSERT INTO tokens VALUES ('$s{npm}', 'me');
	CREATE TABLE named (id int PRIMARY KEY, v text DEFAULT '$s{Google}'); COMMENT ON COLUMN named.id IS 'see $s{GitHub}';
	CREATE TABLE clean (id int PRIMARY KEY, v text); INSERT INTO clean SELECT g, md5(g::text) || ' ' || gen_random_uuid() FROM generate_series(1, 1000) g;
	CREATE TABLE two (id int PRIMARY KEY, login text, api_key text); INSERT INTO two VALUES (1, 'me', md5('x'))");
my $report = $node->sql('SELECT "table", "column", place, key, kind, fingerprint IS NOT NULL, count FROM angles.scan_secrets()');
is($report, join("\n",
	'named|id|the comment||github-token|t|1', 'named|v|the default||google-api-key|t|1',
	'notes|body|rows|2|github-token|t|2', 'notes|meta|rows|3|private-key|t|1', 'notes|password|rows|4|assigned-password|t|1',
	'notes|raw|rows|4|notion-token|t|1', 'notes|tags|rows|4|stripe-key|t|1',
	'tokens|token|key|' . ($report =~ /(hash [0-9a-f]{16})/ ? $1 : '?') . '|npm-token|t|1',
	'two|api_key|rows|1|assigned-secret|t|1'), 'L27: text, jsonb, json with escapes, arrays, keys, defaults, comments, and by the name of a column');
my $all = $node->sql('SELECT * FROM angles.scan_secrets()');
my @told = grep { index($all, $_) >= 0 } values(%s), $password, substr($pem, 40, 40);
is("@told", '', 'L27: no value in the report');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
# the statements of this test are in the log, and nothing else that has a secret
my @logged = grep { /\Q$s{npm}\E/ && !/INSERT INTO tokens/ } split /\n/, $log;
is(scalar(@logged), 0, 'L27: nor in the log');
is($node->sql('SELECT count(*) FROM angles.scan_secrets(ARRAY[\'clean\']::regclass[])'), '0', 'L27: hashes and uuids are none');
like(refusal('SELECT * FROM angles.scan_secrets(\'{}\')'), qr/22023.*the list of tables is empty/s, 'L27: an empty list is a mistake');
like(refusal('SELECT * FROM angles.scan_secrets(ARRAY[NULL]::regclass[])'), qr/22023/, 'L27: and so is a null in it');

# ---- allowed ----
{
	my $fingerprint = $node->sql("SELECT fingerprint FROM angles.scan_secrets(ARRAY['notes']::regclass[]) WHERE \"column\" = 'body'");
	my $id = $node->sql("SELECT angles.allow_secret('notes', 'body', '$fingerprint', 'an old token, revoked')");
	is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['notes']::regclass[]) WHERE \"column\" = 'body'"), '0', 'L27: a fingerprint that was allowed is not told again');
	is($node->sql("SELECT \"table\", \"column\", reason FROM angles.allowed_secrets"), 'notes|body|an old token, revoked', 'L27: who allowed it and why can be seen');
	$node->sql("UPDATE notes SET body = 'another one " . secret('GitHub') . "' WHERE id = 2");
	is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['notes']::regclass[]) WHERE \"column\" = 'body'"), '1', 'L27: another one in the same column is');
	# another database has another salt: the allowance brings its own
	$node->sql("UPDATE angles.scan_salt SET salt = sha256('x'); UPDATE notes SET body = NULL WHERE id = 2");
	is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['notes']::regclass[]) WHERE \"column\" = 'body'"), '0', 'L27: an allowance holds in another database');
	is($node->sql("SELECT angles.disallow_secret($id)"), 't', 'L27: it can be taken back');
	is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['notes']::regclass[]) WHERE \"column\" = 'body'"), '1', 'L27: and then it is told again');
	$node->sql("SELECT angles.allow_secret('two', 'api_key', NULL, 'hashes')");
	is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['two']::regclass[])"), '0', 'L27: a whole column can be allowed');
	like(refusal("SELECT angles.allow_secret('two', 'api_key', 'zz', 'x')"), qr/22023/, 'L27: not with something that is no fingerprint');
	like(refusal("SELECT angles.allow_secret('two', 'nope', NULL, 'x')"), qr/42703/, 'L27: nor for a column that is not there');
	like(refusal("SELECT angles.allow_secret('two', NULL, NULL, 'x')"), qr/22023/, 'L27: nor for everything');
	like(refusal("SELECT angles.allow_secret('two', 'api_key', NULL, ' ')"), qr/22023/, 'L27: nor without a reason');
}

# ---- rights, partitions, reading only, cancelling ----
$node->sql('CREATE ROLE reader LOGIN; GRANT angles_operator TO reader; GRANT SELECT ON notes TO reader; CREATE ROLE nobody LOGIN;');
{
	my ($out, $err);
	$node->psql('postgres', 'SELECT DISTINCT "table" FROM angles.scan_secrets()', stdout => \$out, stderr => \$err, extra_params => [ '-U', 'reader' ]);
	is($out, 'notes', 'L27, K3: only tables that the caller may read');
	like($err, qr/table public\.tokens was not looked at/, 'L27, K3: and the others are named');
	$node->psql('postgres', "SELECT * FROM angles.scan_secrets(ARRAY['tokens']::regclass[])", stderr => \$err, extra_params => [ '-U', 'reader' ]);
	like($err, qr/permission denied/, 'L27, K3: a table that was asked for and may not be read is an error');
	$node->psql('postgres', 'SELECT * FROM angles.scan_secrets()', stderr => \$err, extra_params => [ '-U', 'nobody' ]);
	like($err, qr/permission denied/, 'L27, K3: not for everybody');
	foreach my $call ("angles.backup_policy('notes', 'body', 'seal')", "angles.allow_secret('notes', 'body', NULL, 'x')")
	{
		$node->psql('postgres', "SELECT $call", stderr => \$err, extra_params => [ '-U', 'reader' ]);
		like($err, qr/permission denied/, "L27, K3: $call is for administrators");
	}
}
is($node->sql('BEGIN READ ONLY; SELECT count(*) > 0 FROM angles.scan_secrets(); COMMIT'), 't', 'L27: it works where nothing may be written');
$node->sql("CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
	INSERT INTO parted VALUES (1, '$s{npm}')");
is($node->sql("SELECT \"table\", kind FROM angles.scan_secrets(ARRAY['parted']::regclass[])"), 'parted_1|npm-token', 'L27: partitions of a table');
$node->sql("SELECT angles.allow_secret('parted', 'v', NULL, 'test')");
is($node->sql("SELECT count(*) FROM angles.scan_secrets(ARRAY['parted']::regclass[])"), '0', 'L27: what is allowed for a table is for its partitions');
$node->sql('CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 30000) AS v FROM generate_series(1, 30) g; ALTER TABLE large ALTER v SET STORAGE EXTERNAL');
like(refusal("SET statement_timeout = '5ms'; SELECT * FROM angles.scan_secrets(ARRAY['large']::regclass[])"), qr/57014/, 'L27: it can be cancelled');

done_testing();
