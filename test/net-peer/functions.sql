-- The test functions of src/net/nettest.c, for a library built with ANGLES_TEST. Loaded by hand by
-- test/t/net*.pl; no part of the extension.
CREATE SCHEMA nettest;

CREATE FUNCTION nettest.request(
    method text, url text, token text DEFAULT NULL, headers text[] DEFAULT NULL,
    body text DEFAULT NULL, n integer DEFAULT 1, width integer DEFAULT 1,
    keep boolean DEFAULT false,
    OUT tag integer, OUT result text, OUT status integer, OUT answer text, OUT too_large boolean,
    OUT is_json boolean, OUT retry_after_s integer, OUT server_date timestamptz,
    OUT request_id text, OUT problem text, OUT us bigint)
RETURNS SETOF record LANGUAGE C AS '$libdir/angles', 'angles_net_test_request';

CREATE FUNCTION nettest.upload(
    url text, token text DEFAULT NULL, username text DEFAULT NULL, length bigint DEFAULT 1000,
    fails_at bigint DEFAULT -1, ends_at bigint DEFAULT 100000000, timeout_ms integer DEFAULT 2000)
RETURNS text LANGUAGE C AS '$libdir/angles', 'angles_net_test_upload';

CREATE FUNCTION nettest.count_fds(only_inheritable boolean) RETURNS integer
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_count_fds';

CREATE FUNCTION nettest.threads_block_signals(url text) RETURNS text
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_threads_block_signals';

CREATE FUNCTION nettest.leak(url text) RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_leak';

CREATE FUNCTION nettest.cpu_ms() RETURNS integer
LANGUAGE C STRICT VOLATILE AS '$libdir/angles', 'angles_net_test_cpu_ms';

-- src/net/ratetest.c
CREATE FUNCTION nettest.simulate(
    seed integer, lim integer, minutes integer, edits_per_minute float8 DEFAULT 0,
    burst integer DEFAULT 0, backlog boolean DEFAULT true,
    OUT seen integer, OUT edits integer, OUT worst_minute integer, OUT used float8,
    OUT longest_wait_us bigint, OUT slow integer)
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_simulate';

CREATE FUNCTION nettest.rate_take(
    fingerprint bigint, lim integer, backlog boolean DEFAULT false, n integer DEFAULT 1)
RETURNS bigint LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_rate_take';

CREATE FUNCTION nettest.rate_pause(fingerprint bigint, seconds integer, reason text) RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_rate_pause';

CREATE FUNCTION nettest.rate_resume(fingerprint bigint) RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_rate_resume';

CREATE FUNCTION nettest.rate_get(fingerprint bigint) RETURNS text
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_rate_get';

CREATE FUNCTION nettest.rate_save() RETURNS void
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_rate_save';

CREATE FUNCTION nettest.breaker(fingerprint bigint, what text) RETURNS bigint
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_breaker';

CREATE FUNCTION nettest.backoff(attempt integer, retry_after_s integer) RETURNS bigint
LANGUAGE C STRICT AS '$libdir/angles', 'angles_net_test_backoff';
