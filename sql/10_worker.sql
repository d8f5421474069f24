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

CREATE TABLE angles.identity (
	one				boolean PRIMARY KEY DEFAULT true CHECK (one),
	identity		text NOT NULL,
	parts			jsonb NOT NULL,
	epoch			bigint NOT NULL DEFAULT 1,
	how				text NOT NULL CHECK (how IN ('created', 'promoted', 'adopted')),
	recorded_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	recovery_mark	text NOT NULL,
	fence_reason	text CHECK (fence_reason IN ('copied', 'recovered')),
	fenced_since	timestamptz
);
COMMENT ON TABLE angles.identity IS 'the server that this database belongs to; another one is fenced until angles.adopt()';
INSERT INTO angles.identity (identity, parts, how, recovery_mark)
	VALUES (angles.identity_now(), angles.identity_parts(), 'created', angles.recovery_mark());

CREATE FUNCTION angles.identity_record(new_how text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	UPDATE angles.identity SET identity = angles.identity_now(), parts = angles.identity_parts(),
		epoch = epoch + 1, how = new_how, recorded_at = now(),
		recovery_mark = angles.recovery_mark(), fence_reason = NULL, fenced_since = NULL;
	UPDATE angles.links SET identity = angles.identity_now(), reconcile = (reconcile OR new_how = 'adopted')
		WHERE identity <> angles.identity_now();
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
			crashes = crashes + 1,
			class = CASE WHEN crashes + 1 >= 3 THEN 'poison' ELSE 'crash' END,
			sqlstate = '57P02',
			message = 'the worker died during this run',
			hint = 'Look for the reason in the server''s log.',
			finished_at = pg_catalog.clock_timestamp(),
			next_attempt_at = CASE WHEN crashes + 1 < 3 AND attempt < max_attempts
				THEN pg_catalog.clock_timestamp() + backoff_us * interval '1 microsecond' END
		WHERE id = run_id AND state = 'running';
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

CREATE FUNCTION angles.alert_open(fingerprint text, severity text, title text, detail text DEFAULT NULL,
								  hint text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	alert angles.alerts;
BEGIN
	INSERT INTO angles.alerts AS a (fingerprint, severity, title, detail, hint)
		VALUES (alert_open.fingerprint, alert_open.severity, alert_open.title, alert_open.detail, alert_open.hint)
		ON CONFLICT (fingerprint) WHERE closed_at IS NULL
		DO UPDATE SET last_seen_at = now(), count = a.count + 1, severity = excluded.severity,
			title = excluded.title, detail = excluded.detail, hint = excluded.hint
		RETURNING a.* INTO alert;
	IF alert.count > 1 THEN
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
		WHERE a.fingerprint = alert_close.fingerprint AND a.closed_at IS NULL
		RETURNING a.* INTO alert;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM angles.alert_notify(alert, 'closed');
	RETURN true;
END
$body$;
COMMENT ON FUNCTION angles.alert_close(text) IS 'internal: closes the open alert of this fingerprint; false when there is none';

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
