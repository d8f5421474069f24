/*
 * 10_worker.sql
 *		Runs, alerts, audit trail, identity: what the room worker keeps and offers.
 *
 * Tables are written by the workers of angles and by the functions below. A person sees them
 * through his role: angles_viewer reads, angles_operator starts and cancels runs, angles_admin adopts.
 */

/* ---- identity ---- */

CREATE FUNCTION angles.identity_now() RETURNS text
	LANGUAGE c STRICT STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_identity_now';
COMMENT ON FUNCTION angles.identity_now() IS 'the identity of this server and database, as hex digits';

CREATE FUNCTION angles.identity_parts() RETURNS jsonb
	LANGUAGE c STRICT STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_identity_parts';
COMMENT ON FUNCTION angles.identity_parts() IS 'what the identity is made of';

CREATE FUNCTION angles.recovery_mark() RETURNS text
	LANGUAGE c STRICT STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_recovery_mark';
COMMENT ON FUNCTION angles.recovery_mark() IS 'names the last start of this server with recovery.signal';

CREATE FUNCTION angles.timeline_now() RETURNS bigint
	LANGUAGE c STRICT STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_timeline_now';
COMMENT ON FUNCTION angles.timeline_now() IS 'the timeline of this server''s WAL, which each promotion changes';

CREATE TABLE angles.identity (
	one				boolean PRIMARY KEY DEFAULT true CHECK (one),
	identity		text NOT NULL,
	parts			jsonb NOT NULL,
	timeline		bigint NOT NULL,
	epoch			bigint NOT NULL DEFAULT 1,
	since_epoch		bigint NOT NULL DEFAULT 1,
	how				text NOT NULL CHECK (how IN ('created', 'promoted', 'adopted')),
	recorded_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	recovery_mark	text NOT NULL,
	fence_reason	text CHECK (fence_reason IN ('copied', 'recovered', 'superseded')),
	fenced_since	timestamptz,
	predecessors	text[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE angles.identity IS 'the server that this database belongs to; another one is fenced until angles.adopt()';
COMMENT ON COLUMN angles.identity.timeline IS 'that of the WAL when the identity was recorded: another one means that this server was promoted since';
COMMENT ON COLUMN angles.identity.since_epoch IS 'the epoch that creation, promotion or adopt() began: links with a lower mark_epoch are to be marked anew';
COMMENT ON COLUMN angles.identity.predecessors IS 'identities before a promotion, while links that somebody holds still carry them';
INSERT INTO angles.identity (identity, parts, timeline, how, recovery_mark)
	VALUES (angles.identity_now(), angles.identity_parts(), angles.timeline_now(), 'created', angles.recovery_mark());

/* Called by the bridge: waits for no session. */
CREATE FUNCTION angles.identity_follow() RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	PERFORM FROM angles.identity FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE angles.links SET identity = angles.identity_now(), push_cursor = NULL, push_done = 0
		WHERE id IN (SELECT l.id FROM angles.links l, angles.identity i
			WHERE l.identity = ANY (i.predecessors) FOR NO KEY UPDATE OF l SKIP LOCKED);
	IF FOUND THEN
		PERFORM angles.wake();
	END IF;
	IF EXISTS (SELECT FROM angles.links l, angles.identity i WHERE l.identity = ANY (i.predecessors)) THEN
		RETURN false;
	END IF;
	UPDATE angles.identity SET predecessors = '{}';
	RETURN true;
END
$body$;
COMMENT ON FUNCTION angles.identity_follow() IS 'internal: lets links follow a promotion unless somebody holds them; whether all have';

/*
 * 'promoted': the links follow with identity_follow(). The marks in Notion are taken over, whatever
 * epoch they show: since_epoch says so.
 */
CREATE FUNCTION angles.identity_record(new_how text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	UPDATE angles.identity SET identity = angles.identity_now(), parts = angles.identity_parts(),
		timeline = angles.timeline_now(), epoch = epoch + 1, since_epoch = epoch + 1,
		how = new_how, recorded_at = now(),
		recovery_mark = angles.recovery_mark(), fence_reason = NULL, fenced_since = NULL,
		predecessors = CASE new_how WHEN 'promoted'
			THEN array_remove(predecessors || identity, angles.identity_now()) ELSE '{}' END;
	/* Nothing is sent before Notion's pages were listed: some may have been made since the copy. */
	UPDATE angles.links SET identity = angles.identity_now(), mark_epoch = NULL,
		state = CASE WHEN state IN ('pushing', 'active') THEN 'binding' ELSE state END,
		push_cursor = NULL, push_done = 0
		WHERE new_how = 'adopted';
END
$body$;
COMMENT ON FUNCTION angles.identity_record(text) IS 'internal: makes this server the one that the database and its links belong to';

CREATE TABLE angles.worker_generation (
	one				boolean PRIMARY KEY DEFAULT true CHECK (one),
	generation		bigint NOT NULL DEFAULT 0,
	started_at		timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE angles.worker_generation IS 'number of the newest sync worker; what an older one holds is void';
INSERT INTO angles.worker_generation DEFAULT VALUES;

/* ---- runs ---- */

CREATE TABLE angles.runs (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	task			text NOT NULL,
	args			jsonb NOT NULL DEFAULT '{}',
	state			text NOT NULL DEFAULT 'queued'
					CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'crashed')),
	attempt			integer NOT NULL DEFAULT 0,
	max_attempts	integer NOT NULL DEFAULT 5,
	crashes			integer NOT NULL DEFAULT 0,
	class			text CHECK (class IN ('transient', 'busy', 'permanent', 'crash', 'poison')),
	sqlstate		text,
	message			text,
	detail			text,
	hint			text,
	result			jsonb,
	requested_by	text NOT NULL DEFAULT session_user,
	requested_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started_at		timestamptz,
	finished_at		timestamptz,
	next_attempt_at	timestamptz,
	worker_generation bigint
) WITH (fillfactor = 80);
CREATE INDEX runs_queued ON angles.runs (id) WHERE state IN ('queued', 'running');
CREATE INDEX runs_retry ON angles.runs (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
COMMENT ON TABLE angles.runs IS 'every task that was asked for: state, attempts, error, result; kept 30 days, at most 10,000';
COMMENT ON COLUMN angles.runs.class IS 'of the error: transient and busy are tried again, permanent is not; crash: the worker died; poison: it died of this run three times';
COMMENT ON COLUMN angles.runs.next_attempt_at IS 'a further attempt comes then';

CREATE FUNCTION angles.run_crashed(run_id bigint, backoff_us bigint) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		UPDATE angles.runs SET
			state = 'crashed',
			/* it may have died in the very transaction that would have made it 'running' */
			attempt = attempt + (state = 'queued')::integer,
			crashes = crashes + 1,
			class = CASE WHEN crashes + 1 >= 3 THEN 'poison' ELSE 'crash' END,
			sqlstate = '57P02',
			message = 'the worker died during this run',
			hint = 'Look for the reason in the server''s log.',
			finished_at = pg_catalog.clock_timestamp(),
			next_attempt_at = CASE WHEN crashes + 1 < 3 AND attempt < max_attempts
				THEN pg_catalog.clock_timestamp() + backoff_us * interval '1 microsecond' END
		WHERE id = run_id AND (state IN ('queued', 'running') OR next_attempt_at IS NOT NULL);
	END;
COMMENT ON FUNCTION angles.run_crashed(bigint, bigint) IS 'internal: notes that the worker of a run died, and when it is tried again';

/* ---- alerts ---- */

CREATE TABLE angles.alerts (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	fingerprint		text NOT NULL,
	severity		text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
	title			text NOT NULL,
	detail			text,
	hint			text,
	opened_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	last_seen_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	closed_at		timestamptz,
	count			bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX alerts_open ON angles.alerts (fingerprint) WHERE closed_at IS NULL;
COMMENT ON TABLE angles.alerts IS 'what needs a person, open while closed_at is null; also sent as NOTIFY angles_alerts';

CREATE FUNCTION angles.alert_notify(alert angles.alerts, event text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		/* a payload has less than 8,000 bytes (NOTIFY); what is cut here stands in the table */
		SELECT pg_catalog.pg_notify('angles_alerts', pg_catalog.jsonb_build_object(
			'event', event, 'id', (alert).id, 'fingerprint', pg_catalog.left((alert).fingerprint, 200),
			'severity', (alert).severity, 'title', pg_catalog.left((alert).title, 300),
			'detail', pg_catalog.left((alert).detail, 600), 'hint', pg_catalog.left((alert).hint, 300),
			'opened_at', (alert).opened_at, 'closed_at', (alert).closed_at)::text);
	END;
COMMENT ON FUNCTION angles.alert_notify(angles.alerts, text) IS 'internal: sends NOTIFY angles_alerts';

/*
 * Waits for nobody: not even for one who is just opening the same alert, whom no query can see. The
 * table is locked by the caller already, so nothing else can take this time.
 */
CREATE FUNCTION angles.alert_add(fingerprint text, severity text, title text, detail text, hint text)
	RETURNS angles.alerts
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10ms'
	AS $body$
#variable_conflict use_column
DECLARE
	alert angles.alerts;
BEGIN
	INSERT INTO angles.alerts AS a (fingerprint, severity, title, detail, hint)
		VALUES (alert_add.fingerprint, alert_add.severity, alert_add.title, alert_add.detail, alert_add.hint)
		ON CONFLICT (fingerprint) WHERE closed_at IS NULL DO NOTHING
		RETURNING a.* INTO alert;
	RETURN alert;
EXCEPTION WHEN lock_not_available THEN
	RETURN NULL;
END
$body$;
COMMENT ON FUNCTION angles.alert_add(text, text, text, text, text) IS 'internal: adds an open alert; NULL when there is one, or somebody is just opening or closing it';

/*
 * Like alert_close(), this leaves an alert as it is that somebody's transaction holds: workers call
 * both, and must not wait for it.
 */
CREATE FUNCTION angles.alert_open(fingerprint text, severity text, title text, detail text DEFAULT NULL,
								  hint text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
#variable_conflict use_column
DECLARE
	alert angles.alerts;
BEGIN
	UPDATE angles.alerts a SET last_seen_at = now(), count = a.count + 1, severity = alert_open.severity,
		title = alert_open.title, detail = alert_open.detail, hint = alert_open.hint
		WHERE a.id IN (SELECT o.id FROM angles.alerts o
			WHERE o.fingerprint = alert_open.fingerprint AND o.closed_at IS NULL FOR UPDATE SKIP LOCKED);
	IF FOUND OR EXISTS (SELECT FROM angles.alerts o
		WHERE o.fingerprint = alert_open.fingerprint AND o.closed_at IS NULL) THEN
		RETURN false;
	END IF;
	alert := angles.alert_add(alert_open.fingerprint, alert_open.severity, alert_open.title, alert_open.detail,
		alert_open.hint);
	IF alert.id IS NULL THEN
		RETURN false;
	END IF;
	PERFORM angles.alert_notify(alert, 'opened');
	RETURN true;
END
$body$;
COMMENT ON FUNCTION angles.alert_open(text, text, text, text, text) IS 'internal: opens the alert of this fingerprint (true) or notes that it is still there (false)';

CREATE FUNCTION angles.alert_close(fingerprint text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	alert angles.alerts;
BEGIN
	UPDATE angles.alerts a SET closed_at = now()
		WHERE a.id IN (SELECT o.id FROM angles.alerts o
			WHERE o.fingerprint = alert_close.fingerprint AND o.closed_at IS NULL FOR UPDATE SKIP LOCKED)
		RETURNING a.* INTO alert;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM angles.alert_notify(alert, 'closed');
	RETURN true;
END
$body$;
COMMENT ON FUNCTION angles.alert_close(text) IS 'internal: closes the open alert of this fingerprint; false when there is none, or somebody holds it';

/* ---- audit trail ---- */

CREATE TABLE angles.audit_log (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at				timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	who				name NOT NULL DEFAULT session_user,
	role			name NOT NULL DEFAULT pg_catalog.current_setting('role'),
	action			text NOT NULL,
	object			text NOT NULL,
	detail			jsonb,
	xid				xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);
COMMENT ON TABLE angles.audit_log IS 'who did what; rows are added and never changed or deleted';
COMMENT ON COLUMN angles.audit_log.role IS 'set by SET ROLE, "none" otherwise';

CREATE FUNCTION angles.audit_refuse() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'insufficient_privilege',
		MESSAGE = 'rows of angles.audit_log cannot be changed or deleted',
		HINT = 'It goes with the extension, as a whole.';
END
$body$;
COMMENT ON FUNCTION angles.audit_refuse() IS 'internal: keeps the audit trail append-only';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON angles.audit_log
	FOR EACH STATEMENT EXECUTE FUNCTION angles.audit_refuse();
ALTER TABLE angles.audit_log ENABLE ALWAYS TRIGGER append_only;

CREATE FUNCTION angles.audit(action text, object text, detail jsonb DEFAULT NULL) RETURNS bigint
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
		INSERT INTO angles.audit_log (action, object, detail) VALUES (action, object, detail) RETURNING id;
	END;
COMMENT ON FUNCTION angles.audit(text, text, jsonb) IS 'internal: adds a row to the audit trail';

/* ---- asking for runs ---- */

CREATE FUNCTION angles.request_rows(task text, args jsonb DEFAULT '{}') RETURNS SETOF jsonb
	LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_request_rows';
COMMENT ON FUNCTION angles.request_rows(text, jsonb) IS 'asks for a run, waits for it at most angles.wait_max, returns its rows; a cancel ends the run';

/* with its owner's rights: it adds a row of angles.runs, for which requested_by says who asked */
CREATE FUNCTION angles.enqueue_run(task text, args jsonb DEFAULT '{}') RETURNS bigint
	LANGUAGE c STRICT VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_enqueue_run';
COMMENT ON FUNCTION angles.enqueue_run(text, jsonb) IS 'asks for a run that begins when this transaction commits; returns its number in angles.runs';

/*
 * No SET search_path: PostgreSQL forbids COMMIT in a procedure that has one. The function is in C
 * and executes no SQL.
 */
CREATE PROCEDURE angles.run(task text, args jsonb DEFAULT '{}', INOUT result jsonb DEFAULT NULL)
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'angles_sql_run';
COMMENT ON PROCEDURE angles.run(text, jsonb, jsonb) IS 'commits, asks for a run, and waits for it without holding a snapshot; result is the array of its rows';

CREATE FUNCTION angles.cancel_call(run_id bigint) RETURNS boolean
	LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_cancel_call';
COMMENT ON FUNCTION angles.cancel_call(bigint) IS 'internal: cancels a run that is with a worker';

/* with its owner's rights: it changes a row of angles.runs */
CREATE FUNCTION angles.cancel(run_id bigint) RETURNS boolean
	LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	with_worker boolean := angles.cancel_call(run_id);
	in_table boolean;
BEGIN
	UPDATE angles.runs SET state = 'cancelled', next_attempt_at = NULL, finished_at = clock_timestamp()
		WHERE id = run_id AND (state = 'queued' OR next_attempt_at IS NOT NULL);
	in_table := FOUND;
	IF NOT with_worker AND NOT in_table THEN
		IF NOT EXISTS (SELECT FROM angles.runs WHERE id = run_id) THEN
			RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('run %s does not exist', run_id);
		END IF;
		RETURN false;
	END IF;
	PERFORM angles.audit('cancel', format('run %s', run_id));
	RETURN true;
END
$body$;
COMMENT ON FUNCTION angles.cancel(bigint) IS 'cancels a run; false when it had ended already';

CREATE FUNCTION angles.look() RETURNS void
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_look';
COMMENT ON FUNCTION angles.look() IS 'internal: lets the bridge look at extension and identity again when this transaction commits';

/* with its owner's rights: it changes angles.identity and angles.links */
CREATE FUNCTION angles.adopt() RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	before jsonb;
	fenced_links bigint;
	new_epoch bigint;
BEGIN
	SELECT to_jsonb(i) INTO before FROM angles.identity i FOR UPDATE;
	SELECT count(*) INTO fenced_links FROM angles.links WHERE identity <> angles.identity_now();
	PERFORM angles.identity_record('adopted');
	SELECT epoch INTO new_epoch FROM angles.identity;
	PERFORM angles.audit('adopt', 'server', jsonb_build_object('before', before, 'links', fenced_links));
	PERFORM angles.alert_close('fenced');
	PERFORM angles.look();
	PERFORM angles.wake();
	RETURN format('this server is now the owner (epoch %s); %s links will be compared with Notion in full',
		new_epoch, fenced_links);
END
$body$;
COMMENT ON FUNCTION angles.adopt() IS 'makes this server the one that the database belongs to, after a copy, a restore or a recovery';

CREATE FUNCTION angles.workers_in_memory(
	OUT database oid, OUT state text, OUT bridge_pid integer, OUT sync_pid integer,
	OUT bridge_failures integer, OUT sync_failures integer, OUT next_start timestamptz,
	OUT held_by integer, OUT last_error text, OUT apply_pid integer, OUT apply_failures integer)
	RETURNS SETOF record
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_workers';
COMMENT ON FUNCTION angles.workers_in_memory() IS 'internal: see view angles.workers';

CREATE VIEW angles.workers AS
	SELECT d.datname AS database, w.state, w.bridge_pid, w.sync_pid, w.bridge_failures, w.sync_failures,
		w.next_start, w.held_by, w.last_error, w.apply_pid, w.apply_failures
	FROM angles.workers_in_memory() w JOIN pg_catalog.pg_database d ON d.oid = w.database;
COMMENT ON VIEW angles.workers IS 'the processes of angles, by database; other databases for members of pg_read_all_stats';

/* ---- rights ---- */

REVOKE ALL ON angles.identity, angles.worker_generation, angles.runs, angles.alerts, angles.audit_log, angles.workers
	FROM PUBLIC;
REVOKE ALL ON SEQUENCE angles.runs_id_seq, angles.alerts_id_seq, angles.audit_log_id_seq FROM PUBLIC;
GRANT SELECT ON angles.identity, angles.runs, angles.alerts, angles.workers TO angles_viewer;
GRANT SELECT ON angles.audit_log TO angles_admin;

REVOKE EXECUTE ON FUNCTION
	angles.identity_now(), angles.identity_parts(), angles.timeline_now(), angles.recovery_mark(), angles.identity_record(text),
	angles.identity_follow(),
	angles.run_crashed(bigint, bigint), angles.alert_notify(angles.alerts, text),
	angles.alert_add(text, text, text, text, text),
	angles.alert_open(text, text, text, text, text), angles.alert_close(text), angles.audit_refuse(),
	angles.audit(text, text, jsonb), angles.request_rows(text, jsonb), angles.enqueue_run(text, jsonb),
	angles.cancel_call(bigint), angles.cancel(bigint), angles.look(), angles.adopt(), angles.workers_in_memory()
	FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE angles.run(text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION angles.identity_now(), angles.identity_parts(), angles.workers_in_memory() TO angles_viewer;
GRANT EXECUTE ON FUNCTION angles.request_rows(text, jsonb), angles.enqueue_run(text, jsonb), angles.cancel(bigint)
	TO angles_operator;
GRANT EXECUTE ON PROCEDURE angles.run(text, jsonb, jsonb) TO angles_operator;
GRANT EXECUTE ON FUNCTION angles.adopt() TO angles_admin;
