# Answers of Notion, whole and bent at random, against a second reading in SQL: a value is what that reading
# says, what cannot be read is a problem and never passes for empty, and a problem tells nothing of the
# value (200_codec.pl asks whether anything raises an error). What was read is written and read again.
# valgrind: yes
use strict;
use warnings;

use JSON::PP;
use Test::More;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use AnglesTest;

my $seed = soak(20261101, time);
my $documents = soak(20_000, 400_000) / (slow_factor() > 1 ? 40 : 1);
srand($seed);
note("seed $seed, $documents documents");

my $json = JSON::PP->new->utf8->allow_nonref->canonical;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

sub one_of { return $_[ rand @_ ]; }

# ---- what a person's page may hold ----

my @plain = ('', 'a', 'b', 'A', "\x{e9}", "e\x{301}", "\x{1f600}", "\x{202e}x", ' ', "\n", ',', 'a,b', 'true', 'false',
	'null', '"', '\\', '{}', 'NULL', "\x{1}", "\x{fffd}", "\x{10ffff}", 'x' x 100, 'x' x 101, 'y' x 2001);

sub plain { return rand() < 0.7 ? one_of(@plain) : join('', map { one_of(@plain[0 .. 20]) } 0 .. rand 5); }

my @moments = ('2026-11-01', '2026-11-01T09:30:00.000+00:00', '2026-11-01T09:30:00Z', '2026-03-29T02:30', '0001-01-01',
	'9999-12-31T23:59:59.999-12:00', '2024-02-29', '2026-02-29', '2026-11-01T24:00:00Z', '+002026-11-01', 'infinity', 'now',
	'2026-11-01T09:30:00.0000001+05:45', '2026-11-01T09:30:00+99:00', '2026-W01-1', "2026-11-01\x{660}", 'epoch', '-1-1-1');
my @zones = (undef, undef, 'UTC', 'Europe/Berlin', 'America/New_York', 'No/Where', '../../etc/passwd', '', 'x' x 300, 'EST5EDT',
	"\x{1f600}", 'posixrules', '<+05>-5');
my @numbers = (0, -0.0, 1, -1, 1.5, 0.1, 2**31, -2**31 - 1, 2**53, 2**53 + 2, 1e21, 1e-7, 1e300, 5e-324, 32767, 32768);

sub text_item
{
	my $words = plain();
	return one_of(
		{ type => 'text', text => { content => $words, link => undef }, annotations => { bold => $true }, plain_text => $words, href => undef },
		{ text => { content => $words } },
		{ type => 'mention', mention => { type => 'page', page => { id => 'x' } }, plain_text => $words },
		{ type => 'equation', equation => { expression => $words }, plain_text => $words });
}

sub option { return { id => 'o' . int(rand 99), name => plain(), color => 'red' }; }
sub some { my ($maker, $most) = @_; return [ map { $maker->() } 1 .. rand $most ]; }

my %values = (
	title => sub { some(\&text_item, 4) },
	rich_text => sub { some(\&text_item, 6) },
	number => sub { rand() < 0.1 ? undef : 0 + one_of(@numbers) },
	checkbox => sub { one_of($true, $false) },
	select => sub { rand() < 0.1 ? undef : option() },
	status => sub { rand() < 0.1 ? undef : option() },
	multi_select => sub { some(\&option, 5) },
	date => sub { rand() < 0.1 ? undef
		  : { start => one_of(@moments), end => rand() < 0.8 ? undef : one_of(@moments), time_zone => one_of(@zones) } },
	url => sub { rand() < 0.1 ? undef : plain() },
	email => sub { rand() < 0.1 ? undef : plain() },
	phone_number => sub { rand() < 0.1 ? undef : plain() },
	relation => sub { some(sub { return { id => plain() } }, 5) });

# ---- bending ----

sub nonsense
{
	return one_of(undef, $true, $false, one_of(@numbers), plain(), [], {}, [undef], [[]], { name => {} }, { id => [] },
		[ plain() ], { plain_text => plain() }, [ { plain_text => 7 } ], [ map { undef } 1 .. 300 ]);
}

# Returns the value with one of its parts, at any depth, replaced, renamed, doubled or left out.
sub bend
{
	my ($value) = @_;
	return nonsense() if rand() < 0.25 || !ref $value || JSON::PP::is_bool($value);
	if (ref $value eq 'ARRAY')
	{
		return [ nonsense() ] if !@$value;
		my @items = @$value;
		my $i = int rand @items;
		my $how = rand;
		if ($how < 0.6) { $items[$i] = bend($items[$i]); }
		elsif ($how < 0.7) { splice @items, $i, 1; }
		elsif ($how < 0.85) { push @items, $items[$i]; }
		else { return { value => \@items }; }
		return \@items;
	}
	my %members = %$value;
	my $name = one_of(sort keys %members) // return nonsense();
	my $how = rand;
	if ($how < 0.6) { $members{$name} = bend($members{$name}); }
	elsif ($how < 0.75) { delete $members{$name}; }
	elsif ($how < 0.85) { $members{ uc $name } = delete $members{$name}; }
	elsif ($how < 0.95) { $members{ plain() } = nonsense(); }
	else { return [ \%members ]; }
	return \%members;
}

# Returns the bytes with some of them changed, cut, doubled, or with what parsers stumble over put in.
sub break
{
	my ($bytes) = @_;
	for (0 .. rand 3)
	{
		my $at = int rand length $bytes;
		my $how = rand;
		if ($how < 0.3) { substr($bytes, $at, 1) = chr rand 256; }
		elsif ($how < 0.4) { substr($bytes, $at, 1 + rand 9) = ''; }
		elsif ($how < 0.5) { $bytes = substr($bytes, 0, $at); }
		else
		{
			substr($bytes, $at, 0) = one_of('\u0000', '\ud800', '\udc00', '\ud83d\ude00', '\u00', '\x', '"', '\\', '{', '[', ',', ':', "\0",
				"\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xff", 'NaN', '-', '1e999', '1e-999', '9' x 400, '[' x 200, '{"a":' x 130, '/**/');
		}
		return $bytes if $bytes eq '';
	}
	return $bytes;
}

# ---- the table of documents: columns are what COPY reads ----

my $node = new_cluster('fuzz', preload => '', create => 0);
my $file = PostgreSQL::Test::Utils::tempdir() . '/documents';
my @types = sort keys %values;
open(my $out, '>:raw', $file) or die "could not write $file: $!";
for my $i (1 .. $documents)
{
	my $type = one_of(@types);
	my $value = $values{$type}->();
	my $kind = one_of('good', 'bent', 'bent', 'broken');
	$value = bend($value) if $kind ne 'good';
	my $property = { id => '%3AUPp', type => $type, $type => $value };
	$property = bend($property) if $kind ne 'good' && rand() < 0.1;
	$property->{has_more} = one_of($true, $false, 1, undef) if ref $property eq 'HASH' && rand() < 0.1;
	my $bytes = $json->encode($property);
	$bytes = break($bytes) if $kind eq 'broken';
	print $out join("\t", $i, $kind, $type, '\\\\x' . unpack('H*', $bytes)), "\n";
}
close $out or die "could not write $file: $!";

$node->sql(<<'SQL');
CREATE SCHEMA fuzz;
CREATE FUNCTION fuzz.pin() RETURNS void LANGUAGE C AS '$libdir/angles', 'angles_codec_test_pin';
CREATE FUNCTION fuzz.parse(bytea) RETURNS text LANGUAGE C AS '$libdir/angles', 'angles_codec_test_parse';
CREATE FUNCTION fuzz.parsed_as(bytea) RETURNS jsonb LANGUAGE C AS '$libdir/angles', 'angles_codec_test_parsed';
CREATE FUNCTION fuzz.write(type text, canon text) RETURNS text LANGUAGE C AS '$libdir/angles', 'angles_codec_test_write';
CREATE FUNCTION fuzz.remote(
    value anyelement, wished text, not_null boolean, options text[], property jsonb,
    OUT canon text, OUT truncated boolean, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_remote';
CREATE TABLE fuzz.documents (id int, kind text, type text, bytes bytea);
-- columns whose input takes whatever the codec lets through: an error is the codec's
CREATE FUNCTION fuzz.read(type text, property jsonb)
RETURNS TABLE (sqltype text, canon text, truncated boolean, problem text, sql text, again text) LANGUAGE plpgsql AS $$
DECLARE
    col text;
BEGIN
    FOREACH col IN ARRAY CASE
        WHEN type IN ('title', 'rich_text', 'status', 'url', 'email', 'phone_number', 'relation') THEN ARRAY['text', 'varchar']
        WHEN type = 'number' THEN ARRAY['smallint', 'integer', 'bigint', 'numeric', 'double precision']
        WHEN type = 'checkbox' THEN ARRAY['boolean']
        WHEN type = 'select' THEN ARRAY['text', 'boolean']
        WHEN type = 'multi_select' THEN ARRAY['text[]', 'varchar[]']
        WHEN type = 'date' THEN ARRAY['date', 'timestamp', 'timestamptz'] END
    LOOP
        RETURN QUERY EXECUTE format('SELECT %L, r.* FROM fuzz.remote(NULL::%s, $1, false, NULL, $2) r', col, col) USING type, property;
    END LOOP;
END $$;
SQL
$node->sql("COPY fuzz.documents FROM '$file'");
is($node->sql('SELECT count(*) FROM fuzz.documents'), $documents, 'the documents are there');

# ---- bytes ----

$node->sql(<<'SQL');
CREATE TABLE fuzz.parsed AS SELECT *, fuzz.parse(bytes) AS problem FROM fuzz.documents;
SQL
is($node->sql("SELECT count(*) FROM fuzz.parsed WHERE kind <> 'broken' AND problem IS NOT NULL"), 0, 'JSON is read');
cmp_ok($node->sql("SELECT count(*) FROM fuzz.parsed WHERE kind = 'broken' AND problem IS NOT NULL"), '>', $documents / 20,
	'broken bytes are refused with a reason, and without an error');
is($node->sql("SELECT string_agg(DISTINCT problem, '; ') FROM fuzz.parsed WHERE problem !~ '^the answer [a-zA-Z0-9 ()-]+\$'"), '',
	'a reason holds nothing of the answer');

# ---- values ----

$node->sql(<<'SQL');
SELECT fuzz.pin();
CREATE TABLE fuzz.seen AS
SELECT d.id, d.kind, d.type, p.property, r.*
FROM (SELECT * FROM fuzz.parsed WHERE problem IS NULL OFFSET 0) d,
    LATERAL (SELECT fuzz.parsed_as(bytes) AS property OFFSET 0) p, fuzz.read(d.type, p.property) r;
SQL

# Returns the count and the shortest five of the rows that break a rule.
sub breakers
{
	my ($where) = @_;
	return $node->sql("SELECT count(*) || coalesce(': ' || string_agg(left(sqltype || ' ' || property, 300)
		|| ' gives ' || coalesce(canon, 'problem ' || problem), E'\\n') FILTER (WHERE n <= 5), '')
		FROM (SELECT *, row_number() OVER (ORDER BY length(property::text)) AS n FROM fuzz.seen WHERE $where) s");
}

# What a value means, said again without the codec. Dates are left to test/sql/codec.sql.
$node->sql(<<'SQL');
CREATE FUNCTION fuzz.meaning(type text, value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN type IN ('title', 'rich_text') THEN
            (SELECT to_jsonb(nullif(string_agg(coalesce(e ->> 'plain_text', e #>> '{text,content}'), '' ORDER BY o), ''))
             FROM jsonb_array_elements(value) WITH ORDINALITY AS a(e, o))
        WHEN type IN ('select', 'status') THEN to_jsonb(value ->> 'name')
        WHEN type IN ('multi_select', 'relation') THEN
            (SELECT coalesce(jsonb_agg(DISTINCT m ORDER BY m), '[]')
             FROM jsonb_array_elements(value) e, coalesce(e ->> 'name', e ->> 'id') m)
        WHEN type = 'number' THEN to_jsonb((value #>> '{}')::float8)
        ELSE to_jsonb(nullif(value, '""')) END $$;
CREATE FUNCTION fuzz.sorted(canon jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(canon) WHEN 'array' THEN (SELECT coalesce(jsonb_agg(e ORDER BY e #>> '{}'), '[]')
        FROM jsonb_array_elements(canon) e) ELSE canon END $$;
SQL

cmp_ok($node->sql("SELECT count(*) FROM fuzz.seen WHERE kind = 'good' AND problem IS NULL"), '>', $documents / 10, 'values are read');
cmp_ok($node->sql("SELECT count(*) FROM fuzz.seen WHERE kind = 'bent' AND problem IS NOT NULL"), '>', $documents / 20,
	'bent values are problems');
is(breakers('canon IS NULL AND problem IS NULL'), 0, 'each has a canonical form or a problem');
is(breakers(<<'SQL'), 0, 'F5: a value means what the second reading says');
	kind = 'good' AND type <> 'date' AND canon IS NOT NULL
	AND fuzz.sorted(canon::jsonb) IS DISTINCT FROM fuzz.sorted(coalesce(fuzz.meaning(type, property -> type), 'null'))
SQL
# An option without a name is the one thing above that is none.
is(breakers(<<'SQL'), 0, 'F5: every whole value has a form');
	kind = 'good' AND type <> 'date' AND canon IS NULL
	AND NOT (type IN ('select', 'status', 'multi_select') AND property -> type @? '$.**.name ? (@ == "")')
SQL
is(breakers('again <> canon'), 0, 'the value that reaches the table has the canonical form that it had in Notion');
# What empties the other side is what is empty, and nothing else.
is(breakers(<<'SQL'), 0, 'what cannot be read does not pass for empty');
	canon IN ('null', '[]') AND type <> 'checkbox' AND coalesce(property -> type, '"missing"') NOT IN ('null', '[]', '""')
	AND NOT (type IN ('title', 'rich_text') AND NOT EXISTS (SELECT FROM jsonb_array_elements(property -> type) e
		WHERE coalesce(e ->> 'plain_text', e #>> '{text,content}') IS DISTINCT FROM ''))
SQL
is(breakers("type = 'checkbox' AND canon IS NOT NULL AND canon <> (property ->> 'checkbox')"), 0, 'a checkbox is what it says');
is(breakers("problem ~ '[^\\x01-\\x7f]' OR length(problem) > 200"), 0, 'a problem holds nothing of the value');

# ---- what was read can be written, and is then read as the same ----

$node->sql(<<'SQL');
SELECT fuzz.pin();
CREATE TABLE fuzz.rewritten AS
SELECT s.id, s.type, s.sqltype, s.property, s.canon, s.problem, r.canon AS again
FROM (SELECT *, fuzz.write(type, canon)::jsonb AS write FROM fuzz.seen WHERE canon IS NOT NULL OFFSET 0) s,
    fuzz.read(s.type, s.write) r WHERE r.sqltype = s.sqltype;
SQL
cmp_ok($node->sql('SELECT count(*) FROM fuzz.rewritten'), '>', $documents / 5, 'what was read is written again');
is($node->sql("SELECT count(*) || coalesce(': ' || min(sqltype || ' ' || property || ' ' || canon || ' ' || coalesce(again, 'nothing')), '')
	FROM fuzz.rewritten WHERE again IS DISTINCT FROM canon"), 0, 'and read as the same');

# ---- databases that are not UTF-8: Notion is, and so is what goes there ----

for my $case ([ 'latin1', "U&'a\\00fc'", "a\x{fc}" ], [ 'euc_jp', "U&'a\\5b57'", "a\x{5b57}" ])
{
	my ($encoding, $literal, $text) = @$case;
	$node->sql("CREATE DATABASE $encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	is(in_encoding($encoding, "SELECT l.canon || l.write || l.sql || (l.again = l.canon) FROM fuzz.local(${literal}::text, NULL, false, NULL) l"),
		qq("$text"{"rich_text":[{"text":{"content":"$text"}}]}${text}true), "F3: a text of $encoding goes to Notion and comes back");
	is(in_encoding($encoding, qq(SELECT r.sql || (r.again = r.canon) FROM fuzz.remote(NULL::text, NULL, false, NULL,
		'{"rich_text":[{"plain_text":"$text"}]}') r)), "${text}true", "F3: a text of Notion comes to $encoding");
}
$node->sql("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
is(in_encoding('bytes', q{SELECT bool_and(l.problem ~ 'UTF-8' AND l.canon IS NULL)
	FROM unnest(ARRAY[NULL, 'title', 'select', 'url']) w, fuzz.local(E'a\xfc'::text, w, false, NULL) l}), 't',
	'F3: bytes that are no UTF-8 are a problem');
is(in_encoding('bytes', q{SELECT l.problem ~ 'UTF-8' FROM fuzz.local(ARRAY[E'\xfc'], NULL, false, NULL) l}), 't',
	'F3: in an array, too');
is(in_encoding('bytes', q{SELECT json_array_length(l.write::json -> 'rich_text') || ' ' || (l.sql = v)
	FROM repeat(E'\xf0\x9f\x98\x80', 2001) v, fuzz.local(v, NULL, false, NULL) l}), '3 true',
	'F3: those that are UTF-8 are counted and cut as such');

# Runs a query on the codec in a database of another encoding; its answer as characters.
sub in_encoding
{
	my ($db, $query) = @_;
	my $sql = <<'SQL' . $query;
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS fuzz;
CREATE OR REPLACE FUNCTION fuzz.local(
    value anyelement, wished text, not_null boolean, options text[], OUT type text, OUT schema text,
    OUT canon text, OUT write text, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_local';
CREATE OR REPLACE FUNCTION fuzz.remote(
    value anyelement, wished text, not_null boolean, options text[], property jsonb,
    OUT canon text, OUT truncated boolean, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_remote';
SQL
	$sql = ($db eq 'bytes' ? '' : "SET client_encoding = 'UTF8';\n") . $sql;
	utf8::encode($sql);
	my $answer = $node->sql($sql, $db);
	utf8::decode($answer);
	return $answer;
}

done_testing();
