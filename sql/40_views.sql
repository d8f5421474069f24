/*
 * 40_views.sql
 *		What people read. Row level detail stays with those who may read the linked tables: these views
 *		show keys and states, never values.
 */

CREATE VIEW angles.queue AS
	SELECT l.relid AS "table", q.key, q.state, q.enqueued_at, now() - q.enqueued_at AS age,
		q.attempts, q.next_at, q.class, q.code, q.message, q.hint
	FROM angles.queue_entries q JOIN angles.links l ON l.id = q.link_id
	WHERE l.state <> 'unlinked'
	UNION ALL
	SELECT l.relid, c.key, 'captured', c.at, now() - c.at, 0, NULL, NULL, NULL, NULL, NULL
	FROM angles.change_log c JOIN angles.links l ON l.id = c.link_id
	WHERE l.state <> 'unlinked' AND c.op NOT IN ('L', 'R', 'U', 'I', 'C', 'H');
COMMENT ON VIEW angles.queue IS 'every change that Notion has not acknowledged, and why';

CREATE VIEW angles.parked AS
	SELECT l.relid AS "table", q.key, q.parked_at, q.attempts, q.class, q.code, q.message, q.hint
	FROM angles.queue_entries q JOIN angles.links l ON l.id = q.link_id
	WHERE q.state = 'parked' AND l.state <> 'unlinked'
	UNION ALL
	SELECT l.relid, CASE WHEN p.state <> 'new' THEN p.key END, i.parked_at, i.attempts, i.class, i.code,
		-- what a database says about values is for those who may read them
		CASE WHEN i.code IS NULL OR has_table_privilege(l.relid, 'SELECT') AND NOT row_security_active(l.relid)
			THEN i.message ELSE 'the table refused it' END, i.hint
	FROM angles.inbox i JOIN angles.links l ON l.id = i.link_id
		JOIN angles.pages p ON p.link_id = i.link_id AND p.page_id = i.page_id AND p.state = i.page_state
	WHERE i.state = 'parked' AND l.state <> 'unlinked';
COMMENT ON VIEW angles.parked IS 'rows that cannot be sent, or written, as they are; a change of the row, or angles.retry(), tries again';

CREATE VIEW angles.inbound AS
	SELECT l.relid AS "table", CASE WHEN p.state <> 'new' THEN p.key END AS key, i.page_id, i.kind, i.state, i.edited_at, i.edited_by, i.seen_at, i.attempts, i.next_at,
		i.class, i.code,
		CASE WHEN i.code IS NULL OR has_table_privilege(l.relid, 'SELECT') AND NOT row_security_active(l.relid)
			THEN i.message ELSE 'the table refused it' END AS message, i.hint,
		ARRAY(SELECT c.property_name FROM angles.link_columns c
			WHERE c.link_id = i.link_id AND i.remote ? c.property_id ORDER BY 1) AS properties
	FROM angles.inbox i JOIN angles.links l ON l.id = i.link_id
		JOIN angles.pages p ON p.link_id = i.link_id AND p.page_id = i.page_id AND p.state = i.page_state
	WHERE l.state <> 'unlinked';
COMMENT ON VIEW angles.inbound IS 'changes made in Notion that are not in their rows yet, and why';

CREATE VIEW angles.held_deletes AS
	SELECT l.relid AS "table", q.key, p.page_id, 'postgres' AS deleted_in, COALESCE(q.message, q.class) AS cause,
		q.enqueued_at AS since
	FROM angles.queue_entries q JOIN angles.links l ON l.id = q.link_id
		LEFT JOIN angles.pages p ON p.link_id = q.link_id AND p.key = q.key
	WHERE q.state = 'held' AND l.state <> 'unlinked'
	UNION ALL
	SELECT l.relid, p.key, p.page_id, CASE p.state WHEN 'removed' THEN 'notion' ELSE 'postgres' END, p.note, p.removed_at
	FROM angles.pages p JOIN angles.links l ON l.id = p.link_id
	WHERE p.pending = 'held' AND l.state <> 'unlinked';
COMMENT ON VIEW angles.held_deletes IS 'deletions that wait for angles.approve(table, key) or angles.refuse(table, key)';
