# SecretCorpus.pm
#	Texts with and without secrets, labelled, for scoring the scanner. Every secret is made at run time from
#	its prefix and random characters, so that no file of this repository holds anything that looks like one.
#	The same seed gives the same corpus.
package SecretCorpus;

use strict;
use warnings;

use Digest::SHA ();
use Exporter 'import';
use MIME::Base64 ();

our @EXPORT = qw(secret corpus secret_kinds);

my $state = 42;

# A generator of our own: perl's gives other numbers on other machines.
sub below
{
	my ($n) = @_;
	$state = ($state * 1103515245 + 12345) % 2147483648;
	return int($state / 2147483648 * $n);
}

sub pick { return $_[ below(scalar @_) ]; }

sub chars
{
	my ($n, $set) = @_;
	my @set = split //, $set;
	return join('', map { $set[ below(scalar @set) ] } 1 .. $n);
}

my $digits = '0123456789';
my $lower = join('', 'a' .. 'z');
my $upper = join('', 'A' .. 'Z');
my $alnum = "$digits$lower$upper";
my $hex = '0123456789abcdef';
my $url = "$alnum-_";

sub b64
{
	my ($bytes) = @_;
	return MIME::Base64::encode_base64(join('', map { chr(below(256)) } 1 .. $bytes), '');
}

sub pem
{
	my ($label) = @_;
	my $body = b64(600) =~ s/(.{64})/$1\n/gr;
	my $dashes = '-' x 5;
	return "${dashes}BEGIN $label${dashes}\n$body\n${dashes}END $label${dashes}";
}

sub jwt
{
	my $part = sub { MIME::Base64::encode_base64($_[0], '') =~ tr{+/=}{-_}dr };
	return join('.', $part->('{"alg":"HS256","typ":"JWT"}'), $part->('{"sub":"' . chars(10, $digits) . '","iat":' . chars(10, $digits) . '}'), chars(43, $url));
}

# What a person takes for a password: a word, digits, a sign.
sub password
{
	return pick('Sommer', 'tiger', 'Blau', 'correct', 'Xaver', 'moon', 'Qwert') . chars(3, $lower) . pick('!', '#', '$', '_', '.', '%') . chars(3, $digits) . chars(2, $upper);
}

# name => [ maker, whether it needs a name before it ]
my %kinds = (
	'GitHub' => sub { pick(map { "gh${_}_" . chars(36, $alnum) } qw(p o u s r)) },
	'GitHub, fine-grained' => sub { 'github_' . 'pat_' . chars(22, $alnum) . '_' . chars(59, $alnum) },
	'Notion' => sub { 'ntn_' . chars(11, $digits) . chars(35, $alnum) },
	'Notion, old' => sub { 'secret_' . chars(43, $alnum) },
	'AWS key id' => sub { pick('AKIA', 'ASIA') . chars(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") },
	'Slack' => sub { pick('xoxb-', 'xoxp-') . chars(12, $digits) . '-' . chars(12, $digits) . '-' . chars(24, $alnum) },
	'Slack webhook' => sub { 'https://hooks.' . 'slack.com/services/T' . chars(8, "$upper$digits") . '/B' . chars(10, "$upper$digits") . '/' . chars(24, $alnum) },
	'Google' => sub { 'AIza' . chars(35, $url) =~ s/[-_]$/a/r },
	'Google OAuth' => sub { 'GOCSPX-' . chars(28, $alnum) },
	'Stripe' => sub { pick('sk_live_', 'rk_live_', 'sk_test_') . chars(24, $alnum) },
	'OpenAI' => sub { 'sk-' . 'proj-' . chars(74, $alnum) . 'T3BlbkFJ' . chars(74, $alnum) },
	'OpenAI, old' => sub { 'sk-' . chars(20, $alnum) . 'T3BlbkFJ' . chars(20, $alnum) },
	'npm' => sub { 'npm_' . chars(36, $alnum) },
	'private key' => sub { pem(pick('RSA PRIVATE KEY', 'PRIVATE KEY', 'EC PRIVATE KEY', 'OPENSSH PRIVATE KEY')) },
	'JWT' => sub { jwt() },
);
my %named = (
	'AWS secret key' => [ sub { chars(40, "$alnum/+") }, 'aws_secret_access_key', 'AWS_SECRET_ACCESS_KEY', 'awsSecretAccessKey' ],
	'API key, hexadecimal' => [ sub { chars(32, $hex) }, 'api_key', 'API_KEY', 'apiKey', 'x-api-key' ],
	'token' => [ sub { chars(40, $alnum) }, 'access_token', 'AUTH_TOKEN', 'refreshToken', 'token' ],
	'client secret' => [ sub { chars(24, $url) =~ s/^[-_]|[-_]$/x/gr }, 'client_secret', 'CLIENT_SECRET', 'clientSecret', 'app.secret' ],
	'password' => [ sub { password() }, 'password', 'DB_PASSWORD', 'dbPassword', 'smtp_passwd' ],
);

# Returns the names of all kinds.
sub secret_kinds { return sort(keys %kinds, keys %named, 'URI'); }

# Returns a new secret of a kind that needs no name.
sub secret { return $kinds{ $_[0] }->(); }

my @words = split ' ', 'lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
	aliqua the token of appreciation was a secret password between friends and authorization came by post with a key for the house
	please reset your password before the meeting a passage about tokens and secretaries api documentation';

sub prose { return join(' ', map { pick(@words) } 1 .. $_[0]); }

# Where secrets turn up: the text before and behind one.
sub around_any
{
	return pick(
		[ prose(8) . ' ', ' ' . prose(5) ], [ '{"note": "' . prose(3) . '", "value": "', '"}' ], [ "export SOME_VALUE=\"", "\"\n" ],
		[ "* " . prose(4) . ": `", "` (" . prose(2) . ")\n" ], [ 'https://host.test/?id=7&key=', '&page=2' ], [ '', '' ], [ "line one\n", "\nline three" ],
		[ "2026-11-23 10:00:00 INFO request sent with ", ", status=200" ], [ "curl -H 'X-Auth: ", "' https://host.test/v1" ], [ prose(60) . "\n\n", "\n" . prose(60) ],
		[ "a,b,", ",d\n1,2,3,4\n" ], [ "key:\n  - \"", "\"\n" ], [ '<p>', '</p>' ]);
}

sub around_named
{
	my ($name) = @_;
	return pick([ "$name=", "\n" ], [ "$name = \"", "\"\n" ], [ "{\"$name\": \"", "\", \"port\": 5432}" ], [ "$name: '", "'\n" ], [ "  $name: ", "\n" ],
		[ prose(5) . "\n$name = '", "'\n" . prose(5) ], [ "config['$name'] = '", "';" ], [ "\"$name\" => \"", "\"," ], [ "--$name=", ' --verbose' ]);
}

# Texts without a secret that look as if.
sub innocent
{
	my $uuid = sub { join('-', map { chars($_, $hex) } 8, 4, 4, 4, 12) };
	my $sha = sub { Digest::SHA::sha256_hex(below(1e9)) };
	return pick(
		sub { 'id ' . $uuid->() . ' parent ' . $uuid->() }, sub { "{\"id\": \"" . $uuid->() . "\", \"request_id\": \"" . $uuid->() . "\"}" },
		sub { 'commit ' . chars(40, $hex) }, sub { 'sha256:' . $sha->() }, sub { 'md5 = ' . chars(32, $hex) },
		sub { '"integrity": "sha512-' . b64(64) . '"' }, sub { "etag: \"" . chars(32, $hex) . '"' }, sub { $sha->() . '  file.tar.gz' },
		sub { '<img src="data:image/png;base64,' . b64(900) . '">' }, sub { b64(300) }, sub { b64(90) =~ tr{+/}{-_}r },
		sub { prose(80) }, sub { prose(30) . '. ' . ucfirst(prose(30)) }, sub { 'Your password: please keep it secret. The token: see below.' },
		sub { pick('password', 'secret', 'api_key', 'token') . pick(' = ', ': ', '=') . pick('getenv("DB_PASS")', 'config.get("x1")', '${DB_PASSWORD}', '<your password>',
			'changeme', '********', 'process.env.API_KEY_2', '{{ vault.password }}', '$PASSWORD1', 'null', 'os.environ["TOKEN"]', '%s', 'xxxxxxxxxxxxxxxxxxxx',
			'request.form["password"]', 'user.getToken2()', 'YOUR_API_KEY_HERE', '"your-api-key-123"', '/etc/angles/secret.key', 'https://host.test/reset?x=1') },
		sub { 'postgres://user@host/db' }, sub { 'https://host.test:8443/a@b/' . chars(20, $lower) }, sub { 'postgres://user:${PASSWORD}@db/app' },
		sub { 'mailto:somebody@host.test' }, sub { 'git@host.test:org/repo.git' }, sub { 'user:password@host without a scheme' },
		sub { 'for (int i = 0; i < token_count; i++) { tokens[i] = next_token(&lexer, "' . chars(6, $lower) . '"); }' },
		sub { 'if (password == null || password.length() < 12) throw new WeakPasswordException("at least 12 characters");' },
		sub { 'token_type=bearer expires_in=3600 scope=read' }, sub { 'password_hash = "$2b$12$' . chars(53, "$alnum./") . '"' },
		sub { 'csrf_token: "' . chars(32, $alnum) . '"' }, sub { 'next_page_token="' . chars(40, $alnum) . '"' }, sub { 'public_key: ' . b64(32) },
		sub { 'ssh-ed25519 ' . b64(51) . ' user@host' }, sub { '-----BEGIN CERTIFICATE-----' . "\n" . b64(300) . "\n" . '-----END CERTIFICATE-----' },
		sub { '-----BEGIN PUBLIC KEY-----' . "\n" . b64(90) . "\n" . '-----END PUBLIC KEY-----' }, sub { 'ghp_' . 'x' x 36 }, sub { 'AKIA' . chars(8, $upper) },
		sub { 'sk-fading-circle sk-circle1 npm_config_registry npm_package_name eyJust' }, sub { 'ISBN ' . chars(13, $digits) . ', order ' . chars(10, $digits) },
		sub { 'version ' . join('.', map { below(30) } 1 .. 3) . '-rc' . below(9) . '+build.' . chars(8, $hex) }, sub { chars(10, $digits) . ';' . chars(8, $digits) . ";DE" . chars(20, $digits) },
		sub { 'secret santa: Anna, Bernd, Chris; password reset form; token ring network; pass: the mountain pass' }, sub { 'Passwort vergessen? Klicken Sie hier: https://host.test/passwort' },
		sub { "<input type=\"password\" name=\"password\" id=\"user_password\" autocomplete=\"current-password\">" }, sub { "GET /static/app." . chars(20, $hex) . ".js HTTP/1.1" },
		sub { 'SELECT secret_name, token_id FROM vault.secrets WHERE token_id = 4711' }, sub { "\xe2\x82\xac \xf0\x9f\x98\x80 " . prose(10) },
		sub { 'aws_region=eu-central-1 aws_access_key_id=${KEY}' }, sub { 'arn:aws:iam::' . chars(12, $digits) . ':role/token-service' })->();
}

# Returns n texts with a secret of each kind and as many without one: [ { text, kind (undef: none), start, end }, ... ].
sub corpus
{
	my ($n, $seed) = @_;
	my @items;

	$state = $seed // 42;
	for (1 .. $n)
	{
		foreach my $kind (sort keys %kinds)
		{
			push @items, item($kind, $kinds{$kind}->(), @{ around_any() });
		}
		foreach my $kind (sort keys %named)
		{
			my ($make, @names) = @{ $named{$kind} };
			push @items, item($kind, $make->(), @{ around_named(pick(@names)) });
		}
		my $scheme = pick('postgres', 'postgresql', 'mysql', 'mongodb+srv', 'redis', 'amqp', 'https', 'ftp');
		my ($before, $behind) = @{ around_any() };
		push @items, item('URI', pick(chars(12, $alnum), password() =~ tr/#%/!!/r), "$before$scheme://user:", '@db.host.test:5432/app' . $behind);
		push @items, { text => innocent() } for secret_kinds();
	}
	return \@items;
}

sub item
{
	my ($kind, $secret, $before, $behind) = @_;
	return { kind => $kind, text => "$before$secret$behind", start => length($before), end => length($before) + length($secret) };
}

1;
