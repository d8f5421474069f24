/*
 * 45_wait.sql
 *		Waiting until Notion has acknowledged what was committed.
 */

/*
 * Changes whose numbers in the log are first_id to last_id (from the beginning, when first_id is null),
 * everything that was captured up to whole_up_to of the links in "whole", and what stands against the
 * rows in "rows_of" and "keys" (against any row, when keys is null). For the links in "failed" there are
 * marks of captures that failed. STABLE: it sees what its caller does, who looks with a snapshot of his own.
 */
CREATE FUNCTION angles.pending_changes(first_id bigint, last_id bigint, whole integer[], whole_up_to bigint,
	failed integer[], rows_of integer[], keys text[], deadline timestamptz,
	OUT moves boolean, OUT "table" regclass, OUT key text, OUT changes bigint, OUT state text, OUT reason text,
	OUT hint text)
	RETURNS SETOF record
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
	SET max_parallel_workers_per_gather = 0
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH RECURSIVE log AS (
		SELECT c.id, c.link_id, c.op, c.key FROM angles.change_log c WHERE c.op <> 'I'
	), decided AS (
		-- what a person decided and the worker has not heard of yet
		SELECT DISTINCT c.link_id FROM log c WHERE c.op IN ('Y', 'A', 'F', 'C', 'L', 'R')
	), link AS (
		SELECT l.id, l.relid, l.state, l.push_done, l.push_total, d.link_id IS NOT NULL AS decided,
			CASE WHEN l.identity <> angles.identity_now() THEN 'fenced' WHEN l.paused THEN 'paused'
				WHEN a.id IS NOT NULL THEN 'stopped' END AS obstacle,
			CASE WHEN l.identity <> angles.identity_now() THEN 'the link belongs to another server'
				WHEN l.paused THEN COALESCE(l.pause_reason, 'paused') ELSE a.title END AS reason,
			CASE WHEN l.identity <> angles.identity_now()
					THEN 'SELECT angles.adopt() if this server shall write to Notion.'
				WHEN l.paused THEN format('SELECT angles.resume(%L)', l.relid::text) ELSE a.hint END AS hint
		FROM angles.links l LEFT JOIN decided d ON d.link_id = l.id
			LEFT JOIN angles.alerts a ON a.fingerprint = 'link:' || l.id AND a.severity = 'critical' AND a.closed_at IS NULL
		WHERE l.state <> 'unlinked'
	), entry AS (
		SELECT q.link_id, q.key, q.state, q.class, q.message, q.hint, q.next_at, q.waits_for_link, q.waits_for_key
		FROM angles.queue_entries q
		WHERE (q.first_id <= pending_changes.last_id AND q.first_id <= q.last_id
				AND (pending_changes.first_id IS NULL OR q.last_id >= pending_changes.first_id))
			OR (q.link_id = ANY (whole) AND q.first_id <= whole_up_to)
	), chain (link_id, key, next_link, next_key) AS (
		-- what an entry waits for, at whatever distance
		SELECT e.link_id, e.key, e.waits_for_link, e.waits_for_key
		FROM entry e WHERE e.state = 'waiting' AND e.class IS DISTINCT FROM 'inbound'
		UNION SELECT c.link_id, c.key, w.waits_for_link, w.waits_for_key
		FROM chain c JOIN angles.queue_entries w ON w.link_id = c.next_link AND w.key = c.next_key
		WHERE w.state = 'waiting'
	), blocked AS (
		SELECT DISTINCT c.link_id, c.key FROM chain c
			LEFT JOIN angles.queue_entries b ON b.link_id = c.next_link AND b.key = c.next_key
			LEFT JOIN link l ON l.id = c.next_link
		WHERE b.state IS NULL OR b.state IN ('parked', 'held') OR l.id IS NULL OR l.obstacle IS NOT NULL
	), pending AS (
		SELECT true AS moves, l.relid, c.key, 'captured' AS state,
			'the sync worker has not taken it in yet' AS reason, 'Look at angles.workers.' AS hint
		FROM log c JOIN link l ON l.id = c.link_id
		WHERE c.id <= pending_changes.last_id AND (pending_changes.first_id IS NULL OR c.id >= pending_changes.first_id)
			AND c.op NOT IN ('Y', 'A', 'F', 'C', 'U')
		UNION ALL
		SELECT CASE WHEN l.obstacle IS NOT NULL OR e.state IN ('parked', 'held') THEN l.decided
				WHEN e.state IN ('retry', 'verifying') THEN COALESCE(e.next_at <= deadline, true)
				WHEN e.state <> 'waiting' THEN true
				WHEN e.class IS NOT DISTINCT FROM 'inbound' THEN NOT EXISTS (
					SELECT FROM angles.pages p JOIN angles.inbox i USING (link_id, page_id)
					WHERE p.link_id = e.link_id AND p.key = e.key AND i.state = 'parked')
				ELSE NOT EXISTS (SELECT FROM blocked b WHERE b.link_id = e.link_id AND b.key = e.key) END,
			l.relid, e.key, COALESCE(l.obstacle, e.state),
			COALESCE(l.reason, e.message, CASE e.state WHEN 'ready' THEN 'its turn has not come yet'
				WHEN 'claimed' THEN 'it is on its way to Notion' WHEN 'held' THEN 'deletions wait for a person' END),
			COALESCE(l.hint, e.hint, CASE WHEN e.state = 'held'
					THEN format('SELECT angles.approve(%L) or angles.refuse(%L).', l.relid::text, l.relid::text)
				WHEN e.state = 'parked' THEN format('Correct the row, or SELECT angles.retry(%L).', l.relid::text)
				ELSE 'Look at angles.queue.' END)
		FROM entry e JOIN link l ON l.id = e.link_id
		UNION ALL
		SELECT l.obstacle IS NULL AND a.id IS NULL, l.relid, NULL,
			COALESCE(l.obstacle, CASE WHEN l.state IN ('creating', 'binding') THEN 'linking'
				WHEN l.state = 'pushing' THEN 'pushing' ELSE 'comparing' END),
			COALESCE(l.reason, a.title, CASE WHEN l.state IN ('creating', 'binding') THEN 'the link is being made'
				WHEN l.state = 'pushing' THEN format('%s of about %s rows are queued', l.push_done, l.push_total)
				ELSE 'the table is to be compared in full' END),
			COALESCE(l.hint, a.hint, 'Look at angles.status.')
		FROM link l LEFT JOIN angles.alerts a ON a.fingerprint = 'setup:' || l.id AND a.closed_at IS NULL
		WHERE (pending_changes.first_id IS NULL OR l.id = ANY (whole))
			AND (l.state <> 'active' OR EXISTS (SELECT FROM angles.reconciles r WHERE r.link_id = l.id)
				OR l.id = ANY (failed))
		UNION ALL
		SELECT l.decided, l.relid, c.key, 'conflict',
			format('both sides changed column %s', quote_ident(c.column_name)),
			format('SELECT angles.resolve(%s, ''postgres'' or ''notion'').', c.id)
		FROM angles.conflict_log c JOIN link l ON l.id = c.link_id
		WHERE c.winner IS NULL AND (pending_changes.keys IS NULL
			OR (c.link_id, c.key) IN (SELECT r.link_id, r.key FROM unnest(rows_of, pending_changes.keys) r (link_id, key)))
		UNION ALL
		SELECT l.decided, l.relid, p.key, 'conflict',
			'what was changed in Notion cannot be written into the row: ' || i.message,
			COALESCE(i.hint, format('Correct the page or the row, or SELECT angles.retry(%L).', l.relid::text))
		FROM angles.inbox i JOIN angles.pages p USING (link_id, page_id) JOIN link l ON l.id = i.link_id
		WHERE i.state = 'parked' AND (pending_changes.keys IS NULL
			OR (p.link_id, p.key) IN (SELECT r.link_id, r.key FROM unnest(rows_of, pending_changes.keys) r (link_id, key)))
	)
	SELECT p.moves, p.relid, min(p.key), count(*), p.state, p.reason, p.hint
	FROM pending p GROUP BY p.moves, p.relid, p.state, p.reason, p.hint
	ORDER BY p.moves, p.relid::text, p.state, min(p.key);
END
$$;
COMMENT ON FUNCTION angles.pending_changes IS 'internal: what Notion has not acknowledged of certain changes, and whether it can without a person''s help until the deadline';

/* with its owner's rights: it reads the queue; what it tells of it stands in angles.queue, too */
CREATE FUNCTION angles.wait_synced(timeout interval DEFAULT '10 s', lsn pg_lsn DEFAULT NULL,
	OUT synced boolean, OUT "table" regclass, OUT key text, OUT changes bigint, OUT state text, OUT reason text,
	OUT hint text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_wait_synced';
COMMENT ON FUNCTION angles.wait_synced(interval, pg_lsn) IS 'waits until Notion has acknowledged this session''s last commit, or all commits up to lsn; else says what stands in the way';
