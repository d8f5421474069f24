# 511_backup_types.pl
#	Scenario 25: the text of every type is the text that COPY writes, and gives the same value again.
use strict;
use warnings;

use Test::More;

use AnglesTest;

my $node = new_cluster('main');
my $pins = q{SET "DateStyle" = 'ISO, YMD'; SET "IntervalStyle" = 'postgres'; SET "TimeZone" = 'UTC'; SET extra_float_digits = 3;
	SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmloption = 'content'; SET search_path = '';};
my $declare = q{CREATE FUNCTION public.copytext(text) RETURNS bytea LANGUAGE c AS 'angles', 'angles_copytext_test'};
my $dir = $node->basedir;
$node->sql($declare);

# Compares a table with what COPY writes, then loads that into another one and compares values.
sub same
{
	my ($table, $name, $db, $encoding) = @_;
	my $file = "$dir/$name.copy";

	$encoding //= 'UTF8';
	$db //= 'postgres';
	$node->sql("$pins COPY (SELECT * FROM public.$table) TO '$file' (ENCODING '$encoding')", $db);
	is($node->sql("SELECT public.copytext('SELECT * FROM public.$table') = pg_read_binary_file('$file')", $db), 't',
		"L25: $name: the bytes are COPY's");
	$node->sql("CREATE TABLE public.${table}_again (LIKE public.$table); $pins
		COPY public.${table}_again FROM '$file' (ENCODING '$encoding')", $db);
	is($node->sql("SELECT (SELECT array_agg(record_send(one_row) ORDER BY record_send(one_row)) FROM public.$table one_row)
		IS NOT DISTINCT FROM (SELECT array_agg(record_send(one_row) ORDER BY record_send(one_row)) FROM public.${table}_again one_row)", $db), 't',
		"L25: $name: and the values are the same again");
}

# one table for each type: type => values
my %values = (
	'bool' => [ q{'t'}, q{'f'} ],
	'bytea' => [ q{'\x'}, q{'\x00ff5c0a0d09'} ],
	'"char"' => [ q{'a'}, q{'\\\\'} ],
	'name' => [ q{'a b'} ],
	'int2' => [ -32768, 32767 ], 'int4' => [ -2147483648, 2147483647 ],
	'int8' => [ q{'-9223372036854775808'}, q{'9223372036854775807'} ],
	'float4' => [ q{'NaN'}, q{'Infinity'}, q{'-Infinity'}, q{'-0'}, q{'1e-45'}, q{'3.4028235e38'}, '0.1' ],
	'float8' => [ q{'NaN'}, q{'Infinity'}, q{'-Infinity'}, q{'-0'}, q{'4.9406564584124654e-324'}, '0.1::float8 + 0.2', q{'1.7976931348623157e308'} ],
	'numeric' => [ q{'NaN'}, q{'Infinity'}, q{'3000.0'}, q{'3000.00'}, q{('1' || repeat('0', 1000))::numeric}, q{('0.' || repeat('1', 1000))::numeric} ],
	'money' => [ q{'-1234567.89'} ],
	'text' => [ q{''}, q{'\N'}, q{'\.'}, q{'NULL'}, q{E'a\tb\nc\rd\be\ff\vg\\\\h'}, q{E'\001\177'}, q{'äöü 漢字 😀'}, q{repeat('long ', 100000)} ],
	'varchar(10)' => [ q{'  x  '} ], 'char(10)' => [ q{'x'} ],
	'json' => [ q{'{ "a" : 1, "a": 2 }'} ], 'jsonb' => [ q{'{"b": [1.0, null, "\\t\u00e4"], "a": {}}'} ], 'jsonpath' => [ q{'$.a[*] ? (@ > 1)'} ],
	'xml' => [ q{'<a b="c">&lt;</a>text'} ],
	'date' => [ q{'0044-03-15 BC'}, q{'infinity'}, q{'-infinity'}, q{'99999-12-31'}, q{'2026-01-02'} ],
	'time' => [ q{'24:00'}, q{'00:00:00.000001'} ], 'timetz' => [ q{'23:59:59.5+15:59'}, q{'24:00-12'} ],
	'timestamp' => [ q{'0044-03-15 12:00 BC'}, q{'infinity'}, q{'294276-12-31 23:59:59.999999'} ],
	'timestamptz' => [ q{'0044-03-15 12:00 BC'}, q{'-infinity'}, q{'2026-03-29 02:30:00.1 Europe/Berlin'} ],
	'interval' => [ q{'-1 years -2 mons +3 days -04:05:06.789'}, q{'178000000 years'}, q{'0'} ],
	'bit(5)' => [ q{B'10101'} ], 'varbit' => [ q{B''}, q{B'1'} ],
	'inet' => [ q{'192.168.0.1/24'}, q{'::1'} ], 'cidr' => [ q{'10.0.0.0/8'} ], 'macaddr' => [ q{'08:00:2b:01:02:03'} ], 'macaddr8' => [ q{'08:00:2b:01:02:03:04:05'} ],
	'uuid' => [ q{'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'} ],
	'point' => [ q{'(-0,NaN)'} ], 'line' => [ q{'{1,-1,0}'} ], 'lseg' => [ q{'[(0,0),(1,1)]'} ], 'box' => [ q{'(1,1),(0,0)'} ],
	'path' => [ q{'[(0,0),(1,1)]'}, q{'((0,0),(1,1))'} ], 'polygon' => [ q{'((0,0),(1,1),(1,0))'} ], 'circle' => [ q{'<(0,0),1.1>'} ],
	'tsvector' => [ q{$$'a\'b':1A 'c':2$$} ], 'tsquery' => [ q{'a & !b:*'} ],
	'int4range' => [ q{'empty'}, q{'[1,5)'}, q{'(,)'} ], 'numrange' => [ q{'[1.0,1.00]'} ], 'tstzrange' => [ q{'["2026-01-01",)'} ],
	'int8multirange' => [ q{'{[1,2),[5,)}'}, q{'{}'} ],
	'int4[]' => [ q{'{}'}, q{'{1,NULL,3}'}, q{'[2:3][-1:0]={{1,2},{3,4}}'} ],
	'text[]' => [ q{ARRAY['NULL', NULL, '', 'a"b\c', E'x\ty', '{}', ',']} ],
	'oid' => [ 4294967295 ], 'tid' => [ q{'(1,2)'} ], 'xid8' => [ q{'123'} ], 'pg_lsn' => [ q{'16/B374D848'} ],
	'regclass' => [ q{'pg_catalog.pg_class'}, q{'public."odd name"'}, q{'angles.links'} ], 'regtype' => [ q{'int4[]'} ], 'regprocedure' => [ q{'pg_catalog.abs(int4)'} ], 'regrole' => [ q{'angles_viewer'} ],
	'public.mood' => [ q{'it''s ok'}, q{'sad'} ], 'public.pair' => [ q{ROW(1, 'a,"b"', NULL, B'1')}, q{ROW(NULL, '', '{1}', NULL)} ],
	'public.pos' => [ '5' ], 'public.pair[]' => [ q{ARRAY[ROW(1, 'x', NULL, NULL)::public.pair]} ], 'public.textrange' => [ q{'[a,"b c")'} ],
);
$node->sql(q{CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN pos AS int CHECK (VALUE > 0);
	CREATE TYPE pair AS (a int, b text, c int[], d varbit); CREATE TYPE textrange AS RANGE (subtype = text);
	CREATE TABLE public."odd name" ()});

my $n = 0;
for my $type (sort keys %values)
{
	my $table = 't' . $n++;
	$node->sql("CREATE TABLE public.$table (id int, v $type);
		INSERT INTO public.$table VALUES (0, NULL)" . join('', map { ", ($_, $values{$type}[$_ - 1])" } 1 .. @{ $values{$type} }));
	same($table, $type =~ s/\W+/_/gr);
}

# what a table can be given that no value shows: no column, a dropped one, one that was added with a default
$node->sql(q{CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES; CREATE TABLE changed (a int, gone int, b text);
	INSERT INTO changed VALUES (1, 2, 'x'); ALTER TABLE changed DROP gone, ADD late text DEFAULT 'late'});
same('bare', 'no_column');
same('changed', 'dropped_and_added');

# the settings of the session do not matter
for my $setting (q{SET "DateStyle" = 'German'}, q{SET "TimeZone" = 'Asia/Kathmandu'}, 'SET extra_float_digits = -15', q{SET bytea_output = 'escape'},
	q{SET "IntervalStyle" = 'iso_8601'}, q{SET search_path = public, angles})
{
	my $query = q{SELECT now() - now(), timestamptz '2026-01-02 03:04+00', 0.1::float8 + 0.2, bytea '\x00', interval '1 day -1 hour', 'angles.links'::regclass};
	is($node->sql("$setting; SELECT convert_from(public.copytext(\$\$$query\$\$), 'UTF8')"),
		"00:00:00\t2026-01-02 03:04:00+00\t0.30000000000000004\t\\\\x00\t1 day -01:00:00\tangles.links\n", "L24: under $setting");
}
is($node->sql(q{SET "DateStyle" = 'German'; SELECT 1 FROM (SELECT public.copytext('SELECT 1')) s; SHOW "DateStyle"}), "1\nGerman, DMY",
	'L24: and the session has its settings again');

# other encodings of the database
for my $encoding ('LATIN1', 'SQL_ASCII', 'EUC_JP')
{
	my $db = lc $encoding;
	$node->sql("CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	my $value = $encoding eq 'LATIN1' ? q{convert_from('\xe4f65c'::bytea, 'LATIN1')} : $encoding eq 'EUC_JP' ? q{convert_from('\xb4c1'::bytea, 'EUC_JP')}
		: q{encode('\x5c'::bytea, 'escape')};
	$node->sql("$declare; CREATE TABLE public.t (v text); INSERT INTO t VALUES ($value)", $db);
	# bytes that are no UTF-8
	if ($encoding eq 'SQL_ASCII')
	{
		my $raw = "$dir/raw";
		open(my $fh, '>', $raw) or die $!;
		print $fh "\xff\xfe\\\\\xc3\n";
		close $fh;
		$node->sql("COPY public.t FROM '$raw' (ENCODING 'SQL_ASCII')", $db);
	}
	same('t', "encoding $encoding", $db, $encoding eq 'SQL_ASCII' ? 'SQL_ASCII' : 'UTF8');
}

done_testing();
