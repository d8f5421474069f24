# The value codec against random values and hostile answers. What angles writes for a value, stored and
# answered in another form by Notion (test/lib/codec-echo.mjs), means the same value again (F1 to F8);
# and whatever Notion answers, the codec has a value or a problem, never an error (F2, F4, F5).
# CODEC_SEED repeats a run.
use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/../lib";

use AnglesTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CODEC_SEED} // soak(20261101, time);
my $share = slow_factor() > 1 ? 1 / 20 : 1;
my $rows = soak(10_000, 200_000) * $share;
my $documents = soak(20_000, 500_000) * $share;
note("CODEC_SEED=$seed");
srand($seed);

my $node = new_cluster('codec');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $json = JSON::PP->new->canonical->allow_nonref;

my $functions = q{
	CREATE SCHEMA codectest;
	CREATE FUNCTION codectest.pin() RETURNS void
	LANGUAGE C AS '$libdir/angles', 'angles_codec_test_pin';
	CREATE FUNCTION codectest.local(value anyelement, wished text, not_null boolean,
		options text[], OUT type text, OUT schema text, OUT canon text, OUT write text,
		OUT problem text, OUT sql text, OUT again text)
	LANGUAGE C AS '$libdir/angles', 'angles_codec_test_local';
	CREATE FUNCTION codectest.remote(value anyelement, wished text, not_null boolean,
		options text[], property jsonb, OUT canon text, OUT truncated boolean, OUT problem text,
		OUT sql text, OUT again text)
	LANGUAGE C AS '$libdir/angles', 'angles_codec_test_remote';
	CREATE FUNCTION codectest.parse(bytea) RETURNS text
	LANGUAGE C STRICT AS '$libdir/angles', 'angles_codec_test_parse';
	CREATE FUNCTION codectest.parsed(bytea) RETURNS jsonb
	LANGUAGE C STRICT AS '$libdir/angles', 'angles_codec_test_parsed';
};
$node->sql($functions . q{
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy "day"', 'o''k\\', U&'\+01F600');
	CREATE DOMAIN feeling AS mood;
	CREATE TYPE pair AS (a integer, b text);
	CREATE DOMAIN even AS integer CHECK (VALUE % 2 = 0);
});

# ---- random values ----

sub below { return int(rand($_[0])) }
sub one_of { return $_[ rand @_ ] }
sub many { my ($n, $sub) = @_; return map { $sub->() } 1 .. $n }

# What has broken programs: pairs, joined and combining characters, both directions, controls, words of
# formats and languages, and characters that some split lines at.
my @hostile = ('😀', '👩‍👩‍👧', "e\x{301}", "\x{1F1E9}\x{1F1EA}", "\x{202E}abc\x{202C}", 'שלום', 'مرحبا', "\x{200B}", "\x{FEFF}",
	"\x{2028}", "\x{2029}", "\x{85}", "\x{A0}", "\x{FFFD}", "\x{FFFF}", "\x{10FFFF}", "\x{E000}", "\x01", "\x08", "\x1b[31m",
	"\x7f", "\t", "\n", "\r\n", "'", '"', '\\', '\\\\', '\\n', '\\u0041', "\\'", '""', '$$', '{', '}', '[', ']', ',', ';',
	'NULL', 'null', 'true', '-0', '1e400', '<b>', '&amp;', '%00', '%s', '--', '/*', '字', 'ß', 'İ', 'ǅ', "Z\x{335}\x{31B}\x{358}",
	' ', '  ');

sub text_of
{
	my ($max) = @_;
	my $text = '';
	for (my $n = 1 + below(12); $n > 0; $n--)
	{
		$text .= below(2) ? one_of(@hostile) : chr(33 + below(94)) x (1 + below(6));
	}
	return substr($text, 0, $max // 1_000_000);
}

# Long texts end near the limits of pieces, with what must not be cut there.
sub long_text
{
	my $edge = one_of(1_990 .. 2_010, 3_990 .. 4_010, 20_000);
	my $text = one_of('x', '字', '😀', '"', "\n", "e\x{301}") x $edge;
	my $at = below(12);
	substr($text, $edge - $at, 0) = join('', many(6, sub { one_of(@hostile) })) if length $text > $at;
	return $text;
}

sub any_text { my $kind = below(40); return $kind == 0 ? '' : $kind == 1 ? ' ' x below(5) : $kind < 4 ? long_text() : text_of() }
sub array_of
{
	my ($sub) = @_;
	return '{' . join(',', map { my $v = $_; $v =~ s/([\\"])/\\$1/g; qq{"$v"} } many(below(6), $sub)) . '}';
}
sub whole { my ($bits) = @_; my $n = below(2**one_of(1 .. $bits)); return below(2) ? $n : -$n }
sub decimal { return one_of('', '-') . join('', many(1 + below(one_of(3, 9, 22)), sub { below(10) })) . (below(2) ? '.' . join('', many(1 + below(one_of(3, 9, 22)), sub { below(10) })) : '') }
sub double { return one_of('0', '-0', 'NaN', 'Infinity', '5e-324', '1.7976931348623157e308', '1e21', '-1e-7', map { sprintf('%.17g', (rand() - 0.5) * 10**(below(40) - 20)) } 1 .. 20) }
sub day { return one_of('infinity', '0001-01-01', '9999-12-31', '2024-02-29', '0044-03-15 BC', '12026-01-01', map { sprintf('%04d-%02d-%02d', 1 + below(9999), 1 + below(12), 1 + below(28)) } 1 .. 30) }
sub clock { return sprintf('%02d:%02d:%02d', below(24), below(60), below(60)) . one_of('', '', '.5', '.123456', '.999999', '.000001') }
sub moment { my $day = day(); return $day =~ /^\d{4}-\S+$/ ? "$day " . clock() : $day }
sub json_of { return $json->encode(one_of(text_of(), [ many(below(3), \&text_of) ], { many(2 * below(3), \&text_of) }, undef)) }

# Name, SQL type, wished property, not null, values; what else counts as the same value, if anything;
# what share of the values at most may be refused.
my @kinds = (
	[ 'F2, F3: text', 'text', undef, 0, \&any_text ],
	[ 'F2, F3: text, title', 'text', 'title', 0, \&any_text ],
	[ 'F2: text without null', 'text', undef, 1, \&any_text ],
	[ 'F2: char(30)', 'char(30)', undef, 0, sub { text_of(30) } ],
	[ 'F8: varchar', 'varchar', undef, 0, \&text_of ],
	[ 'F6: select', 'text', 'select', 0, sub { text_of(60) }, undef, 0.6 ],
	[ 'F6: status', 'text', 'status', 0, sub { text_of(60) }, undef, 0.6 ],
	[ 'F8: url', 'text', 'url', 0, \&text_of ],
	[ 'F8: email', 'text', 'email', 0, sub { text_of(40) } ],
	[ 'F8: phone_number', 'varchar', 'phone_number', 0, sub { text_of(40) } ],
	[ 'F6: enum', 'mood', undef, 0, sub { one_of('sad', 'ok', 'happy "day"', q{o'k\\}, '😀') } ],
	[ 'F6: domain over enum', 'feeling', undef, 0, sub { one_of('sad', 'ok') } ],
	[ 'F6: text[]', 'text[]', undef, 0, sub { array_of(sub { text_of(60) }) }, 'sorted(v) = sorted(b)', 0.9 ],
	[ 'F6: enum[]', 'mood[]', undef, 0, sub { array_of(sub { one_of('sad', 'ok', '😀') }) }, 'sorted(v) = sorted(b)', 0.9 ],
	[ 'F8: boolean', 'boolean', undef, 0, sub { one_of('t', 'f') } ],
	[ 'F8: boolean without null', 'boolean', undef, 1, sub { one_of('t', 'f') } ],
	[ 'F1: smallint', 'smallint', undef, 0, sub { one_of(-32768, 32767, whole(15)) } ],
	[ 'F1: integer', 'integer', undef, 0, sub { one_of(-2147483648, 2147483647, whole(31)) } ],
	[ 'F1: domain over integer', 'even', undef, 0, sub { 2 * whole(20) } ],
	[ 'F1: bigint', 'bigint', undef, 0, sub { one_of('9007199254740992', '9007199254740993', '-9223372036854775808', whole(53), whole(53), whole(53)) }, undef, 0.6 ],
	[ 'F1: bigint as text', 'bigint', 'rich_text', 0, sub { one_of('9007199254740993', '-9223372036854775808', whole(53)) } ],
	[ 'F1: numeric', 'numeric', undef, 0, \&decimal, 'v = b', 0.8 ],
	[ 'F1: numeric as text', 'numeric', 'rich_text', 0, \&decimal ],
	[ 'F1: double precision', 'float8', undef, 0, \&double, 'v = b', 0.2 ],
	[ 'F1: real', 'float4', undef, 0, sub { sprintf('%.9g', (rand() - 0.5) * 10**(below(30) - 15)) }, 'v = b' ],
	[ 'F4: date', 'date', undef, 0, \&day, undef, 0.3 ],
	[ 'F4: timestamptz', 'timestamptz', undef, 0, \&moment, q{date_trunc('milliseconds', v) = b}, 0.3 ],
	[ 'F4: timestamp', 'timestamp', undef, 0, \&moment, q{date_trunc('milliseconds', v) = b}, 0.3 ],
	[ 'F4: timestamptz as text', 'timestamptz', 'rich_text', 0, \&moment ],
	[ 'F8: interval', 'interval', undef, 0, sub { whole(12) . ' mons ' . whole(9) . ' days ' . one_of('', '-') . clock() } ],
	[ 'F8: time', 'time', undef, 0, \&clock ],
	[ 'F8: jsonb', 'jsonb', undef, 0, \&json_of ],
	[ 'F8: json', 'json', undef, 0, \&json_of ],
	[ 'F8: uuid', 'uuid', undef, 0, sub { join('', many(32, sub { sprintf '%x', below(16) })) } ],
	[ 'F8: inet', 'inet', undef, 0, sub { join('.', many(4, sub { below(256) })) . one_of('', '/8', '/32') } ],
	[ 'F8: bytea', 'bytea', undef, 0, sub { '\\x' . join('', many(below(300), sub { sprintf '%02x', below(256) })) } ],
	[ 'F8: integer[]', 'integer[]', undef, 0, sub { array_of(sub { whole(31) }) } ],
	[ 'F8: text[] as text', 'text[]', 'rich_text', 0, sub { array_of(\&text_of) } ],
	[ 'F8: daterange', 'daterange', undef, 0, sub { '[' . one_of('2026-01-01', '') . ',' . one_of('2026-02-03', '') . ')' } ],
	[ 'F8: row', 'pair', undef, 0, sub { my $v = text_of(); $v =~ s/(["\\])/$1$1/g; '(' . whole(9) . qq{,"$v")} } ],
);

# ---- there and back ----

# Writes lines to a file of the server's user and copies them into a table.
sub copy_in
{
	my ($table, @lines) = @_;
	my $bytes = join('', map { "$_\n" } @lines);
	utf8::encode($bytes);
	my $file = "$dir/" . ($table =~ tr/a-z0-9_/_/cr);
	open(my $fh, '>:raw', $file) or die "could not write $file: $!";
	print $fh $bytes;
	close $fh or die "could not write $file: $!";
	chmod 0644, $file;
	$node->sql("COPY $table FROM '$file' (ENCODING 'UTF8')");
}

# A field of COPY.
sub field
{
	my ($value) = @_;
	return '\\N' unless defined $value;
	return $value =~ s/([\\\n\r\t])/{"\\" => '\\\\', "\n" => '\\n', "\r" => '\\r', "\t" => '\\t'}->{$1}/ger;
}

# What Notion would answer to the writes of table pushed goes into table pulled.
sub through_notion
{
	my ($in, $out) = ("$dir/writes", "$dir/answers");
	$node->sql("COPY (SELECT replace(encode(convert_to(json_build_object('id', id, 'type', type, 'write', write)::text,
		'UTF8'), 'hex'), E'\\n', '') FROM pushed WHERE write IS NOT NULL ORDER BY id) TO '$in'");
	# hex, because COPY would escape backslashes
	open(my $from, '<', $in) or die "could not read $in: $!";
	open(my $to, '>:raw', "$in.json") or die "could not write $in.json: $!";
	while (my $line = <$from>) { chomp $line; print $to pack('H*', $line), "\n" }
	close $to or die "could not write $in.json: $!";
	close $from;
	my $node_js = $ENV{NODE} || 'node';
	my $status = system("$node_js '$FindBin::Bin/../lib/codec-echo.mjs' $seed < '$in.json' > '$out'");
	is($status, 0, 'F3: Notion reads what angles wrote') or return;
	# JSON has no control characters, so these two can stand for quotes and separators
	$node->sql("TRUNCATE pulled; COPY pulled FROM '$out' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')");
}

$node->sql(q{
	CREATE TABLE cases (kind integer, id integer, value text);
	CREATE TABLE pushed (kind integer, id integer PRIMARY KEY, type text, canon text, write text,
		problem text, sql text, again text);
	CREATE TABLE pulled (answer jsonb);
	CREATE FUNCTION sorted(anyarray) RETURNS anyarray LANGUAGE sql
	AS 'SELECT array_agg(e::text COLLATE "C" ORDER BY e::text COLLATE "C")::text[] FROM unnest($1) e';
} =~ s/RETURNS anyarray/RETURNS text[]/r);

my (@cases, $id);
for my $kind (0 .. $#kinds)
{
	# texts are where most can go wrong
	my $n = int($rows / @kinds * ($kinds[$kind][0] =~ /F3/ ? 8 : 1)) + 1;
	push @cases, map { join("\t", $kind, ++$id, field(below(25) ? $kinds[$kind][4]->() : undef)) } 1 .. $n;
}
copy_in('cases', @cases);
cmp_ok($id, '>=', $rows, "F8: $id random values of " . @kinds . ' kinds');

for my $kind (0 .. $#kinds)
{
	my ($name, $type, $wished, $not_null) = @{ $kinds[$kind] };
	my $arguments = sprintf('%s, %s, NULL', $wished ? "'$wished'" : 'NULL', $not_null ? 'true' : 'false');
	# a column without null has none
	$node->sql("DELETE FROM cases WHERE kind = $kind AND value IS NULL") if $not_null;
	my ($state, $message) = $node->sql_error("SELECT codectest.pin(); SET search_path = public, pg_catalog;
		INSERT INTO public.pushed SELECT kind, id, l.type, l.canon, l.write, l.problem, l.sql, l.again
		FROM public.cases, codectest.local(value::text::$type, $arguments) l WHERE kind = $kind");
	is($state, '', "$name: every value has a form or a problem") or diag($message);
}
through_notion();
is($node->sql(q{SELECT string_agg(format('%s: %s', left(p.canon, 100), answer->>'refused'), E'\n')
	FROM (SELECT answer FROM pulled WHERE answer ? 'refused' LIMIT 5) a, pushed p WHERE p.id = (answer->>'id')::int}),
	'', 'F3: Notion refuses none of it');

for my $kind (0 .. $#kinds)
{
	my ($name, $type, $wished, $not_null, undef, $same, $refused) = @{ $kinds[$kind] };
	my $arguments = sprintf('%s, %s, NULL', $wished ? "'$wished'" : 'NULL', $not_null ? 'true' : 'false');
	$same //= 'v::text = b::text';
	my $sql = "SELECT codectest.pin(); SET search_path = public, pg_catalog;
		CREATE TEMP TABLE result AS SELECT p.id, c.value, p.canon, p.problem AS refused, p.again AS at_home, r.*,
			c.value::$type AS v, r.sql::$type AS b
		FROM pushed p JOIN cases c USING (id) LEFT JOIN pulled a ON (a.answer->>'id')::int = p.id
		CROSS JOIN LATERAL codectest.remote(NULL::$type, $arguments, coalesce(a.answer->'property', '{}'))
			AS r(remote, truncated, problem, sql, again)
		WHERE p.kind = $kind;
		SELECT count(*), count(*) FILTER (WHERE refused IS NOT NULL),
			count(*) FILTER (WHERE refused IS NULL AND (problem IS NOT NULL OR truncated OR remote IS DISTINCT FROM canon)),
			count(*) FILTER (WHERE refused IS NULL AND (again IS DISTINCT FROM canon OR at_home IS DISTINCT FROM canon)),
			count(*) FILTER (WHERE refused IS NULL AND NOT coalesce($same, v IS NULL AND b IS NULL)
				AND NOT (coalesce(v::text, '') = '' AND coalesce(b::text, '') = '')
				AND NOT (v::text = '{}' AND b::text = '{}') AND NOT (v IS NULL AND b::text = '{}')),
			(SELECT left(row_to_json(x)::text, 1500) FROM result x WHERE refused IS NULL AND (problem IS NOT NULL
				OR remote IS DISTINCT FROM canon OR again IS DISTINCT FROM canon
				OR NOT coalesce($same, v IS NULL AND b IS NULL)) LIMIT 1)
		FROM result";
	my ($state, $out) = $node->sql_error($sql);
	is($state, '', "$name: Notion's answers are read") or do { diag($out); next };
	my ($n, $n_refused, $drift, $drift_here, $lost, $example) = split(/\|/, (split(/\n/, $out))[-1], 6);
	is("$drift, $drift_here, $lost", '0, 0, 0', "$name: $n values come back as they were, $n_refused refused")
	  or diag($example);
	cmp_ok($n_refused, '<=', $n * ($refused // 0), "$name: not more refused than expected");
	cmp_ok($n_refused, '<', $n, "$name: not all refused");
}

# ---- hostile answers ----

my @corpus = map { $json->decode($_) } (
	'{"id":"title","type":"title","title":[{"type":"text","text":{"content":"a","link":null},"annotations":{"bold":true},"plain_text":"a","href":null}]}',
	'{"id":"a","type":"rich_text","rich_text":[{"text":{"content":"a"}},{"type":"equation","equation":{"expression":"x"},"plain_text":"x"}],"has_more":false}',
	'{"type":"number","number":12.5}', '{"type":"checkbox","checkbox":true}',
	'{"type":"select","select":{"id":"1","name":"ok","color":"red"}}', '{"type":"select","select":{"name":"true"}}',
	'{"type":"status","status":{"id":"2","name":"Done"}}', '{"type":"multi_select","multi_select":[{"name":"b"},{"name":"a"}]}',
	'{"type":"date","date":{"start":"2026-11-01T09:30:00.000+01:00","end":"2026-11-02T09:30:00Z","time_zone":"Europe/Berlin"}}',
	'{"type":"date","date":{"start":"2026-11-01","end":null}}', '{"type":"url","url":"https://example.org"}',
	'{"type":"email","email":"a@b.example"}', '{"type":"phone_number","phone_number":"+49"}',
	'{"type":"relation","relation":[{"id":"p1"},{"id":"p2"}],"has_more":true}',
	'{"type":"files","files":[{"name":"a"}]}', '{"type":"formula","formula":{"type":"number","number":3}}');
my @words = qw(id type title rich_text number checkbox select status multi_select date url email phone_number relation
	has_more start end time_zone name text content plain_text object);

# Perl's numbers are doubles; these stay as they are until they are written.
my $raw = "\x{F8FF}";
sub number_of { return $raw . one_of(0, -1, '1e308', '1e999', '-1e-999', '1e100000', '123456789012345678901234567890', '0.1') }
sub encoded { return $json->encode($_[0]) =~ s/"$raw([^"]*)"/$1/gr }

sub random_json
{
	my ($depth) = @_;
	my $kind = below($depth > 4 ? 5 : 8);
	return one_of(JSON::PP::null, JSON::PP::true, JSON::PP::false) if $kind == 0;
	return number_of() if $kind == 1;
	return one_of(@words, '2026-11-01', '2026-02-30', '2026-11-01T09:30:00Z', '9999-12-31T23:59:59-15:59', 'infinity') if $kind == 2;
	return any_text() if $kind < 5;
	return [ map { random_json($depth + 1) } 1 .. below(4) ] if $kind < 7;
	return { map { one_of(@words) => random_json($depth + 1) } 1 .. below(4) };
}

# A copy with one or more places changed.
sub mutated
{
	my ($value, $depth) = @_;
	return random_json($depth) if below(12) == 0;
	if (ref $value eq 'ARRAY')
	{
		my @copy = map { mutated($_, $depth + 1) } @$value;
		push @copy, random_json($depth) if below(8) == 0;
		return below(20) == 0 && @copy ? $copy[0] : \@copy;
	}
	if (ref $value eq 'HASH')
	{
		my %copy = map { (below(15) == 0 ? one_of(@words) : $_) => mutated($value->{$_}, $depth + 1) } sort keys %$value;
		delete $copy{ one_of(sort keys %copy) } if %copy && below(12) == 0;
		return below(20) == 0 ? [ \%copy ] : \%copy;
	}
	return $value unless defined $value && !ref $value && $value !~ /$raw/ && below(6) == 0;
	# one character more or less
	my $text = "$value";
	substr($text, below(1 + length $text), below(2)) = one_of(@hostile, chr(33 + below(94)), '');
	return $text;
}

sub mutated_bytes
{
	my ($text) = @_;
	utf8::encode($text);
	for (0 .. below(3))
	{
		my $at = below(1 + length $text);
		my $kind = below(5);
		if ($kind == 0) { substr($text, $at) = '' }
		elsif ($kind == 1) { substr($text, $at, 0) = chr(below(256)) }
		elsif ($kind == 2 && $at < length $text) { substr($text, $at, 1) = chr(below(256)) }
		elsif ($kind == 3) { substr($text, $at, 0) = one_of("\0", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", '\\u0000', '\\ud83d', '\\ude00', '[' x 200, '{"a":' x 200) }
		else { substr($text, $at, below(4)) = substr($text, below(1 + length $text), below(20)) }
	}
	return $text;
}

$node->sql(q{
	CREATE TABLE answers (id integer PRIMARY KEY, answer jsonb);
	CREATE TABLE bytes (id integer PRIMARY KEY, bytes bytea);
	CREATE TABLE findings (what text, detail text);
	-- Reads one answer as each kind of property. The types take every text that the codec hands them,
	-- so an error of any kind is one of the codec.
	CREATE FUNCTION read_all(answer jsonb, OUT problems integer, OUT held integer) LANGUAGE plpgsql AS $$
	DECLARE
		wished text;
		r record;
	BEGIN
		problems := 0;
		held := 0;
		FOREACH wished IN ARRAY '{title,rich_text,number,checkbox,select,status,multi_select,date,day,url,email,
			phone_number,relation,boolean}'::text[] LOOP
			BEGIN
				CASE wished
					WHEN 'number' THEN r := codectest.remote(NULL::float8, wished, false, NULL, answer);
					WHEN 'checkbox' THEN r := codectest.remote(NULL::boolean, wished, false, NULL, answer);
					WHEN 'boolean' THEN r := codectest.remote(NULL::boolean, NULL, false, NULL, answer);
					WHEN 'multi_select' THEN r := codectest.remote(NULL::text[], wished, false, NULL, answer);
					WHEN 'date' THEN r := codectest.remote(NULL::timestamptz, wished, false, NULL, answer);
					WHEN 'day' THEN r := codectest.remote(NULL::date, NULL, true, NULL, answer);
					ELSE r := codectest.remote(NULL::text, wished, false, NULL, answer);
				END CASE;
				IF r.problem IS NULL AND wished <> 'relation' AND r.again IS DISTINCT FROM r.canon THEN
					INSERT INTO public.findings VALUES (wished || ' drifts',
						format('%s: %s, then %s', answer, r.canon, r.again));
				END IF;
				PERFORM r.canon::jsonb;
				problems := problems + (r.problem IS NOT NULL)::int;
				held := held + (r.problem IS NULL)::int;
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO public.findings VALUES (wished || ' raises ' || SQLSTATE, format('%s: %s', answer, SQLERRM));
			END;
		END LOOP;
	END $$;
	-- JSON in which text from outside is no JSON for us either, or is read like any other answer.
	CREATE FUNCTION read_bytes(bytes bytea) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		problem text := codectest.parse(bytes);
	BEGIN
		IF problem IS NULL THEN
			PERFORM public.read_all(codectest.parsed(bytes));
		END IF;
		RETURN problem IS NULL;
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO public.findings VALUES ('parse raises ' || SQLSTATE, format('%s: %s', bytes, SQLERRM));
		RETURN false;
	END $$;
});
my @answers = map { encoded(below(20) ? mutated(one_of(@corpus), 0) : random_json(0)) } 1 .. $documents;
my $n_bytes = int($documents / 2);
my @bytes = map { '\\\\x' . unpack('H*', mutated_bytes($json->encode(one_of(@corpus)))) } 1 .. $n_bytes;
copy_in('answers', map { "$_\t" . field($answers[$_]) } 0 .. $#answers);
copy_in('bytes', map { "$_\t$bytes[$_]" } 0 .. $#bytes);

my $before = $node->sql('SELECT pg_postmaster_start_time()');
my ($state, $out) = $node->sql_error('SELECT codectest.pin(); SET search_path = public, pg_catalog;
	SELECT sum(problems), sum(held) FROM answers, read_all(answer)');
is($state, '', "F2, F4, F5, F6, F7: $documents answers of any shape do not end the session") or diag($out);
my ($problems, $values) = split(/\|/, (split(/\n/, $out))[-1]);
cmp_ok($values, '>', $documents / 4, "F5: $values of them were values, $problems problems");
cmp_ok($problems, '>', $documents, 'F5: and many were problems');
($state, $out) = $node->sql_error('SELECT codectest.pin(); SET search_path = public, pg_catalog;
	SELECT count(*) FILTER (WHERE read_bytes(bytes)) FROM bytes');
is($state, '', "F3: $n_bytes answers with damaged bytes do not end the session") or diag($out);
my $still = (split(/\n/, $out))[-1];
cmp_ok($still, '>', $n_bytes / 100, "F3: $still were JSON still");
is($node->sql(q{SELECT string_agg(what || ': ' || left(detail, 600), E'\n') FROM (SELECT * FROM findings LIMIT 10) f}), '',
	'F2, F4, F5, F6, F7: each has a value that stays the same, or a problem; none raises an error');
for my $deep ('[' x 129, '[' x 100_000, '{"a":' x 5000, '{"title":' . '[' x 128)
{
	is($node->sql("SELECT codectest.parse('$deep')"), 'the answer is nested too deeply',
		'F5: depth of ' . ($deep =~ tr/[{//) . ' is refused');
}
is($node->sql('SELECT pg_postmaster_start_time()'), $before, 'F5: the server was not ended by any of it');

# ---- databases that are not UTF8 ----

for my $encoding ('LATIN1', 'EUC_JP', 'SQL_ASCII')
{
	my $db = lc $encoding;
	$node->sql("CREATE DATABASE $db ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->sql($functions, $db);
}
# SQL_ASCII as the client's encoding: bytes go in and come out as they are
my $local = q{SET client_encoding = 'SQL_ASCII';
	SELECT l.problem, l.again = l.canon, json_array_length(l.write::json -> 'rich_text') FROM codectest.local(%s, NULL, false, NULL) l};
is($node->sql(sprintf($local, q{chr(233) || repeat(chr(228), 1999)}), 'latin1'), '|t|1',
	'F3: a database in LATIN1: 2,000 letters, of two bytes in UTF-8, are one piece');
is($node->sql(q{SELECT r.problem, r.again = r.canon, r.sql = chr(233)
	FROM codectest.remote(NULL::text, 'url', false, NULL, jsonb_build_object('url', chr(233))) r}, 'latin1'), '|t|t',
	'F3: and back');
is($node->sql(sprintf($local, q{repeat(convert_from('\xb0a1', 'EUC_JP'), 1001)}), 'euc_jp'), '|t|2',
	'F3: a database in EUC_JP: pieces may be short, never too long');
is($node->sql(sprintf($local, q{E'\xff'::text}), 'sql_ascii'), 'the text holds bytes that are no characters of UTF-8||',
	'F3: a database in SQL_ASCII: what is no UTF-8 is a problem');
is($node->sql(sprintf($local, q{repeat('x', 1999) || E'\xf0\x9f\x98\x80'}), 'sql_ascii'), '|t|2',
	'F3: and what is UTF-8 is cut between characters');
is($node->sql(q{SET client_encoding = 'SQL_ASCII'; SELECT l.problem
	FROM codectest.local(ARRAY[E'\xff'], NULL, false, NULL) l}, 'sql_ascii'),
	'the text holds bytes that are no characters of UTF-8', 'F6: nor are such options written');
done_testing();
