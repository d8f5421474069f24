-- Random values of every type of PostgreSQL through the codec (F1 to F8): what Notion answers has the
-- canonical form of what was written, and so has what comes back into the table; what no property can hold
-- is a problem, by a rule that is said here again, and all else comes back whole. A kind of column is a row
-- of codecrandom.kinds. (200_codec.pl has more values of fewer types, and a stricter Notion.)
\set ECHO none
CREATE SCHEMA codecrandom;
CREATE FUNCTION codecrandom.pin() RETURNS void LANGUAGE C AS '$libdir/angles', 'angles_codec_test_pin';
CREATE FUNCTION codecrandom.local(
    value anyelement, wished text, not_null boolean, options text[], OUT type text, OUT schema text,
    OUT canon text, OUT write text, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_local';
CREATE FUNCTION codecrandom.remote(
    value anyelement, wished text, not_null boolean, options text[], property jsonb,
    OUT canon text, OUT truncated boolean, OUT problem text, OUT sql text, OUT again text)
LANGUAGE C AS '$libdir/angles', 'angles_codec_test_remote';

-- ---- a page written is a page read: what Notion makes of a value object ----

-- Pieces of text are merged, annotations added; options get an id and a colour, in an order of Notion's;
-- dates are told in an offset of the workspace.
CREATE FUNCTION codecrandom.answer(write jsonb) RETURNS jsonb LANGUAGE plpgsql STRICT AS $$
DECLARE
    type text := (SELECT jsonb_object_keys(write));
    value jsonb := write -> type;
    whole text;
BEGIN
    IF type IN ('title', 'rich_text') AND value <> '[]' THEN
        SELECT string_agg(e #>> '{text,content}', '' ORDER BY o) INTO whole
        FROM jsonb_array_elements(value) WITH ORDINALITY AS a(e, o);
        value := jsonb_build_array(jsonb_build_object('type', 'text', 'plain_text', whole, 'href', null,
            'text', jsonb_build_object('content', whole, 'link', null),
            'annotations', '{"bold":false,"italic":false,"code":false,"color":"default"}'::jsonb));
    ELSIF type IN ('select', 'status') AND value <> 'null' THEN
        value := value || '{"id":"f%5C%5C%3Ap","color":"blue"}';
    ELSIF type = 'multi_select' THEN
        SELECT coalesce(jsonb_agg(e || '{"id":"a%3Bz","color":"red"}' ORDER BY md5(e ->> 'name')), '[]') INTO value
        FROM jsonb_array_elements(value) e;
    ELSIF type = 'date' AND value <> 'null' THEN
        whole := value ->> 'start';
        IF whole LIKE '%T%' AND random() < 0.5 THEN
            whole := to_char(whole::timestamptz AT TIME ZONE 'UTC' + interval '5:30', 'YYYY-MM-DD"T"HH24:MI:SS.MS') || '+05:30';
        END IF;
        value := jsonb_build_object('start', whole, 'end', null, 'time_zone', null);
    END IF;
    RETURN jsonb_build_object('id', '%3AUPp', 'type', type, type, value);
END $$;

-- ---- generators ----

CREATE FUNCTION codecrandom.n(low float8, high float8) RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT floor(low + random() * (high - low + 1))::bigint';

-- Texts as no person and every person types them; one in fifty crosses borders of pieces.
CREATE FUNCTION codecrandom.text(most int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    parts text[] := ARRAY['a', 'Z', '7', ' ', '  ', E'\t', E'\n', E'\r\n', E'\\', '"', '''', ',', '{', '}', '[', ']',
        '\n', '\u0000', '\x41', 'null', 'NULL', 'true', 'NaN', '-0', '1e400', '0x7f', '%s%n', '$1', '${x}', '<b>&amp;',
        '''; DROP TABLE t; --', '../..', 'http://a.b/?c=d&e=f#g', 'a@b.c', E'\u00e9', E'e\u0301', E'\u0301', E'\u00df',
        E'\u0130', E'\u0131', E'\ufb01', E'\u017f', E'\u01c6', E'\u05e9\u05dc', E'\u0645\u0631', E'\u202e', E'\u2066',
        E'\u200b', E'\u200d', E'\ufeff', E'\u00a0', E'\u3000', E'\u2028', E'\u2029', E'\u0001', E'\u001f', E'\u007f',
        E'\u0085', E'\ufffd', E'\ufffe', E'\uffff', E'\ue000', E'\ud7ff', E'\u5b57', E'\U0001f600', E'\U0001f468\u200d\U0001f469',
        E'\U0001f1e9\U0001f1ea', E'\U0001f44d\U0001f3fd', E'\U00010000', E'\U0010ffff', E'\U000e0041', E'\U00020bb7',
        E'Z\u0351\u036b\u0343\u036a'];
    result text := '';
BEGIN
    FOR i IN 1 .. codecrandom.n(0, most) LOOP
        result := result || parts[codecrandom.n(1, cardinality(parts))];
    END LOOP;
    IF most > 10 AND random() < 0.02 THEN
        result := repeat('x', codecrandom.n(1990, 2001)::int) || result || repeat(E'\U0001f600', codecrandom.n(0, 2100)::int) || result;
    END IF;
    RETURN result;
END $$;

-- Digits over the whole width of a type, whole and broken, and the borders of doubles.
CREATE FUNCTION codecrandom.decimal(whole int, broken int) RETURNS numeric LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    digits text := '';
BEGIN
    FOR i IN 1 .. codecrandom.n(1, whole) LOOP digits := digits || codecrandom.n(0, 9); END LOOP;
    IF broken > 0 AND random() < 0.7 THEN
        digits := digits || '.';
        FOR i IN 1 .. codecrandom.n(1, broken) LOOP digits := digits || codecrandom.n(0, 9); END LOOP;
    END IF;
    RETURN digits::numeric * (CASE WHEN random() < 0.5 THEN 1 ELSE -1 END);
END $$;

CREATE FUNCTION codecrandom.moment() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random() < 0.01 THEN 'infinity' WHEN random() < 0.01 THEN '-infinity'
        WHEN random() < 0.01 THEN '0044-03-15 12:00:00+00 BC' WHEN random() < 0.01 THEN '10000-01-01 00:00:00+00'
        WHEN random() < 0.3 THEN timestamptz '0002-01-01 00:00:00+00' + random() * interval '3650000 days'
        ELSE timestamptz '2026-01-01 00:00:00+00' + random() * interval '365 days' END $$;

CREATE FUNCTION codecrandom.bytes(most int) RETURNS bytea LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(decode(string_agg(lpad(to_hex(codecrandom.n(0, 255)), 2, '0'), ''), 'hex'), '')
    FROM generate_series(1, codecrandom.n(0, most)) $$;

-- JSON of any shape, down to a depth.
CREATE FUNCTION codecrandom.json(depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    result text := '';
    shape int := codecrandom.n(CASE WHEN depth > 0 THEN 0 ELSE 2 END, 5);
BEGIN
    IF shape > 1 THEN
        RETURN CASE shape WHEN 2 THEN to_json(codecrandom.text(4))::text
            WHEN 3 THEN codecrandom.decimal(30, 30)::text WHEN 4 THEN 'null' ELSE 'true' END;
    END IF;
    FOR i IN 1 .. codecrandom.n(0, 3) LOOP
        result := result || CASE WHEN i > 1 THEN ' , ' ELSE '' END
            || CASE WHEN shape = 0 THEN to_json('k' || codecrandom.n(0, 2)) || ':' ELSE '' END || codecrandom.json(depth - 1);
    END LOOP;
    RETURN CASE WHEN shape = 0 THEN '{' || result || '}' ELSE '[' || result || ']' END;
END $$;

CREATE FUNCTION codecrandom.units(v text) RETURNS int LANGUAGE sql IMMUTABLE
AS $$ SELECT length(v) + length(regexp_replace(v, E'[\\u0001-\\uffff]', '', 'g')) $$;
-- What an option may be, in words that are not the codec's.
CREATE FUNCTION codecrandom.option(v text) RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$ SELECT v !~ ',' AND codecrandom.units(v) <= 100 $$;
CREATE FUNCTION codecrandom.set(v anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE
AS $$ SELECT array_agg(e ORDER BY e::text COLLATE "C") FROM unnest(v) e $$;

CREATE TYPE codecrandom.mood AS ENUM ('sad', 'ok', 'happy "day"', E'\U0001f600 \\ {}');
CREATE TYPE codecrandom.odd AS ENUM ('a,b', 'A', 'a', ' ');
CREATE TYPE codecrandom.pair AS (a int, b text);
CREATE DOMAIN codecrandom.short AS varchar(20) CHECK (value <> 'never');
CREATE DOMAIN codecrandom.tags AS text[];

-- ---- kinds of columns ----

-- gen makes a value; fits says whether Notion can hold it; same whether b, what came back, is all of v.
CREATE TABLE codecrandom.kinds (
    id serial, type text, wished text, gen text, fits text DEFAULT 'true', same text DEFAULT 'coalesce(b::text, '''') = v::text');
INSERT INTO codecrandom.kinds (type, wished, gen, fits, same) VALUES
    ('boolean', NULL, 'random() < 0.5', 'true', 'b = v'),
    ('boolean', 'checkbox', 'random() < 0.5', 'true', 'b = v'),
    ('boolean', 'rich_text', 'random() < 0.5', 'true', 'b = v'),
    ('smallint', NULL, 'codecrandom.n(-32768, 32767)::smallint', 'true', 'b = v'),
    ('integer', NULL, 'codecrandom.n(-2147483648, 2147483647)::integer', 'true', 'b = v'),
    ('bigint', NULL, 'codecrandom.decimal(18, 0)::bigint', 'abs(v) <= 9007199254740992', 'b = v'),
    ('bigint', 'rich_text', 'codecrandom.decimal(18, 0)::bigint', 'true', 'b = v'),
    ('numeric', NULL, 'codecrandom.decimal(20, 20)', 'v::float8::text::numeric = v', 'b = v'),
    ('numeric(15,4)', NULL, 'codecrandom.decimal(11, 4)', 'true', 'b = v'),
    ('numeric', 'rich_text', 'codecrandom.decimal(40, 40)', 'true', 'b::text = v::text'),
    ('real', NULL, '(codecrandom.decimal(5, 6) * power(10, codecrandom.n(-40, 33)))::text::float8::real', 'true', 'b = v'),
    ('double precision', NULL, 'codecrandom.decimal(9, 9)::float8 * power(10::float8, codecrandom.n(-320, 290))', 'true', 'b = v'),
    ('text', NULL, 'codecrandom.text(20)', 'true', 'coalesce(b, '''') = v'),
    ('text', 'title', 'codecrandom.text(20)', 'true', 'coalesce(b, '''') = v'),
    ('text', 'select', 'codecrandom.text(4)', 'codecrandom.option(v)', 'coalesce(b, '''') = v'),
    ('text', 'status', 'codecrandom.text(4)', 'codecrandom.option(v)', 'coalesce(b, '''') = v'),
    ('text', 'url', 'codecrandom.text(20)', 'codecrandom.units(v) <= 2000', 'coalesce(b, '''') = v'),
    ('text', 'email', 'codecrandom.text(10)', 'codecrandom.units(v) <= 100', 'coalesce(b, '''') = v'),
    ('text', 'phone_number', 'codecrandom.text(10)', 'codecrandom.units(v) <= 100', 'coalesce(b, '''') = v'),
    ('varchar(60)', NULL, 'left(codecrandom.text(20), 60)', 'true', 'coalesce(b, '''') = v'),
    ('char(30)', NULL, 'left(codecrandom.text(10), 30)', 'true', 'coalesce(b, '''') = v'),
    ('name', NULL, 'codecrandom.text(10)::name', 'true', 'coalesce(b, '''') = v'),
    ('codecrandom.short', NULL, 'left(codecrandom.text(6), 20)::codecrandom.short', 'true', 'coalesce(b, '''') = v'),
    ('text[]', NULL, '(SELECT array_agg(codecrandom.text(4)) FROM generate_series(1, codecrandom.n(1, 5)))',
        'NOT EXISTS (SELECT FROM unnest(v) e WHERE e = '''' OR NOT codecrandom.option(e))
         AND (SELECT count(DISTINCT lower(e)) FROM unnest(v) e) = cardinality(v)', 'b = codecrandom.set(v)'),
    ('codecrandom.tags', NULL, '(SELECT array_agg(''t'' || codecrandom.n(1, 20)) FROM generate_series(1, codecrandom.n(1, 5)))',
        '(SELECT count(DISTINCT lower(e)) FROM unnest(v) e) = cardinality(v)', 'b::text[] = codecrandom.set(v::text[])'),
    ('codecrandom.mood[]', NULL, '(SELECT array_agg((enum_range(NULL::codecrandom.mood))[codecrandom.n(1, 4)])
        FROM generate_series(1, codecrandom.n(1, 3)))', '(SELECT count(DISTINCT e) FROM unnest(v) e) = cardinality(v)',
        'b = codecrandom.set(v)'),
    ('text[]', 'rich_text', '(SELECT array_agg(codecrandom.text(4)) FROM generate_series(1, codecrandom.n(1, 5)))', 'true', 'b = v'),
    ('codecrandom.mood', NULL, '(enum_range(NULL::codecrandom.mood))[codecrandom.n(1, 4)]', 'true', 'b = v'),
    ('codecrandom.odd', NULL, '(enum_range(NULL::codecrandom.odd))[codecrandom.n(1, 4)]', 'true', 'b = v'),
    ('date', NULL, 'codecrandom.moment()::date', 'isfinite(v) AND v BETWEEN ''0001-01-01'' AND ''9999-12-31''', 'b = v'),
    ('timestamptz', NULL, 'codecrandom.moment()', 'isfinite(v) AND v >= ''0001-01-01'' AND v < ''10000-01-01''',
        'b = date_trunc(''milliseconds'', v)'),
    ('timestamp', NULL, 'codecrandom.moment()::timestamp', 'isfinite(v) AND v >= ''0001-01-01'' AND v < ''10000-01-01''',
        'b = date_trunc(''milliseconds'', v)'),
    ('timestamptz', 'rich_text', 'codecrandom.moment()', 'true', 'b = v');
INSERT INTO codecrandom.kinds (type, gen) VALUES
    ('uuid', 'md5(random()::text)::uuid'),
    ('"char"', 'chr(codecrandom.n(1, 127)::int)::"char"'),
    ('interval', 'make_interval(codecrandom.n(-9, 9)::int, codecrandom.n(-20, 20)::int, 0, codecrandom.n(-99, 99)::int, 0, 0, random() * 1e5 - 5e4)'),
    ('time', 'codecrandom.moment()::time'),
    ('timetz', 'COALESCE(codecrandom.moment()::timetz, ''24:00:00-08'')'),
    ('bytea', 'codecrandom.bytes(300)'),
    ('json', 'codecrandom.json(4)::json'),
    ('jsonb', 'codecrandom.json(4)::jsonb'),
    ('inet', 'set_masklen(''0.0.0.0''::inet + codecrandom.n(0, 4294967295), codecrandom.n(0, 32)::int)'),
    ('cidr', 'network(set_masklen(''::''::inet + codecrandom.n(0, 4294967295), codecrandom.n(0, 128)::int))'),
    ('macaddr', 'left(md5(random()::text), 12)::macaddr'),
    ('macaddr8', 'left(md5(random()::text), 16)::macaddr8'),
    ('money', '(random() * 2e9 - 1e9)::numeric::money'),
    ('bit(9)', 'codecrandom.n(0, 511)::int::bit(9)'),
    ('bit varying', 'codecrandom.n(0, 511)::int::bit(9)::bit varying'),
    ('tsvector', 'to_tsvector(''simple'', codecrandom.text(6))'),
    ('tsquery', 'plainto_tsquery(''simple'', codecrandom.text(6))'),
    ('xml', 'xmlelement(name a, ''x'' || codecrandom.n(1, 99) || '' <&> '')'),
    ('int4range', 'int4range(codecrandom.n(-99, 0)::int, codecrandom.n(0, 99)::int, ''(]'')'),
    ('numrange', 'numrange(NULL, codecrandom.decimal(20, 20))'),
    ('daterange', 'daterange(''2026-01-01'', ''2026-01-01''::date + codecrandom.n(0, 999)::int)'),
    ('tstzrange', 'tstzrange(''-infinity'', codecrandom.moment())'),
    ('tstzmultirange', 'tstzmultirange(tstzrange(''2026-01-01'', ''2026-01-02''), tstzrange(''2027-01-01'', NULL))'),
    ('point', 'point(random() * 1e10 - 5e9, random())'),
    ('line', 'line(point(0, 0), point(1 + random(), random()))'),
    ('lseg', 'lseg(point(random(), 1), point(2, random()))'),
    ('box', 'box(point(random(), random()), point(random(), random()))'),
    ('path', 'path(polygon(box(point(0, 0), point(random(), 1))))'),
    ('polygon', 'polygon(box(point(0, 0), point(random(), 1)))'),
    ('circle', 'circle(point(random(), random()), random() * 1e-9)'),
    ('oid', 'codecrandom.n(0, 4294967295)::oid'),
    ('regtype', '(ARRAY[''text'', ''codecrandom.mood'', ''int[]''])[codecrandom.n(1, 3)]::regtype'),
    ('pg_lsn', '(to_hex(codecrandom.n(0, 4294967295)) || ''/'' || to_hex(codecrandom.n(0, 4294967295)))::pg_lsn'),
    ('jsonpath', '''$.a[*] ? (@ > 1)''::jsonpath'),
    ('integer[]', 'ARRAY[[codecrandom.n(0, 9)::int, NULL], [2, 3]]'),
    ('int2vector', '''1 2 3''::int2vector'),
    ('codecrandom.pair', 'ROW(codecrandom.n(0, 9)::int, codecrandom.text(6))::codecrandom.pair'),
    ('codecrandom.pair[]', 'ARRAY[ROW(1, codecrandom.text(6))::codecrandom.pair, NULL]');

-- ---- the test ----

-- Returns one line for each rule that a kind breaks, with the first value that does.
CREATE FUNCTION codecrandom.try(kind codecrandom.kinds, n int, OUT rule text, OUT times bigint, OUT example text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS tried;
    EXECUTE format('CREATE TEMP TABLE tried AS SELECT v, v IS NULL OR coalesce(%s, false) AS fits, l.*,
            r.canon AS seen, r.problem AS seen_problem, r.again AS seen_again
        FROM (SELECT CASE WHEN i %% 10 > 0 THEN (%s)::%s END AS v FROM generate_series(1, %s) i OFFSET 0) s,
            codecrandom.local(v, %L, false, NULL) l,
            codecrandom.remote(v, l.type, false, NULL, coalesce(codecrandom.answer(l.write::jsonb), ''{}'')) r',
        kind.fits, kind.gen, kind.type, n, kind.wished);
    RETURN QUERY EXECUTE format('SELECT x.rule, count(*), min(left(x.v::text, 100))
        FROM (SELECT t.*, t.sql::%s AS b FROM tried t) q, LATERAL (VALUES
            (''what fits is written'', q.fits AND q.problem IS NOT NULL, q.v),
            (''what does not fit is a problem'', NOT q.fits AND q.problem IS NULL, q.v),
            (''what Notion answers is what was written'', q.problem IS NULL AND (q.seen IS DISTINCT FROM q.canon OR q.seen_problem IS NOT NULL), q.v),
            (''what comes back is what left'', q.problem IS NULL AND (q.again IS DISTINCT FROM q.canon OR q.seen_again IS DISTINCT FROM q.canon), q.v),
            (''nothing is lost'', q.problem IS NULL AND q.v IS NOT NULL AND NOT coalesce(%s, false), q.v)
        ) x(rule, broken, v) WHERE x.broken GROUP BY x.rule', kind.type, kind.same);
END $$;

\set ECHO all
SET client_min_messages = warning;
SELECT codecrandom.pin();
SELECT setseed(0.2026);
-- the rules can be broken: a value that does not fit but is written, and one that is not what it was
SELECT t.rule, t.times FROM codecrandom.try((0, 'integer', NULL, '7', 'false', 'b <> v')::codecrandom.kinds, 10) t ORDER BY 1;
-- F1 to F8: no rule is broken, whatever the type
SELECT k.type, k.wished, t.* FROM codecrandom.kinds k, codecrandom.try(k, 300) t ORDER BY k.id, t.rule;
-- F8: types that the table above leaves out, among those that a column of a user's table can have
SELECT format_type(t.oid, NULL) FROM pg_type t
WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typelem = 0
    AND t.typname NOT LIKE ALL ('{reg%,pg_%,gtsvector,xid%,cid,tid,aclitem,txid_snapshot,refcursor}')
    AND NOT EXISTS (SELECT FROM codecrandom.kinds k WHERE k.type::regtype = t.oid) ORDER BY 1;
-- F3: a text that fills its 100 pieces to the last is cut beside accents, not refused; a shorter one is not
SELECT n, json_array_length(l.write::json -> 'rich_text') AS pieces, l.problem, l.sql = v AS same,
    (SELECT count(*) FROM json_array_elements(l.write::json -> 'rich_text') e
     WHERE e #>> '{text,content}' LIKE E'\u0301%') AS parted
FROM unnest('{99998,99999}'::int[]) n, concat('x', repeat(E'e\u0301', n), 'y') v,
    codecrandom.local(v, NULL, false, NULL) l;
DROP SCHEMA codecrandom CASCADE;
