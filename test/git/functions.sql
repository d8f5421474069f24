-- The test functions of src/git/gittest.c, for a library built with ANGLES_TEST. Loaded by hand by
-- test/t/50*.pl; no part of the extension.
CREATE SCHEMA gittest;

CREATE FUNCTION gittest.commit(
    path text, ref text, names text[], contents bytea[], parent text DEFAULT NULL,
    level integer DEFAULT 6, message text DEFAULT 'a message', at bigint DEFAULT 1700000000)
RETURNS text LANGUAGE C AS '$libdir/angles', 'angles_git_test_commit';

CREATE FUNCTION gittest.fill(
    path text, ref text, n integer, size integer, seed bigint DEFAULT 0, every integer DEFAULT 0,
    parent text DEFAULT NULL, level integer DEFAULT 1)
RETURNS text LANGUAGE C AS '$libdir/angles', 'angles_git_test_fill';

CREATE FUNCTION gittest.read(path text, commit text, file text) RETURNS bytea
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_read';

CREATE FUNCTION gittest.walk(path text, commit text) RETURNS TABLE (line text)
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_walk';

CREATE FUNCTION gittest.verify(
    path text, commit text, history boolean DEFAULT true, part integer DEFAULT 0,
    parts integer DEFAULT 1)
RETURNS TABLE (line text) LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_verify';

CREATE FUNCTION gittest.ref_update(path text, name text, new text, expected text) RETURNS boolean
LANGUAGE C AS '$libdir/angles', 'angles_git_test_ref_update';

CREATE FUNCTION gittest.refs(path text) RETURNS TABLE (line text)
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_refs';

CREATE FUNCTION gittest.head(path text, branch text DEFAULT NULL) RETURNS text
LANGUAGE C AS '$libdir/angles', 'angles_git_test_head';

CREATE FUNCTION gittest.push(
    path text, url text, updates text[], secret text DEFAULT NULL, idle_ms integer DEFAULT 0,
    total_ms integer DEFAULT 0,
    OUT code text, OUT sent boolean, OUT reconciled boolean, OUT retry boolean,
    OUT http_status integer, OUT retry_after_s integer, OUT ref text, OUT remote_id text,
    OUT message text, OUT server_text text, OUT hint text, OUT moved_to text, OUT paths text,
    OUT size text)
LANGUAGE C AS '$libdir/angles', 'angles_git_test_push';

CREATE FUNCTION gittest.remote_refs(url text) RETURNS TABLE (line text)
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_remote_refs';

CREATE FUNCTION gittest.parse(kind text, bytes bytea) RETURNS text
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_parse';

CREATE FUNCTION gittest.fuzz(kind text, sample bytea, n integer, seed integer) RETURNS integer
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_fuzz';

CREATE FUNCTION gittest."limit"(bytes bigint) RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_limit';

CREATE FUNCTION gittest.large_offsets(first bigint) RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_git_test_large_offsets';
