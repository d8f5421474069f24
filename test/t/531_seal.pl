# 531_seal.pl
#	Scenario 27: what stands in for secrets is valid for its column and always the same, what was there comes
#	back byte for byte with the key and in its place only; keys are kept as they should be.
use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();
use MIME::Base64 ();
use Test::More;

use AnglesTest;
use PostgreSQL::Test::Utils;
use SecretCorpus;

my $node = new_cluster('main');
my $k1 = "'\\x" . '11' x 32 . "'::bytea";
my $k2 = "'\\x" . '22' x 32 . "'::bytea";

$node->sql(q{CREATE SCHEMA sealtest;
	CREATE FUNCTION sealtest.redact(relid oid, col text, key text, value text, sealing bytea[], opening bytea[], opened_as text)
		RETURNS text LANGUAGE c AS 'angles', 'angles_redact_test';
	CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN strict AS text CHECK (value ~ '^.*$');
	CREATE TABLE t (id int PRIMARY KEY, v text, c varchar(50), short varchar(12), p char(60), j json, b jsonb, a text[], n numeric, u uuid NOT NULL DEFAULT gen_random_uuid(),
		m mood, d strict, dn strict NOT NULL DEFAULT 'x', z timestamptz NOT NULL DEFAULT now(), o text, once int UNIQUE NOT NULL DEFAULT 1, password text);
});

# Returns SQLSTATE and message of a statement that must fail.
sub refusal { return join(' ', $node->sql_error($_[0])); }

sub quoted { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

# What becomes of a value: opened with the key that sealed it and in its row, unless told otherwise.
sub redact
{
	my ($col, $value, %opt) = @_;
	my $table = $opt{table} // 't';
	my $sealing = $opt{sealing} // $k1;
	my $opening = $opt{opening} // $sealing;
	my $key = exists $opt{key} ? $opt{key} : '7';
	my $row = exists $opt{row} ? $opt{row} : $key;
	return JSON::PP::decode_json($node->sql("SELECT sealtest.redact('$table'::regclass, '$col', " . (defined $key ? quoted($key) : 'NULL') . ', '
		. quoted($value) . "::text, ARRAY[$sealing]::bytea[], ARRAY[$opening]::bytea[], " . (defined $row ? quoted($row) : 'NULL') . ')'));
}

# Checks what holds for every value that was replaced.
sub sound
{
	my ($r, $type, $name) = @_;
	is("$r->{result} $r->{opened}", 'replaced opened', "L27: $name: it is replaced, and opened");
	ok($r->{equal}, "L27: $name: byte for byte");
	ok($r->{stable}, "L27: $name: the same each time");
	ok($r->{clean}, "L27: $name: nothing is found in what is written");
	my $text = $r->{text};
	utf8::encode($text);
	is($node->sql('SELECT (' . quoted($text) . "::$type) IS NOT NULL"), 't', "L27: $name: what is written is a $type") if defined $text;
}

my %s = map { $_ => secret($_) } qw(GitHub Notion Stripe npm Google);
my $pem = secret('private key');

# ---- types ----
{
	my $r = redact('v', "a $s{GitHub} b $s{npm} \x{c3}\x{a4}");
	sound($r, 'text', 'two in a text');
	like($r->{text}, qr{^a \[sealed:github-token/[a-p]{12}\] b \[sealed:npm-token/[a-p]{12}\] \x{e4}$}, 'L27: the placeholders say what was there');
	is(scalar(@{ $r->{sealed} }), 2, 'L27: both are sealed');
	unlike(JSON::PP::encode_json($r), qr/\Q$s{GitHub}\E/, 'L27: and nothing else has them');
	isnt(redact('v', $s{GitHub}, key => '8')->{sealed}[0], redact('v', $s{GitHub}, key => '9')->{sealed}[0], 'L27: equal secrets look different in other rows');
	isnt(redact('v', $s{GitHub})->{text}, redact('v', $s{GitHub}, key => '8')->{text}, 'L27: what stands in for them, too');
	sound(redact('c', "x $s{GitHub}"), 'varchar(50)', 'varchar(50)');
	cmp_ok(length(redact('c', "x $s{GitHub}")->{text}), '<=', 50, 'L27: no longer than the column allows');
	sound(redact('p', sprintf('%-60s', $s{Stripe})), 'char(60)', 'char(60)');
	$node->sql('CREATE TABLE narrow (id int PRIMARY KEY, pin_password varchar(10), name_of name)');
	sound($r = redact('pin_password', 'k3yQ!w9Zx7', table => 'narrow'), 'varchar(10)', 'varchar(10)');
	like($r->{text}, qr/^[a-p]{10}$/, 'L27: where there is no room for words, the tag alone');
	my $json = '{"a": [1, {"k\u0065y": "x \"' . $s{Notion} . '\" \n' . ($pem =~ s/\n/\\n/gr) . '"}], "' . $s{npm} . '": "ü\\\\"}';
	sound($r = redact('j', $json), 'json', 'json with escapes');
	is(scalar(@{ $r->{sealed} }), 3, 'L27: in a string, behind escapes, and in the name of a member');
	sound(redact('b', '{"password": "k3yQ!w9Zx7", "port": 5432}'), 'jsonb', 'jsonb, by the name of a member');
	sound(redact('b', '"' . $s{Google} . '"'), 'jsonb', 'jsonb that is one string');
	sound($r = redact('a', '{plain,"with \"quotes\" ' . $s{GitHub} . '",' . $s{Stripe} . ',NULL}'), 'text[]', 'an array');
	is($node->sql('SELECT cardinality(' . quoted($r->{text}) . '::text[])'), 4, 'L27: an array keeps its elements');
	is(redact('n', '12345')->{result}, 'as is', 'L27: numbers are not looked at');
	$r = redact('d', $s{GitHub});
	is($r->{text}, undef, 'L27: a domain with rules: null stands in for the value');
	is("$r->{opened} $r->{equal}", 'opened 1', 'L27: and it comes back');
	like(redact('dn', $s{GitHub})->{refused}, qr/^column dn holds a secret \(github-token\), and nothing can stand in for it$/, 'L27: where null cannot, the table is refused');
	like(redact('password', 'k3yQ!w9Zx7')->{text}, qr{^\[sealed:assigned-password/}, 'L27: by the name of the column');
}

# ---- any value at all comes back ----
{
	my $n = $node->sql("SELECT angles.backup_policy('t', 'o', 'seal')");
	my @odd = ('', ' ', "\\N", "it's", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "[sealed:github-token/000000000000]", "a\tb\nc\\", '*' x 1000);
	foreach my $value (@odd)
	{
		my $r = redact('o', $value);
		is("$r->{result} $r->{opened} " . ($r->{equal} ? 1 : 0), 'replaced opened 1', 'L27: a sealed column gives back ' . length($value) . ' odd bytes');
	}
	is($node->sql("SELECT count(*) FROM (SELECT sealtest.redact('t'::regclass, 'o', g::text, v, ARRAY[$k1], ARRAY[$k1], g::text)::jsonb r FROM generate_series(1, 300) g,
		LATERAL (SELECT string_agg(chr((1 + floor(random() * (CASE WHEN random() < 0.5 THEN 126 ELSE 50000 END)))::int), '') AS v FROM generate_series(1, (g * 7) % 211)) x WHERE v IS NOT NULL) y
		WHERE r->>'opened' <> 'opened' OR NOT (r->>'equal')::boolean OR NOT (r->>'stable')::boolean"), '0', 'L27: random values of all alphabets');
	is($node->sql("SELECT r->>'opened', r->>'equal', length(r->'sealed'->>0) > 13000000 FROM (SELECT sealtest.redact('t'::regclass, 'o', '1', repeat('0123456789', 1000000), ARRAY[$k1], ARRAY[$k1], '1')::jsonb r) x"),
		'opened|true|t', 'L27: 10 MB');
	is($node->sql("SELECT count(*) FROM (SELECT sealtest.redact('t'::regclass, 'v', g::text, a || x || b, ARRAY[$k1], ARRAY[$k1], g::text)::jsonb r FROM generate_series(1, 300) g,
		LATERAL (SELECT md5(g::text) || chr(228) || E'\\n' AS a, repeat(chr(8364), g % 17) AS b, '$s{GitHub} $s{npm}' AS x) v) y
		WHERE r->>'opened' <> 'opened' OR NOT (r->>'equal')::boolean OR jsonb_array_length(r->'sealed') <> 2"), '0', 'L27: secrets between random text');
}

# ---- keys ----
{
	is(redact('v', $s{GitHub}, opening => $k2)->{opened}, 'no key', 'L27: without the key nothing is opened');
	is(redact('v', $s{GitHub}, row => '8')->{opened}, 'refused', 'L27: nor in another row');
	my $r = redact('v', $s{GitHub}, opening => "$k2, $k1");
	is($r->{opened}, 'opened', 'L27: an older key still opens');
	isnt(redact('v', $s{GitHub}, sealing => $k2)->{key_id}, $r->{key_id}, 'L27: each key has its name');
	$r = JSON::PP::decode_json($node->sql("SELECT sealtest.redact('t'::regclass, 'v', '7', '$s{GitHub}', '{}', '{}', '7')"));
	like($r->{text}, qr{^\[redacted:github-token/[a-p]{12}\]$}, 'L27: without a key it is left out');
	is("$r->{opened} $r->{sealed}[0]", 'no key ', 'L27: and is not to be got back');
	$r = redact('v', $s{GitHub}, key => undef);
	is("$r->{text} $r->{opened}", '[sealed:github-token] opened', 'L27: a table without a key');

	# with openssl alone, as README says
	my $cli = sub {
		my ($text, @command) = @_;
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'openssl', @command ], '<', \$text, '>', \$out, '2>', \$err) or die "openssl: $err";
		return $out;
	};
	my ($key) = $cli->('angles seal cipher', qw(dgst -sha256 -mac HMAC -macopt), 'hexkey:' . '11' x 32) =~ /([0-9a-f]{64})/;
	my $raw = MIME::Base64::decode_base64(redact('v', $s{GitHub})->{sealed}[0]);
	is($cli->(substr($raw, 16), qw(enc -d -aes-256-ctr -K), $key, '-iv', unpack('H*', substr($raw, 0, 16))), $s{GitHub}, 'L27: openssl opens it, too');
}

# ---- policies ----
{
	$node->sql("SELECT angles.backup_policy('t', 'o', 'hash')");
	my ($r, $same) = (redact('o', 'me@host.test'), redact('o', 'me@host.test', key => '8'));
	like($r->{text}, qr/^\[hash:[0-9a-f]{32}\]$/, 'L27: hash');
	is($r->{text}, $same->{text}, 'L27: equal values have equal hashes');
	isnt($r->{text}, redact('o', 'me@host.test', sealing => $k2)->{text}, 'L27: which take a key');
	$node->sql("SELECT angles.backup_policy('t', 'o', 'omit')");
	like(redact('o', 'me@host.test')->{text}, qr{^\[omitted/[a-p]{12}\]$}, 'L27: omit');
	is(redact('o', 'me@host.test')->{opened}, 'no key', 'L27: what is left out does not come back');
	$node->sql("SELECT angles.backup_policy('t', c, 'seal') FROM unnest('{n,u,m,z,b,a}'::name[]) c");
	sound(redact('u', '11111111-2222-3333-4444-555555555555'), 'uuid', 'uuid, not null');
	sound(redact('z', '2026-01-01 00:00:00+00'), 'timestamptz', 'timestamptz, not null');
	is(redact('m', 'sad')->{text}, undef, 'L27: an enum becomes null');
	ok(redact('m', 'sad')->{equal}, 'L27: and comes back');
	sound(redact('b', '{"x": 1}'), 'jsonb', 'jsonb as a whole');
	is(redact('a', '{}')->{text}, undef, 'L27: an array as a whole becomes null');
	is($node->sql("SELECT string_agg(\"column\" || ' ' || policy, ', ' ORDER BY \"column\") FROM angles.backup_policies"), 'a seal, b seal, m seal, n seal, o omit, u seal, z seal', 'L27: policies can be seen');
	is($node->sql("SELECT angles.backup_policy('t', 'o', NULL) IS NULL"), 't', 'L27: and taken away');
	is(redact('o', 'me@host.test')->{result}, 'as is', 'L27: then the column is written');
	foreach my $wrong ([ 'id', 'seal', 'NG403', 'of the key' ], [ 'once', 'omit', 'NG403', 'that must be unique' ], [ 'nope', 'seal', '42703', 'that is not there' ],
		[ 'v', 'shred', '22023', 'with a policy that is none' ], [ 'n', 'hash', '22023', 'of numbers, hashed' ])
	{
		like(refusal("SELECT angles.backup_policy('t', '$wrong->[0]', '$wrong->[1]')"), qr/$wrong->[2]/, "L27: refused: a column $wrong->[3]");
	}
	is($node->sql("SELECT count(*) FROM angles.column_policies WHERE column_name IN ('id', 'once')"), '0', 'L27: and nothing was kept of that');
	$node->sql("CREATE TABLE k (id text PRIMARY KEY, v text); CREATE TABLE q (id int PRIMARY KEY, v text DEFAULT 'k " . secret('Stripe') . "')");
	like(redact('id', $s{GitHub}, table => 'k')->{refused}, qr/^column id holds a secret \(github-token\), and rows are known by it$/, 'L27: a secret in the key refuses the table');
	like(redact('v', 'x', table => 'q')->{refused}, qr/^the default of column v holds a secret \(stripe-key\)$/, 'L27: and so does one in a default');
}

# ---- another database ----
{
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	my $shown = 'SELECT "table", "column", policy FROM angles.backup_policies';
	my $err = '';
	$node->sql("SELECT angles.allow_secret('k', NULL, '0123456789abcdef', 'kept')");
	IPC::Run::run([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ]) or die 'pg_dump';
	$node->sql('CREATE DATABASE again');
	$node->psql('again', slurp_file($dump), stderr => \$err, on_error_stop => 0);
	is($node->sql($shown, 'again'), $node->sql($shown), 'L27: policies come along with a dump') or diag($err);
	is($node->sql('SELECT "table", reason FROM angles.allowed_secrets', 'again'), 'k|kept', 'L27: and so does what was allowed');
	is($node->sql('SELECT count(*) FROM angles.scan_salt', 'again'), '1', 'L27: there is one salt');
	isnt($node->sql('SELECT salt FROM angles.scan_salt', 'again'), $node->sql('SELECT salt FROM angles.scan_salt'), 'L27: and it is another one');
}

# ---- the key file ----
my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/backup.key";
{
	$node->sql("SELECT angles.create_backup_key('$file')");
	is(sprintf('%o', (stat $file)[2] & 07777), '600', 'L45: the key file is for the server alone');
	my $text = slurp_file($file);
	my $blocks = join(' ', $text =~ /-BEGIN ([A-Z ]+)-/g);
	is($blocks, 'PRIVATE KEY ANGLES SEALING KEY', 'L45: it has a key that signs and one that seals');
	like(refusal("SELECT angles.create_backup_key('$file')"), qr/58P02|42710|could not make/, 'L45: a file that is there is not replaced');
	is(slurp_file($file), $text, 'L45: and not changed');
	my $err;
	$node->psql('postgres', "SELECT angles.create_backup_key('" . $node->data_dir . "/x.key')", stderr => \$err);
	like($err, qr/WARNING:.*the key is kept in the data directory/s, 'L45: a key in the data directory is warned of');
	like(refusal('SELECT angles.rotate_sealing_key()'), qr/NG404/, 'L45: without a key file there is nothing to rotate');
	$node->sql("ALTER SYSTEM SET angles.backup_key_file = '$file'");
	$node->sql('SELECT pg_reload_conf()');
	$node->wait_sql("SELECT current_setting('angles.backup_key_file') = '$file'", 'the setting is there');
	my $id = $node->sql('SELECT angles.rotate_sealing_key()');
	like($id, qr/^[0-9a-f]{16}$/, 'L45: another sealing key');
	my $new = slurp_file($file);
	my @old = $text =~ /(-----BEGIN ANGLES.*?-----END ANGLES SEALING KEY-----)/s;
	ok(index($new, $old[0]) > 0, 'L45: the old one is kept to open what it sealed');
	is(scalar(() = $new =~ /BEGIN ANGLES SEALING/g), 2, 'L45: there are two');
	is(substr($new, 0, index($new, '-----BEGIN ANGLES')), substr($text, 0, index($text, '-----BEGIN ANGLES')), 'L45: the key that signs is the same');
	is(sprintf('%o', (stat $file)[2] & 07777), '600', 'L45: still for the server alone');
	my $elsewhere = PostgreSQL::Test::Utils::tempdir();
	rename($file, "$elsewhere/real.key") && symlink("$elsewhere/real.key", $file) or die "symlink: $!";
	isnt($node->sql('SELECT angles.rotate_sealing_key()'), $id, 'L45: each has another name');
	ok(-l $file, 'L45: a link to the file stays a link');
	is(scalar(() = slurp_file("$elsewhere/real.key") =~ /BEGIN ANGLES SEALING/g), 3, 'L45: to the file with the new key');
	is(join(' ', glob("$dir/*"), glob("$elsewhere/*")), "$file $elsewhere/real.key", 'L45: nothing is left beside it');
	chmod(0644, $file);
	like(refusal('SELECT angles.rotate_sealing_key()'), qr/NG404/, 'L45: a file that others can read is refused');
	chmod(0600, $file);
	$node->sql('CREATE ROLE admin LOGIN; GRANT angles_admin TO admin');
	$node->psql('postgres', 'SELECT angles.rotate_sealing_key()', stderr => \$err, extra_params => [ '-U', 'admin' ]);
	like($err, qr/permission denied to change the key file/, 'L45, K3: it takes the right to write files');
	my ($secret) = $new =~ /SEALING KEY-----\n([^\n]+)/;
	unlike(slurp_file($node->logfile), qr/\Q$secret\E/, 'L45, K1: no key in the log');
}

done_testing();
