-- Values between SQL and Notion: property type, canonical form, what is written, what is refused, and
-- the way back (scenarios F1 to F9). Columns of the answers: local() gives the type, the schema, the
-- canonical form, the write object, the problem, the input text for the way back and the canonical form
-- of what that becomes; remote() the last five for what Notion answers. ~ is null.
CREATE SCHEMA codectest;
CREATE FUNCTION codectest.pin() RETURNS void LANGUAGE C AS '$libdir/angles', 'angles_codec_test_pin';
CREATE FUNCTION codectest.local(
    value anyelement, wished text DEFAULT NULL, not_null boolean DEFAULT false,
    options text[] DEFAULT NULL, OUT type text, OUT schema text, OUT canon text, OUT write text,
    OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_local';
CREATE FUNCTION codectest.remote(
    value anyelement, wished text, not_null boolean, options text[], property jsonb,
    OUT canon text, OUT truncated boolean, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_remote';
CREATE FUNCTION codectest.write(type text, canon text) RETURNS text
LANGUAGE C STRICT AS '$libdir/angles', 'angles_codec_test_write';

-- the codec counts on the settings of a worker
SELECT codectest.pin();
\pset format unaligned
\pset fieldsep ' | '
\pset null '~'
\pset footer off

-- F1: whole numbers up to 2^53 are numbers, beyond they are refused and never rounded
SELECT v, l.type, l.canon, l.write, l.problem, l.sql, l.again = l.canon AS same
FROM unnest('{0,-1,9007199254740992,-9007199254740992,9007199254740993,9223372036854775807}'::bigint[]) v,
    codectest.local(v) l;
SELECT left(v::text, 30) AS v, l.type, l.canon, l.problem, l.again = l.canon AS same
FROM unnest('{0,-0.0,1.50,100,0.1,999999999999999,0.123456789012345,1234567890123456789,0.30000000000000004,
    0.1234567890123456789,1e-400,1e400,1e308,4.9e-324,NaN,Infinity}'::numeric[]) v, codectest.local(v) l;
SELECT v, l.type, l.canon, l.problem, l.again = l.canon AS same
FROM unnest('{0,-0,0.1,1e21,1e-7,1.7976931348623157e308,5e-324,NaN,-Infinity}'::float8[]) v,
    codectest.local(v) l;
SELECT v, l.type, l.canon, l.again = l.canon AS same
FROM unnest('{0.1,16777217,3.4028235e38,1e-45}'::float4[]) v, codectest.local(v) l;
-- F1: mapped as text they keep every digit
SELECT l.type, l.write, l.sql, l.again = l.canon AS same
FROM codectest.local(9223372036854775807, 'rich_text') l
UNION ALL
SELECT l.type, l.write, l.sql, l.again = l.canon
FROM codectest.local(12345678901234567890.1234567890::numeric, 'rich_text') l;
-- F1: numbers that a person typed in Notion
SELECT j, i.sql AS int2, i.problem, b.sql AS int8, b.problem, n.sql AS numeric, n.problem
FROM unnest('{42,-32768,32768,1.5,1e3,9007199254740992,9007199254740994,0.30000000000000004,1e999}'::text[]) j,
    codectest.remote(NULL::int2, NULL, false, NULL, format('{"number":%s}', j)::jsonb) i,
    codectest.remote(NULL::int8, NULL, false, NULL, format('{"number":%s}', j)::jsonb) b,
    codectest.remote(NULL::numeric, NULL, false, NULL, format('{"number":%s}', j)::jsonb) n;

-- F2: null and the empty text are both nothing in Notion; white space is text
SELECT to_json(v) AS v, l.canon, l.write, to_json(l.sql) AS sql, l.again = l.canon AS same
FROM unnest(ARRAY[NULL, '', ' ', E'\n', E'\n\n', E'\t\r\n', ' x ', '　']) v, codectest.local(v) l;
-- F2: a text column that takes no null gets the empty text back, another is refused
SELECT l.canon, to_json(l.sql) AS sql, l.problem FROM codectest.local(''::text, NULL, true) l
UNION ALL
SELECT r.canon, to_json(r.sql), r.problem
FROM codectest.remote(NULL::varchar, 'title', true, NULL, '{"title":[]}') r
UNION ALL
SELECT r.canon, to_json(r.sql), r.problem
FROM codectest.remote(NULL::integer, NULL, true, NULL, '{"number":null}') r
UNION ALL
SELECT r.canon, to_json(r.sql), r.problem
FROM codectest.remote(NULL::text[], NULL, true, NULL, '{"multi_select":[]}') r;
-- F2: null of every kind of property
SELECT t.type, t.canon, t.write, t.sql, t.again FROM (
    SELECT 1 AS o, l.* FROM codectest.local(NULL::text, 'title') l
    UNION ALL SELECT 2, l.* FROM codectest.local(NULL::text) l
    UNION ALL SELECT 3, l.* FROM codectest.local(NULL::integer) l
    UNION ALL SELECT 4, l.* FROM codectest.local(NULL::boolean, 'checkbox') l
    UNION ALL SELECT 5, l.* FROM codectest.local(NULL::text, 'select') l
    UNION ALL SELECT 6, l.* FROM codectest.local(NULL::text, 'status') l
    UNION ALL SELECT 7, l.* FROM codectest.local(NULL::text[]) l
    UNION ALL SELECT 8, l.* FROM codectest.local(NULL::date) l
    UNION ALL SELECT 9, l.* FROM codectest.local(NULL::text, 'url') l
    UNION ALL SELECT 10, l.* FROM codectest.local(NULL::text, 'email') l
    UNION ALL SELECT 11, l.* FROM codectest.local(NULL::text, 'phone_number') l) t ORDER BY o;
-- F2: the blanks that fill up a char(n) mean nothing
SELECT l.canon, l.again = l.canon AS same FROM unnest('{abc,"","a b"}'::char(8)[]) v, codectest.local(v) l;
SELECT l.type, l.canon, l.sql FROM codectest.local('{abc,de}'::char(8)[]) l;

-- F3: pieces of at most 2,000 UTF-16 units, cut between characters
CREATE FUNCTION pg_temp.pieces(write text) RETURNS text LANGUAGE sql AS $$
    -- Characters beyond the basic plane count twice. A piece is shown as its length in units and its ends.
    SELECT string_agg(length(p) + length(regexp_replace(p, E'[\\u0001-\\uffff]', '', 'g'))
        || CASE WHEN length(p) > 3 THEN ' ' || right(p, 1) ELSE '' END, ', ' ORDER BY o)
    FROM (SELECT o, e #>> '{text,content}' AS p
        FROM json_array_elements(write::json -> 'rich_text') WITH ORDINALITY AS a(e, o)) x $$;
SELECT what, pg_temp.pieces(l.write), l.problem, l.sql = v AS same
FROM (VALUES ('1', 'x'), ('2,000', repeat('x', 2000)), ('2,001', repeat('x', 2001)),
    ('1,999 and a pair', repeat('x', 1999) || '😀y'), ('1,998 and a pair', repeat('x', 1998) || '😀y'),
    ('pairs', repeat('😀', 1001)), ('é in two', repeat('x', 1999) || E'e\u0301'),
    ('family', repeat('x', 1997) || E'👩\u200d👩\u200d👧')) t(what, v), codectest.local(v) l;
SELECT what, json_array_length(l.write::json -> 'rich_text') AS pieces, l.problem, l.sql = v AS same
FROM (VALUES ('200,000', repeat('x', 200000)), ('200,001', repeat('x', 200001)),
    ('100,000 pairs', repeat('😀', 100000)), ('100,001 pairs', repeat('😀', 100001)),
    ('as JSON too long', repeat('字', 170000)), ('quotes', repeat('"', 200000)),
    ('controls', repeat(E'\u0001', 100000))) t(what, v), codectest.local(v) l;
SELECT p, n, l.problem, l.write IS NOT NULL AS written
FROM unnest('{select,status,url,email,phone_number}'::text[]) p,
    unnest('{100,101,2000,2001}'::int[]) n, codectest.local(repeat('é', n), p) l ORDER BY p, n;

-- F4: microseconds are cut to the milliseconds that JavaScript's dates have; nothing drifts
SELECT v, l.canon, l.write, l.problem, l.again = l.canon AS same
FROM unnest('{2026-11-01 09:30:15.123456+02,2026-11-01 09:30:15.9999999+00,1999-12-31 23:59:59.999999+00,
    1969-12-31 23:59:59.000001+00,0001-01-01 00:00:00+00,9999-12-31 23:59:59.999+00,10000-01-01 00:00:00+00,
    0001-12-31 23:59:59+00 BC,infinity,-infinity}'::timestamptz[]) v, codectest.local(v) l;
SELECT v, l.canon, l.problem, l.sql, l.again = l.canon AS same
FROM unnest('{2026-11-01,2024-02-29,0001-01-01,9999-12-31,10000-01-01,0001-01-01 BC,infinity}'::date[]) v,
    codectest.local(v) l;
SELECT v, l.canon, l.sql, l.again = l.canon AS same
FROM unnest('{2026-03-29 02:30:00,2026-11-01 01:30:00.5}'::timestamp[]) v, codectest.local(v) l;
-- F4: what Notion answers, in every way of writing a moment, for a column of moments and one of dates
SELECT j, t.canon AS moment, t.problem, d.canon AS date, d.problem
FROM unnest(ARRAY['"2026-11-01"', '"2026-11-01T09:30:00.000+00:00"', '"2026-11-01T09:30:00.000Z"',
    '"2026-11-01T11:30:00+02:00"', '"2026-11-01T11:30+0200"', '"2026-11-01T07:30:00.1234567-02"',
    '"2026-11-01T09:30:00"', '"2026-11-01T00:00:00", "time_zone":"America/New_York"',
    '"2026-03-29T02:30:00", "time_zone":"Europe/Berlin"', '"2026-11-01T09:30:00", "time_zone":"No/Where"',
    '"2026-11-01T09:30:00", "time_zone":"../../etc/passwd"', '"2026-11-01T09:30:00", "time_zone":null',
    '"2026-11-01", "end":"2026-11-03"', '"2026-11-01T09:00:00Z", "end":"2026-11-01T10:00:00Z"',
    '"2026-11-01", "end":"soon"', '"2026-02-29"', '"2024-02-29"', '"2026-13-01"', '"0000-01-01"',
    '"12026-01-01"', '"2026-11-01T24:00:00Z"', '"2026-11-01T09:60:00Z"', '"2026-11-01T09:30:00+16:00"',
    '"2026-11-01T09:30:00 BC"', '"2026-11-01Tnow"', '"infinity"', '"2026-11-1"', '"2026-11-01T"',
    '"9999-12-31T23:59:59-01:00"', '"0001-01-01T00:00:00+01:00"', '""', 'null', '5', '"2026-11-01T09:30:00."'
    ]) j,
    codectest.remote(NULL::timestamptz, NULL, false, NULL, format('{"date":{"start":%s}}', j)::jsonb) t,
    codectest.remote(NULL::date, NULL, false, NULL, format('{"date":{"start":%s}}', j)::jsonb) d;
-- F4: the session's time zone plays no part
SET TimeZone = 'Asia/Kathmandu';
SELECT l.canon, r.canon = l.canon AS same
FROM codectest.local('2026-11-01 09:30:00+00'::timestamptz) l,
    codectest.remote(NULL::timestamptz, NULL, false, NULL, '{"date":{"start":"2026-11-01T09:30:00"}}') r;
SET TimeZone = 'UTC';

-- F5: bold, links, mentions and other cuts do not change the words
SELECT r.canon, r.problem, r.canon = l.canon AS same
FROM codectest.local('the words'::text) l, unnest(ARRAY[
    '[{"type":"text","text":{"content":"the words","link":null},"annotations":{"bold":true,"color":"red"},"plain_text":"the words","href":null}]',
    '[{"type":"text","text":{"content":"the "},"plain_text":"the "},{"type":"text","text":{"content":"words"},"annotations":{"bold":true},"plain_text":"words"}]',
    '[{"text":{"content":"the words"}}]',
    '[{"type":"mention","mention":{"type":"page","page":{"id":"x"}},"plain_text":"the "},{"type":"equation","equation":{"expression":"words"},"plain_text":"words"}]',
    '[{"type":"mention","mention":{"type":"page","page":{"id":"x"}}},{"text":{"content":"words"},"plain_text":"words"}]',
    '["the words"]', '[]', '[{"plain_text":""}]', '[{"plain_text":7}]', '"the words"', 'null', '{}'])
    AS j, codectest.remote(NULL::text, NULL, false, NULL, format('{"type":"rich_text","rich_text":%s}', j)::jsonb) r;

-- F6: options: no commas, no two that differ by case alone, 1 to 100 characters
CREATE TYPE codectest.mood AS ENUM ('sad', 'ok', 'happy "day"', '😀');
CREATE TYPE codectest.comma AS ENUM ('a,b', 'c');
CREATE TYPE codectest.cases AS ENUM ('A', 'a');
DO $$ BEGIN EXECUTE (SELECT format('CREATE TYPE codectest.many AS ENUM (%s)',
    string_agg(quote_literal('v' || i), ', ' ORDER BY i)) FROM generate_series(1, 101) i); END $$;
CREATE DOMAIN codectest.feeling AS codectest.mood;
SELECT * FROM codectest.local('happy "day"'::codectest.mood);
SELECT l.type, l.canon, l.again = l.canon AS same FROM codectest.local('a,b'::codectest.comma) l
UNION ALL SELECT l.type, l.canon, l.again = l.canon FROM codectest.local('a'::codectest.cases) l
UNION ALL SELECT l.type, l.canon, l.again = l.canon FROM codectest.local('v7'::codectest.many) l
UNION ALL SELECT l.type, l.canon, l.again = l.canon FROM codectest.local('ok'::codectest.feeling) l;
SELECT * FROM codectest.local('new'::text, NULL, true, '{new,old}');
SELECT l.type, l.canon FROM codectest.local('new'::text, NULL, true, '{new,New}') l;
-- F6: a status takes no option by a write, so it is made with those that are known
SELECT l.schema, l.write, l.problem FROM codectest.local('ok'::codectest.mood, 'status') l
UNION ALL SELECT l.schema, l.write, l.problem FROM codectest.local('new'::text, 'status', true, '{new,old}') l
UNION ALL SELECT l.schema, l.write, l.problem FROM codectest.local('Done'::text, 'status') l;
SELECT l.type, l.canon, l.problem FROM codectest.local('new, and old'::text, 'select') l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('new, and old'::text, 'status') l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{"a,b"}'::text[]) l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{a,""}'::text[]) l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{a,NULL}'::text[]) l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{a,a}'::text[]) l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{a,A}'::text[]) l
UNION ALL SELECT l.type, l.canon, l.problem FROM codectest.local('{{a},{b}}'::text[]) l
UNION ALL SELECT l.type, left(l.canon, 20), l.problem FROM codectest.local(array_fill('a'::text, '{101}')) l
UNION ALL SELECT l.type, left(l.canon, 20), l.problem
    FROM codectest.local((SELECT array_agg('v' || i) FROM generate_series(1, 100) i)) l;
SELECT l.type, l.canon, l.write, l.sql FROM codectest.local(ARRAY['b', 'a', 'q"\ {}', 'NULL']) l
UNION ALL SELECT l.type, l.canon, l.write, l.sql FROM codectest.local('{ok,sad}'::codectest.mood[]) l
UNION ALL SELECT l.type, l.canon, l.write, l.sql FROM codectest.local('{}'::text[]) l;
-- F6: id and colour of an option are no part of the value; what is no option is a problem
SELECT r.canon, r.problem, r.sql FROM unnest(ARRAY['{"id":"abc","name":"ok","color":"red"}', 'null', '{}',
    '{"name":""}', '{"name":5}', '"ok"', '[]']) j,
    codectest.remote(NULL::text, 'select', false, NULL, format('{"select":%s}', j)::jsonb) r;
SELECT r.canon, r.problem, r.sql FROM unnest(ARRAY['[{"id":"1","name":"b"},{"id":"2","name":"a"}]', '[]',
    '[{"name":"a"},{"id":"2"}]', '[null]', 'null', '{}', '[{"name":"a"},{"name":"a"}]']) j,
    codectest.remote(NULL::text[], NULL, false, NULL, format('{"multi_select":%s}', j)::jsonb) r;

-- F7: relations are sets of pages; more than Notion shows at once is marked
SELECT codectest.write('relation', '["p1","p2"]'), codectest.write('relation', '[]');
SELECT n, json_array_length(codectest.write('relation',
    (SELECT json_agg('p' || i) FROM generate_series(1, n) i)::text)::json -> 'relation') AS written
FROM unnest('{26,100}'::int[]) n;
SELECT left(r.canon, 20) AS canon, json_array_length(r.canon::json) AS n, r.truncated, r.problem
FROM unnest('{0,25,26}'::int[]) n,
    codectest.remote(NULL::int, 'relation', false, NULL, jsonb_build_object('has_more', n > 25, 'relation',
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', 'p' || i)), '[]') FROM generate_series(1, least(n, 25)) i))) r;
SELECT r.canon, r.problem FROM unnest(ARRAY['null', '[{}]', '[{"id":5}]', '"p1"']) j,
    codectest.remote(NULL::int, 'relation', false, NULL, format('{"relation":%s}', j)::jsonb) r;

-- F8: every other type keeps what it prints, as text; each of these comes back as it was
CREATE TYPE codectest.pair AS (a int, b text);
CREATE DOMAIN codectest.positive AS integer CHECK (VALUE > 0);
CREATE FUNCTION pg_temp.show(value anyelement, wished text DEFAULT NULL, not_null boolean DEFAULT false)
RETURNS text LANGUAGE sql AS $$
    SELECT format('%s | %s | %s | %s | %s', pg_typeof(value), l.type, l.canon, l.problem, l.again = l.canon)
    FROM codectest.local(value, wished, not_null) l $$;
SELECT unnest(ARRAY[
    pg_temp.show(true, NULL, true), pg_temp.show(false, NULL, true), pg_temp.show(true), pg_temp.show(false),
    pg_temp.show(NULL::boolean), pg_temp.show(true, 'rich_text'), pg_temp.show('{1,2,NULL}'::int[]),
    pg_temp.show('{{a,b},{c,d}}'::text[], 'rich_text'), pg_temp.show('{1.5,2}'::float8[]),
    pg_temp.show('{2026-11-01}'::date[]), pg_temp.show('{t,f}'::boolean[]),
    pg_temp.show('{"b": [1, 2.50], "a": "x\ny"}'::jsonb), pg_temp.show('{"b":1,  "a":2}'::json),
    pg_temp.show('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid), pg_temp.show('10.1.2.3/8'::inet),
    pg_temp.show('fe80::/10'::cidr), pg_temp.show('08:00:2b:01:02:03'::macaddr),
    pg_temp.show('\xdeadbeef00'::bytea), pg_temp.show('\x'::bytea), pg_temp.show('1 year -2 days 03:04:05.678901'::interval),
    pg_temp.show('23:59:59.999999'::time), pg_temp.show('10:00:00+05:30'::timetz), pg_temp.show('[1,5)'::int4range),
    pg_temp.show('{[1,5),[7,9)}'::int4multirange), pg_temp.show('[2026-01-01,2026-02-01)'::daterange),
    pg_temp.show('["2026-01-01 00:00:00+00",)'::tstzrange), pg_temp.show(ROW(1, 'x, "y"')::codectest.pair),
    pg_temp.show(5::codectest.positive), pg_temp.show('$1,234.50'::money), pg_temp.show(B'1010'),
    pg_temp.show('(1,2)'::point), pg_temp.show('a & b'::tsquery), pg_temp.show('''a'':1 b'::tsvector),
    pg_temp.show('0/16B3748'::pg_lsn), pg_temp.show('pg_class'::regclass), pg_temp.show('x'::"char"),
    pg_temp.show('a_name'::name), pg_temp.show('v'::varchar(10)), pg_temp.show('<a>b</a>'::xml),
    pg_temp.show(''::tsvector), pg_temp.show('a@b.example'::text, 'email'), pg_temp.show('+49 30 1'::text, 'phone_number'),
    pg_temp.show('https://example.org/?a=1&b="2"'::text, 'url'), pg_temp.show('t'::text, 'title'),
    pg_temp.show(5, 'title'), pg_temp.show('2026-11-01'::date, 'rich_text')]);
-- F8: wishes that would lose something are refused with a reason
SELECT 'text', w, l.type, l.problem
FROM unnest('{number,checkbox,date,multi_select,files,people,formula,nonsense,select,status}'::text[]) w,
    codectest.local('x'::text, w) l
UNION ALL SELECT 'integer', w, l.type, l.problem
FROM unnest('{checkbox,select,date,url,number,rich_text}'::text[]) w, codectest.local(1, w) l
UNION ALL SELECT 'integer[]', w, l.type, l.problem
FROM unnest('{multi_select,rich_text}'::text[]) w, codectest.local('{1}'::int[], w) l;
-- F8: what a person typed and the column cannot hold, and answers of another shape
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::boolean, NULL, false, NULL, '{"select":{"name":"maybe"}}') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::boolean, 'checkbox', true, NULL, '{"checkbox":null}') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::text, 'url', false, NULL, '{"url":""}') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::text, 'url', false, NULL, '{"url":5}') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::text, NULL, false, NULL, '{"number":5}') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::text, NULL, false, NULL, '[]') r
UNION ALL
SELECT r.canon, r.sql, r.problem FROM codectest.remote(NULL::text, NULL, false, NULL, '"rich_text"') r;

-- F9: a file's address, signed anew at each read, never becomes a value: no column is mapped to files
SELECT r.canon, r.problem FROM codectest.remote(NULL::text, 'files', false, NULL,
    '{"type":"files","files":[{"name":"a","type":"file","file":{"url":"https://files.example/a?sig=1"}}]}') r;
