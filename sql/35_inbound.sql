/*
 * 35_inbound.sql
 *		What people changed in Notion, on its way into the tables. src/sync/README.md draws the way.
 */

CREATE TABLE angles.polls (
	link_id			integer PRIMARY KEY,
	watermark		timestamptz NOT NULL,
	swept_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE angles.polls IS 'how far each data source was read; only the sync worker writes it';
COMMENT ON COLUMN angles.polls.watermark IS 'pages edited before this minute have been seen';
COMMENT ON COLUMN angles.polls.swept_at IS 'when all pages were listed last, to see which are gone';

/*
 * Written by the sync worker, and by an apply worker that has the row locked. Neither waits for the
 * other: a row that is locked has its turn later.
 */
CREATE TABLE angles.inbox (
	link_id			integer NOT NULL,
	page_id			uuid NOT NULL,
	kind			text NOT NULL DEFAULT 'edit'
		CHECK (kind IN ('edit', 'new', 'make', 'delete', 'flag', 'unflag')),
	page_state		text NOT NULL GENERATED ALWAYS AS (CASE WHEN kind IN ('new', 'make') THEN 'new'
		WHEN kind IN ('delete', 'flag') THEN 'removed' ELSE 'live' END) STORED,
	state			text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')),
	remote			jsonb NOT NULL,
	decided			jsonb,
	edited_at		timestamptz NOT NULL,
	edited_by		text,
	seen_at			timestamptz NOT NULL,
	attempts		integer NOT NULL DEFAULT 0,
	next_at			timestamptz,
	class			text,
	code			text,
	message			text,
	hint			text,
	parked_at		timestamptz,
	PRIMARY KEY (link_id, page_id)
);
CREATE INDEX inbox_ready ON angles.inbox (link_id, seen_at) WHERE state = 'ready';
COMMENT ON TABLE angles.inbox IS 'what was changed in Notion and is not in its row yet';
COMMENT ON COLUMN angles.inbox.kind IS 'edit: values; new, make: a row for a page, under a new key or its own; delete, flag: of a removed page''s row; unflag: it is back, with values';
COMMENT ON COLUMN angles.inbox.page_state IS 'the state of the page in which that is to be done; in another one it is of no account';
COMMENT ON COLUMN angles.inbox.remote IS 'the new values, by property id, in canonical form';
COMMENT ON COLUMN angles.inbox.decided IS 'values that a person chose with angles.resolve(), by property id';
COMMENT ON COLUMN angles.inbox.edited_at IS 'the minute of the page''s last edit, as Notion tells it';

/* Rows that were deleted because their pages were, as texts of their columns. */
CREATE TABLE angles.removed_log (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	link_id			integer NOT NULL,
	relid			regclass NOT NULL,
	key				text NOT NULL,
	page_id			uuid NOT NULL,
	columns			text[] NOT NULL,
	texts			text[] NOT NULL,
	removed_at		timestamptz NOT NULL,
	restored_at		timestamptz,
	restored_by		text
);
CREATE INDEX removed_log_over ON angles.removed_log (link_id, restored_at) WHERE restored_at IS NOT NULL;
COMMENT ON TABLE angles.removed_log IS 'rows that sync has deleted, as they were; angles.undelete() brings them back';
SELECT pg_catalog.pg_extension_config_dump('angles.removed_log', '');
SELECT pg_catalog.pg_extension_config_dump('angles.removed_log_id_seq', '');

CREATE TABLE angles.conflict_log (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	link_id			integer NOT NULL,
	key				text NOT NULL,
	page_id			uuid NOT NULL,
	property_id		text NOT NULL,
	property_name	text NOT NULL,
	column_name		name NOT NULL,
	base			jsonb,
	local			jsonb NOT NULL,
	remote			jsonb NOT NULL,
	policy			text NOT NULL,
	winner			text CHECK (winner IN ('postgres', 'notion')),
	local_at		timestamptz,
	remote_at		timestamptz NOT NULL,
	remote_by		text,
	detected_at		timestamptz NOT NULL,
	resolved_at		timestamptz,
	resolved_by		text
);
CREATE INDEX conflict_log_open ON angles.conflict_log (link_id, key) WHERE winner IS NULL;
CREATE INDEX conflict_log_over ON angles.conflict_log (link_id, resolved_at) WHERE winner IS NOT NULL;
COMMENT ON TABLE angles.conflict_log IS 'values that both sides had changed, with the one that lost';
SELECT pg_catalog.pg_extension_config_dump('angles.conflict_log', '');
SELECT pg_catalog.pg_extension_config_dump('angles.conflict_log_id_seq', '');

CREATE TABLE angles.overwrites (
	link_id			integer PRIMARY KEY,
	window_ms		bigint NOT NULL,
	window_max_ms	bigint NOT NULL,
	lost			bigint NOT NULL,
	last_lost_at	timestamptz
);
COMMENT ON TABLE angles.overwrites IS 'what is known of edits that writes have covered; only the sync worker writes it';

CREATE VIEW angles.sync_counters AS
	SELECT l.relid AS "table", COALESCE(o.window_ms, 0) AS lost_update_window_ms,
		COALESCE(o.window_max_ms, 0) AS lost_update_window_max_ms, COALESCE(o.lost, 0) AS lost_updates,
		o.last_lost_at AS last_lost_update_at
	FROM angles.links l LEFT JOIN angles.overwrites o ON o.link_id = l.id
	WHERE l.state <> 'unlinked';
COMMENT ON VIEW angles.sync_counters IS 'how long after the last look at a page it is written (last, longest), and how many edits of people are known to have been covered in that time: angles.conflicts keeps them, policy overwritten';

/*
 * Which changes an apply worker can take now. All who decide whether and as whom one is started ask
 * this, so that none is started for nothing. Before 17 it can only be a role that may log in.
 */
CREATE VIEW angles.inbox_due AS
	SELECT i.link_id, i.page_id, i.seen_at, l.owner::oid AS owner
	FROM angles.inbox i JOIN angles.links l ON l.id = i.link_id
		JOIN angles.pages p ON p.link_id = i.link_id AND p.page_id = i.page_id
		JOIN pg_catalog.pg_roles r ON r.oid = l.owner
		LEFT JOIN angles.queue_entries q ON q.link_id = p.link_id AND q.key = p.key
	WHERE i.state = 'ready' AND (i.next_at IS NULL OR i.next_at <= clock_timestamp())
		AND NOT l.paused AND l.state IN ('pushing', 'active') AND l.identity = angles.identity_now()
		AND p.state = i.page_state AND q.state IS DISTINCT FROM 'claimed'
		AND (r.rolcanlogin OR current_setting('server_version_num')::integer >= 170000);
COMMENT ON VIEW angles.inbox_due IS 'internal: changes made in Notion that can be applied now';

/*
 * Values are shown to those who may read the column: they come from rows, and row security cannot be
 * asked about a row that changed since.
 */
CREATE VIEW angles.conflicts AS
	SELECT c.id, l.relid AS "table", c.key, c.column_name AS "column", c.property_name AS property,
		CASE WHEN v.visible THEN c.base END AS base, CASE WHEN v.visible THEN c.local END AS postgres,
		CASE WHEN v.visible THEN c.remote END AS notion, c.policy, c.winner,
		c.local_at AS postgres_at, c.remote_at AS notion_at, c.remote_by AS notion_by,
		c.detected_at, c.resolved_at, c.resolved_by
	FROM angles.conflict_log c JOIN angles.links l ON l.id = c.link_id LEFT JOIN pg_catalog.pg_class t ON t.oid = l.relid,
		LATERAL (SELECT CASE WHEN t.oid IS NULL THEN false
			ELSE has_table_privilege(t.oid, 'SELECT') AND NOT row_security_active(t.oid) END AS visible) v
	WHERE l.state <> 'unlinked';
COMMENT ON VIEW angles.conflicts IS 'values that both sides had changed; without a winner both wait for angles.resolve(id, ''postgres'' or ''notion'')';

CREATE FUNCTION angles.resolve(conflict bigint, winner text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	decided record;
BEGIN
	IF resolve.winner IS NULL OR resolve.winner NOT IN ('postgres', 'notion') THEN
		RAISE EXCEPTION 'argument "winner" cannot be "%"', COALESCE(resolve.winner, 'null')
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'It may be postgres (the row''s value) or notion (the page''s).';
	END IF;
	SELECT c.link_id, c.key, l.relid::text AS name INTO decided
	FROM angles.conflict_log c JOIN angles.links l ON l.id = c.link_id
	WHERE c.id = resolve.conflict AND l.state <> 'unlinked';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no conflict %', COALESCE(resolve.conflict::text, 'null')
			USING ERRCODE = 'NG106', HINT = 'SELECT * FROM angles.conflicts shows those that are.';
	END IF;
	-- what a decision leads to is the workers' to write: nobody shall wait for this transaction
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, new_key, at)
	VALUES (nextval('angles.change_log_seq'), 0, decided.link_id, 'C', decided.key,
		format('%s:%s:%s', resolve.conflict, resolve.winner, session_user), clock_timestamp());
	PERFORM angles.wake();
	PERFORM angles.audit('resolve', decided.name, jsonb_build_object('conflict', resolve.conflict,
		'key', decided.key, 'winner', resolve.winner));
END
$$;
COMMENT ON FUNCTION angles.resolve IS 'decides a conflict, or puts the value back that lost: the row''s (postgres) or the page''s (notion)';

CREATE VIEW angles.removed_rows AS
	SELECT r.id, r.relid AS "table", r.key, r.page_id, r.removed_at, r.restored_at, r.restored_by,
		CASE WHEN v.visible THEN jsonb_object(r.columns, r.texts) END AS "row"
	FROM angles.removed_log r LEFT JOIN pg_catalog.pg_class t ON t.oid = r.relid,
		LATERAL (SELECT CASE WHEN t.oid IS NULL THEN false
			ELSE has_table_privilege(t.oid, 'SELECT') AND NOT row_security_active(t.oid) END AS visible) v;
COMMENT ON VIEW angles.removed_rows IS 'rows that sync has deleted because their pages were; angles.undelete(id) brings one back';

/* lint: sql-search-path: the triggers of the table run as in any INSERT of the caller */
CREATE FUNCTION angles.undelete(id bigint) RETURNS text
	LANGUAGE c VOLATILE
	AS 'MODULE_PATHNAME', 'angles_undelete';
COMMENT ON FUNCTION angles.undelete IS 'inserts a row of angles.removed_rows again, with the rights of the caller; its page follows; returns its key';

CREATE FUNCTION angles.allow_mass_delete("table" regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	UPDATE angles.links SET bypass_until = now() + interval '1 hour', changed_at = now()
	WHERE id = angles.linked($1);
	PERFORM angles.audit('allow_mass_delete', $1::text, NULL);
END
$$;
COMMENT ON FUNCTION angles.allow_mass_delete IS 'lets the next mass delete of a table, on either side, go through once; ends by itself with that, or after an hour';

REVOKE ALL ON angles.overwrites, angles.inbox_due, angles.polls, angles.inbox, angles.conflict_log, angles.removed_log FROM PUBLIC;
