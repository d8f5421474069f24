/*
 * 50_run.sql
 *		Passes that people ask for, the state of it all, and who may do what.
 */

CREATE FUNCTION angles.dry_run(relid oid,
	OUT created bigint, OUT updated bigint, OUT trashed bigint, OUT restored bigint,
	OUT unchanged bigint, OUT parked bigint, OUT held bigint, OUT undecided bigint, OUT keys jsonb)
	RETURNS SETOF record
	LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_dry_run';
COMMENT ON FUNCTION angles.dry_run(oid) IS 'internal: what a pass would do to a table; angles.sync_notion(dry_run => true) calls it';

CREATE FUNCTION angles.sync_notion(
	tables regclass[] DEFAULT NULL, dry_run boolean DEFAULT false, wait boolean DEFAULT true)
	RETURNS TABLE ("table" regclass, created bigint, updated bigint, trashed bigint, restored bigint,
		adopted bigint, unchanged bigint, parked bigint, held bigint, left_over bigint, remark text)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = 'postgres'
	SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' SET xmlbinary = 'base64'
	AS $$
DECLARE
	wanted regclass;
	args jsonb := '{}';
BEGIN
	FOREACH wanted IN ARRAY COALESCE(sync_notion.tables, '{}') LOOP
		PERFORM angles.linked(wanted);
	END LOOP;
	IF sync_notion.dry_run THEN
		RETURN QUERY SELECT l.relid, d.created, d.updated, d.trashed, d.restored, 0::bigint, d.unchanged,
				d.parked, d.held, d.undecided,
				CASE WHEN l.paused THEN 'paused: nothing would be sent' ELSE d.keys::text END
			FROM angles.links l, LATERAL angles.dry_run(l.relid) d
			WHERE l.state <> 'unlinked' AND (sync_notion.tables IS NULL OR l.relid = ANY (sync_notion.tables))
			ORDER BY l.id;
		RETURN;
	END IF;
	IF sync_notion.tables IS NOT NULL THEN
		args := jsonb_build_object('tables', (SELECT jsonb_agg(t::oid::bigint) FROM unnest(sync_notion.tables) t));
	END IF;
	IF NOT sync_notion.wait THEN
		RETURN QUERY SELECT NULL::regclass, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
			NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
			format('run %s is queued; see angles.runs', angles.enqueue_run('sync', args));
		RETURN;
	END IF;
	RETURN QUERY SELECT (r->>'relid')::oid::regclass, (r->>'created')::bigint, (r->>'updated')::bigint,
			(r->>'trashed')::bigint, (r->>'restored')::bigint, (r->>'adopted')::bigint,
			(r->>'unchanged')::bigint, (r->>'parked')::bigint, (r->>'held')::bigint, (r->>'left')::bigint,
			CASE WHEN r ? 'run_id' THEN format('run %s is still running; see angles.runs', r->>'run_id')
				ELSE r->>'problem' END
		FROM angles.request_rows('sync', args) r;
END
$$;
COMMENT ON FUNCTION angles.sync_notion IS 'sends everything that is queued and waits for it; dry_run => true only says what that would be';

CREATE FUNCTION angles.check_notion()
	RETURNS TABLE (item text, state text, detail text, hint text)
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT r->>'item', r->>'state', r->>'detail', r->>'hint' FROM angles.request_rows('check_notion', '{}') r
$$;
COMMENT ON FUNCTION angles.check_notion IS 'asks Notion whether the token is good and what it may see';

CREATE VIEW angles.status AS
	WITH oldest AS (
		SELECT max(age) FILTER (WHERE state NOT IN ('parked', 'held') AND NOT relation) AS age,
			count(*) FILTER (WHERE state NOT IN ('parked', 'held') AND NOT relation) AS waiting,
			count(*) FILTER (WHERE relation) AS relations,
			count(*) FILTER (WHERE state = 'parked') AS parked
		FROM (SELECT state, age, state = 'waiting' AND class IS NOT DISTINCT FROM 'relation' AS relation
			FROM angles.queue) q
	), worker AS (
		SELECT w.* FROM angles.workers w WHERE w.database = current_database()
	)
	SELECT 'worker' AS item,
		CASE WHEN w.bridge_pid IS NOT NULL THEN 'ok' ELSE 'critical' END AS state,
		CASE WHEN w.bridge_pid IS NOT NULL THEN 'running (bridge ' || w.bridge_pid
				|| COALESCE(', sync ' || w.sync_pid, '') || ')'
			ELSE COALESCE(w.state, 'there is none') END AS detail,
		CASE WHEN w.bridge_pid IS NULL THEN
			COALESCE(w.last_error, 'Is angles in shared_preload_libraries? Look at angles.workers.') END AS hint
	FROM (SELECT) one LEFT JOIN worker w ON true
	UNION ALL
	SELECT 'identity', CASE WHEN i.fence_reason IS NULL AND i.identity = angles.identity_now() THEN 'ok' ELSE 'critical' END,
		COALESCE('fenced: ' || i.fence_reason, CASE WHEN i.identity = angles.identity_now() THEN 'this server'
			ELSE 'fenced: another server' END),
		CASE WHEN i.fence_reason IS NOT NULL OR i.identity <> angles.identity_now()
			THEN 'SELECT angles.adopt() if this server shall write to Notion.' END
	FROM angles.identity i
	UNION ALL
	SELECT 'unsent changes',
		CASE WHEN o.age > interval '10 minutes' THEN 'critical' WHEN o.age > interval '1 minute' THEN 'warning' ELSE 'ok' END,
		o.waiting || ' changes' || COALESCE(', the oldest for ' || date_trunc('second', o.age), '')
			|| CASE WHEN o.relations > 0 THEN format(', and %s relations to rows without a page', o.relations) ELSE '' END,
		CASE WHEN o.age > interval '1 minute' THEN 'Look at angles.queue and angles.alerts.' END
	FROM oldest o
	UNION ALL
	SELECT 'parked rows', CASE WHEN o.parked > 0 THEN 'warning' ELSE 'ok' END, o.parked || ' rows',
		CASE WHEN o.parked > 0 THEN 'Look at angles.parked.' END
	FROM oldest o
	UNION ALL
	SELECT 'conflicts', CASE WHEN c.n > 0 THEN 'warning' ELSE 'ok' END, c.n || ' open',
		CASE WHEN c.n > 0 THEN 'Look at angles.conflicts, then SELECT angles.resolve(id, ''postgres'' or ''notion'').' END
	FROM (SELECT count(*) AS n FROM angles.conflicts WHERE winner IS NULL) c
	UNION ALL
	SELECT 'covered edits', CASE WHEN max(k.last_lost_update_at) > now() - interval '1 day' THEN 'warning' ELSE 'ok' END,
		format('%s known; a page is written up to %s ms after it was looked at', COALESCE(sum(k.lost_updates), 0),
			COALESCE(max(k.lost_update_window_max_ms), 0)),
		CASE WHEN max(k.last_lost_update_at) > now() - interval '1 day'
			THEN 'Look at angles.conflicts where policy = ''overwritten''; preflight => ''strict'' makes that time short.' END
	FROM angles.sync_counters k
	UNION ALL
	SELECT 'edits in Notion',
		CASE WHEN i.age > interval '10 minutes' THEN 'critical' WHEN i.age > interval '1 minute' THEN 'warning' ELSE 'ok' END,
		i.waiting || ' on their way' || COALESCE(', the oldest for ' || date_trunc('second', i.age), ''),
		CASE WHEN i.age > interval '1 minute' THEN 'Look at angles.inbound and angles.alerts.' END
	FROM (SELECT count(*) AS waiting, max(now() - seen_at) AS age FROM angles.inbound WHERE state = 'ready') i
	UNION ALL
	SELECT w.item, w.state, w.detail, w.hint FROM angles.webhook_status w
	UNION ALL
	SELECT 'held deletions', CASE WHEN h.n > 0 THEN 'warning' ELSE 'ok' END, h.n || ' rows',
		CASE WHEN h.n > 0 THEN 'Look at angles.held_deletes, then SELECT angles.approve(table, key) or angles.refuse(table, key).' END
	FROM (SELECT count(*) AS n FROM angles.held_deletes) h
	UNION ALL
	SELECT 'link ' || l.relid::text,
		CASE WHEN l.identity <> angles.identity_now() OR t.oid IS NULL OR l.unreachable IS NOT NULL THEN 'critical' WHEN l.paused OR c.compare THEN 'warning' ELSE 'ok' END,
		CASE WHEN l.identity <> angles.identity_now() THEN 'fenced'
			WHEN t.oid IS NULL THEN 'the table was dropped'
			WHEN l.paused THEN 'paused: ' || COALESCE(l.pause_reason, '')
			WHEN l.unreachable IS NOT NULL THEN 'waits: ' || l.unreachable
			WHEN c.compare THEN 'is to be compared in full'
			WHEN l.state = 'pushing' THEN format('first push: %s of about %s rows queued', l.push_done, l.push_total)
			ELSE l.state END
			|| format(', %s pages', (SELECT count(*) FROM angles.pages p WHERE p.link_id = l.id AND p.state = 'live')),
		CASE WHEN t.oid IS NULL THEN format('SELECT angles.unlink(%s)', l.relid::oid)
			WHEN l.paused THEN format('SELECT angles.resume(%L)', l.relid::text) END
	FROM angles.links l LEFT JOIN pg_class t ON t.oid = l.relid,
		LATERAL (SELECT EXISTS (SELECT FROM angles.reconciles r WHERE r.link_id = l.id)
			OR EXISTS (SELECT FROM angles.change_log g WHERE g.link_id = l.id AND g.op = 'R') AS compare) c
	WHERE l.state <> 'unlinked'
	UNION ALL
	SELECT 'backup',
		CASE WHEN b.at IS NULL OR b.at < now() - interval '25 hours' THEN 'warning' ELSE 'ok' END,
		COALESCE(format('%s old, commit %s', date_trunc('second', now() - b.at), left(b.commit, 12)), 'there is none'),
		CASE WHEN b.at IS NULL OR b.at < now() - interval '25 hours' THEN 'SELECT * FROM angles.backup().' END
	FROM (SELECT) one LEFT JOIN (SELECT l.at, l.commit FROM angles.backup_log l WHERE l.whole ORDER BY l.id DESC LIMIT 1) b ON true
	UNION ALL
	SELECT 'backup key', CASE WHEN k.saved_at IS NULL THEN 'warning' ELSE 'ok' END,
		CASE WHEN b.signed_by IS NULL THEN 'the last backup is not signed'
			WHEN k.saved_at IS NULL THEN 'nobody has confirmed that the key is kept elsewhere too: ' || b.signed_by
			ELSE b.signed_by END,
		CASE WHEN b.signed_by IS NULL THEN 'SELECT angles.create_backup_key(path).'
			WHEN k.saved_at IS NULL THEN 'Keep a copy of the key''s file away from this server, then SELECT angles.key_saved().' END
	FROM (SELECT l.signed_by FROM angles.backup_log l ORDER BY l.id DESC LIMIT 1) b
		LEFT JOIN angles.backup_keys k ON k.fingerprint = b.signed_by
	UNION ALL
	SELECT 'alert ' || a.fingerprint, a.severity, a.title || COALESCE(' - ' || a.detail, ''), a.hint
	FROM angles.alerts a WHERE a.closed_at IS NULL;
COMMENT ON VIEW angles.status IS 'the state of everything, one row each; what is not ok says what to do';

/* ---- who may do what ---- */

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA angles FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA angles FROM PUBLIC;
GRANT SELECT ON angles.links, angles.link_columns, angles.queue, angles.inbound, angles.conflicts, angles.sync_counters, angles.parked, angles.held_deletes, angles.removed_rows, angles.status,
	angles.drift, angles.drift_summary, angles.webhook_events,
	angles.change_log, angles.backups, angles.backup_log, angles.backup_keys,
	angles.backup_policies, angles.allowed_secrets TO angles_viewer;
GRANT EXECUTE ON FUNCTION angles.wait_synced(interval, pg_lsn) TO angles_viewer;
GRANT EXECUTE ON FUNCTION angles.sync_notion(regclass[], boolean, boolean), angles.check_notion(),
	angles.dry_run(oid), angles.drift_notion(regclass[], boolean), angles.measure_drift(oid[], boolean),
	angles.linked(regclass), angles.pause(regclass, text), angles.resume(regclass), angles.retry(regclass, text),
	angles.reconcile(regclass),
	angles.backup(regclass[], text, boolean), angles.verify_backup(text),
	angles.scan_secrets(regclass[]), angles.find_secrets(oid[]) TO angles_operator;
GRANT EXECUTE ON FUNCTION angles.link(regclass, text, text, text, jsonb, name, name, text, text, text, text, interval, text, boolean),
	angles.alter_link(regclass, jsonb, name, text, text, text, text, interval, text, boolean), angles.unlink(regclass),
	angles.approve(regclass, text), angles.refuse(regclass, text), angles.allow_mass_delete(regclass), angles.undelete(bigint),
	angles.report_refusals(regclass, text, boolean),
	angles.resolve(bigint, text), angles.notion_webhook_expect(interval, text, boolean),
	angles.create_backup_key(text), angles.make_backup_key(text), angles.note_backup_key(text, text, text),
	angles.key_saved(text), angles.replace_sealing_key(), angles.note_sealing_key(text), angles.rotate_sealing_key(),
	angles.backup_policy(regclass, name, text), angles.backup_refusal(oid), angles.allow_secret(regclass, name, text, text),
	angles.disallow_secret(bigint) TO angles_admin;
GRANT EXECUTE ON FUNCTION angles.notion_webhook(bytea, text) TO angles_webhook;
GRANT EXECUTE ON FUNCTION angles.schema_of(regclass[]), angles.schema_rows(oid[]), angles.schema_files(oid[]),
	angles.ddl_scope(oid[]), angles.ddl_denied(text), angles.ddl_one_line(text), angles.ddl_order(oid[]), angles.ddl_statements(oid[]),
	angles.ddl_around(oid[], oid[]), angles.ddl_comments(oid, oid, text), angles.ddl_rights(oid, oid, text),
	angles.ddl_grants(text, aclitem[], aclitem[], oid, text), angles.ddl_graph(oid[]), angles.ddl_problem(oid, oid, text),
	angles.ddl_table_of(oid, oid, text), angles.ddl_parts(oid, oid), angles.ddl_needs(oid, oid), angles.ddl_kind(oid, oid),
	angles.ddl_is_member(oid, oid), angles.ddl_policy(oid), angles.ddl_statistics(oid), angles.ddl_rule(oid), angles.ddl_trigger(oid),
	angles.ddl_index(oid), angles.ddl_constraint(oid), angles.ddl_table_after(oid), angles.ddl_table_finish(oid),
	angles.ddl_table(oid, oid[]), angles.ddl_column(pg_catalog.pg_attribute, oid[]), angles.ddl_inherits(oid), angles.ddl_default(oid),
	angles.ddl_default_is_plain(oid), angles.ddl_setval(oid), angles.ddl_sequence(oid), angles.ddl_sequence_options(oid),
	angles.ddl_function(oid), angles.ddl_type(oid), angles.ddl_collation(oid), angles.ddl_extension(oid),
	angles.ddl_options(text[], text), angles.ddl_collate(oid, oid), angles.ddl_role(oid), angles.ddl_object(oid, oid),
	angles.ddl_relation(oid), angles.ddl_schema_name(oid, name) TO angles_admin;
