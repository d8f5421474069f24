/*
 * 30_sync.sql
 *		The functions of sync that people call, and the triggers behind them.
 */

/*
 * No SET search_path on the row trigger: it is in C and looks nothing up by an unqualified name, and
 * the setting would cost every changed row more than the capture itself.
 */
CREATE FUNCTION angles.capture() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'angles_capture';
COMMENT ON FUNCTION angles.capture() IS 'row trigger of linked tables; angles.link() makes it';

CREATE FUNCTION angles.capture_truncate() RETURNS trigger
	LANGUAGE c SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_capture_truncate';
COMMENT ON FUNCTION angles.capture_truncate() IS 'TRUNCATE trigger of linked tables; angles.link() makes it';

CREATE FUNCTION angles.links_changed() RETURNS trigger
	LANGUAGE c SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_links_changed';
COMMENT ON FUNCTION angles.links_changed() IS 'tells the workers that a link changed';

CREATE TRIGGER links_changed AFTER INSERT OR UPDATE OR DELETE ON angles.links
	FOR EACH STATEMENT EXECUTE FUNCTION angles.links_changed();
CREATE TRIGGER link_columns_changed AFTER INSERT OR UPDATE OR DELETE ON angles.link_columns
	FOR EACH STATEMENT EXECUTE FUNCTION angles.links_changed();
CREATE TRIGGER reconciles_changed AFTER INSERT OR UPDATE OR DELETE ON angles.reconciles
	FOR EACH STATEMENT EXECUTE FUNCTION angles.links_changed();
COMMENT ON TRIGGER links_changed ON angles.links IS 'tells the workers that a link changed';
COMMENT ON TRIGGER link_columns_changed ON angles.link_columns IS 'tells the workers that a link changed';
COMMENT ON TRIGGER reconciles_changed ON angles.reconciles IS 'tells the workers that a link changed';

CREATE FUNCTION angles.link(
	"table" regclass,
	data_source text DEFAULT NULL,
	parent text DEFAULT NULL,
	direction text DEFAULT 'both',
	mapping jsonb DEFAULT NULL,
	title_column name DEFAULT NULL,
	body_column name DEFAULT NULL,
	filter text DEFAULT NULL,
	conflict text DEFAULT 'newest',
	on_local_delete text DEFAULT 'trash',
	on_notion_delete text DEFAULT 'hold',
	settle interval DEFAULT '2 s',
	preflight text DEFAULT 'fast',
	dry_run boolean DEFAULT false,
	OUT "column" text, OUT property text, OUT type text, OUT remark text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
	AS 'MODULE_PATHNAME', 'angles_link';
COMMENT ON FUNCTION angles.link IS 'links a table with a Notion data source; dry_run => true only shows the mapping';

CREATE FUNCTION angles.alter_link(
	"table" regclass,
	mapping jsonb DEFAULT NULL,
	title_column name DEFAULT NULL,
	filter text DEFAULT NULL,
	conflict text DEFAULT NULL,
	on_local_delete text DEFAULT NULL,
	on_notion_delete text DEFAULT NULL,
	settle interval DEFAULT NULL,
	preflight text DEFAULT NULL,
	dry_run boolean DEFAULT false,
	OUT "column" text, OUT property text, OUT type text, OUT remark text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
	AS 'MODULE_PATHNAME', 'angles_alter_link';
COMMENT ON FUNCTION angles.alter_link IS 'changes a link; what is null stays, an empty filter goes; dry_run => true only shows the mapping';

CREATE FUNCTION angles.unlink("table" regclass) RETURNS void
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_unlink';
COMMENT ON FUNCTION angles.unlink IS 'ends the sync of a table; its pages stay as they are';

/*
 * Everything below runs as the owner of the extension because people hold no rights on the tables
 * themselves; each checks by angles.linked() that the table is linked. Who may call them is a matter
 * of grants alone (50_run.sql): an operator may pause and retry any table, whoever owns it; what
 * decides about pages in Notion (approve, refuse) is for angles_admin.
 */
CREATE FUNCTION angles.linked("table" regclass) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	found integer;
BEGIN
	IF $1 IS NULL THEN
		RAISE EXCEPTION 'argument "table" must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT l.id INTO found FROM angles.links l
	WHERE l.relid OPERATOR(pg_catalog.=) $1 AND l.state OPERATOR(pg_catalog.<>) 'unlinked';
	IF found IS NULL THEN
		RAISE EXCEPTION 'table % is not linked', $1
			USING ERRCODE = 'NG101', HINT = 'SELECT * FROM angles.links shows what is.';
	END IF;
	RETURN found;
END
$$;
COMMENT ON FUNCTION angles.linked IS 'number of the link of a table, or an error';

CREATE FUNCTION angles.pause("table" regclass, reason text DEFAULT 'paused by hand') RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	UPDATE angles.links SET paused = true, pause_reason = reason, changed_at = now()
	WHERE id = angles.linked($1);
	PERFORM angles.audit('pause', $1::text, jsonb_build_object('reason', reason));
END
$$;
COMMENT ON FUNCTION angles.pause IS 'stops sending the changes of a table; they stay in the queue';

CREATE FUNCTION angles.resume("table" regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	UPDATE angles.links SET paused = false, pause_reason = NULL, changed_at = now()
	WHERE id = angles.linked($1);
	PERFORM angles.audit('resume', $1::text, NULL);
END
$$;
COMMENT ON FUNCTION angles.resume IS 'goes on with a paused table';

CREATE FUNCTION angles.retry("table" regclass, key text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	link integer := angles.linked($1);
	n bigint;
BEGIN
	-- queue_entries has one writer, the sync worker: a retry is asked for by way of the log
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, at)
	SELECT nextval('angles.change_log_seq'), 0, link, 'Y', q.key, clock_timestamp()
	FROM angles.queue_entries q
	WHERE q.link_id = link AND q.state IN ('parked', 'retry') AND (retry.key IS NULL OR q.key = retry.key)
	UNION ALL
	SELECT nextval('angles.change_log_seq'), 0, link, 'Y', p.key, clock_timestamp()
	FROM angles.inbox i JOIN angles.pages p ON p.link_id = i.link_id AND p.page_id = i.page_id
	WHERE i.link_id = link AND (i.state = 'parked' OR i.next_at IS NOT NULL) AND (retry.key IS NULL OR p.key = retry.key);
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM angles.wake();
	PERFORM angles.audit('retry', $1::text, jsonb_build_object('key', retry.key, 'rows', n));
	RETURN n;
END
$$;
COMMENT ON FUNCTION angles.retry IS 'gives parked rows of a table another chance; returns how many';

CREATE FUNCTION angles.reconcile("table" regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	link integer := angles.linked($1);
BEGIN
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, at)
	VALUES (nextval('angles.change_log_seq'), 0, link, 'R', '', clock_timestamp());
	PERFORM angles.wake();
	PERFORM angles.audit('reconcile', $1::text, NULL);
END
$$;
COMMENT ON FUNCTION angles.reconcile IS 'compares a whole table with what is known of its pages and sends what differs';

CREATE FUNCTION angles.approve("table" regclass, key text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	link integer := angles.linked($1);
	n bigint;
BEGIN
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, at)
	SELECT nextval('angles.change_log_seq'), 0, link, 'A', h.key, clock_timestamp()
	FROM angles.held_deletes h WHERE h."table" = $1 AND (approve.key IS NULL OR h.key = approve.key);
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n = 0 AND approve.key IS NOT NULL THEN
		RAISE EXCEPTION 'no deletion of row % of % is held', approve.key, $1
			USING ERRCODE = 'NG107', HINT = 'SELECT * FROM angles.held_deletes shows those that are.';
	END IF;
	PERFORM angles.wake();
	PERFORM angles.audit('approve', $1::text, jsonb_build_object('key', approve.key, 'deletions', n));
	RETURN n;
END
$$;
COMMENT ON FUNCTION angles.approve IS 'carries out held deletions of a table, or one: a page goes to Notion''s trash, a row is deleted; returns how many';

CREATE FUNCTION angles.refuse("table" regclass, key text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	link integer := angles.linked($1);
	n bigint;
BEGIN
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, at)
	SELECT nextval('angles.change_log_seq'), 0, link, 'F', h.key, clock_timestamp()
	FROM angles.held_deletes h WHERE h."table" = $1 AND (refuse.key IS NULL OR h.key = refuse.key);
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n = 0 AND refuse.key IS NOT NULL THEN
		RAISE EXCEPTION 'no deletion of row % of % is held', refuse.key, $1
			USING ERRCODE = 'NG107', HINT = 'SELECT * FROM angles.held_deletes shows those that are.';
	END IF;
	PERFORM angles.wake();
	PERFORM angles.audit('refuse', $1::text, jsonb_build_object('key', refuse.key, 'deletions', n));
	RETURN n;
END
$$;
COMMENT ON FUNCTION angles.refuse IS 'takes back held deletions of a table, or one: a removed page is put back for its row; a deleted row''s page stays, and belongs to no row; returns how many';

CREATE FUNCTION angles.wake() RETURNS void
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_wake_sql';
COMMENT ON FUNCTION angles.wake IS 'wakes the sync worker when this transaction commits';

CREATE FUNCTION angles.has_work() RETURNS boolean
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT EXISTS (SELECT FROM angles.change_log) OR EXISTS (
		SELECT FROM angles.queue_entries q JOIN angles.links l ON l.id = q.link_id
		WHERE q.state IN ('ready', 'claimed', 'retry', 'verifying') AND NOT l.paused
		AND l.data_source_id IS NOT NULL AND l.state <> 'unlinked')
	OR EXISTS (SELECT FROM angles.links l WHERE NOT l.paused AND (l.state IN ('creating', 'binding', 'pushing')
		OR l.state = 'active' AND COALESCE(l.mark_epoch < (SELECT since_epoch FROM angles.identity), true)
		OR l.state = 'active' AND EXISTS (SELECT FROM angles.reconciles r WHERE r.link_id = l.id)))
	-- marks of captures that failed, made for instance while there were no workers
	OR EXISTS (SELECT FROM pg_ls_dir('angles', true, false) f, pg_database d
		WHERE d.datname = current_database() AND f ~ ('^(reconcile|taken)_' || d.oid || '_'))
$$;
COMMENT ON FUNCTION angles.has_work IS 'whether anything waits for the sync worker';
