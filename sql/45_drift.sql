/*
 * 45_drift.sql
 *		Where tables and their copies differ: what was computed last. One half so far, the pages in
 *		Notion; the column "half" is there for others.
 *
 * Written by angles.drift_notion() in the session of its caller. No worker reads or writes these
 * tables, so whoever holds their rows in an open transaction holds up other callers at most.
 */

CREATE TABLE angles.drift_measures (
	link_id			integer NOT NULL,
	half			text NOT NULL CHECK (half IN ('notion')),
	measured_at		timestamptz NOT NULL,
	measured_by		text NOT NULL DEFAULT session_user,
	fresh			boolean NOT NULL,
	complete		boolean,
	seconds			numeric NOT NULL,
	compared		bigint NOT NULL,
	counts			jsonb NOT NULL,
	left_out		bigint NOT NULL,
	PRIMARY KEY (link_id, half)
);
COMMENT ON TABLE angles.drift_measures IS 'one row for each table that was compared with its copy';
COMMENT ON COLUMN angles.drift_measures.left_out IS 'differences that were counted and not kept';

CREATE TABLE angles.drift_fields (
	link_id			integer NOT NULL,
	half			text NOT NULL,
	key				text,
	page_id			uuid,
	attnum			smallint,
	column_name		text,
	property		text,
	class			text NOT NULL,
	base			jsonb,
	local			jsonb,
	remote			jsonb,
	since			timestamptz,
	remote_by		text,
	state			text,
	remark			text,
	remote_at		timestamptz
);
CREATE INDEX drift_fields_link ON angles.drift_fields (link_id, half);
COMMENT ON TABLE angles.drift_fields IS 'differences that the last comparison found';
COMMENT ON COLUMN angles.drift_fields.attnum IS 'of the column whose values these are; null: those of several, or of the row as a whole';

/*
 * Values are shown to those who may read the column, as in angles.conflicts; so are the messages of
 * rows that cannot be read, which may quote them.
 */
CREATE VIEW angles.drift AS
	SELECT l.relid AS "table", f.half, f.key, f.page_id, f.column_name AS "column", f.property, f.class,
		CASE WHEN v.visible THEN f.base END AS base, CASE WHEN v.visible THEN f.local END AS local,
		CASE WHEN v.visible THEN f.remote END AS remote, f.since, f.remote_by, f.state,
		CASE WHEN f.class <> 'unreadable' OR v.visible
			THEN COALESCE(f.remark, CASE f.state WHEN 'paused' THEN l.pause_reason END) END AS remark,
		f.remote_at, m.measured_at
	FROM angles.drift_fields f JOIN angles.drift_measures m ON m.link_id = f.link_id AND m.half = f.half
		JOIN angles.links l ON l.id = f.link_id LEFT JOIN pg_catalog.pg_class t ON t.oid = l.relid,
		LATERAL (SELECT CASE WHEN t.oid IS NULL OR row_security_active(t.oid) THEN false
			WHEN has_table_privilege(t.oid, 'SELECT') THEN true
			WHEN f.attnum IS NULL THEN false
			ELSE COALESCE(has_column_privilege(t.oid, f.attnum, 'SELECT'), false) END AS visible) v
	WHERE l.state <> 'unlinked'
	UNION ALL
	SELECT l.relid, m.half, NULL, NULL, NULL, NULL, 'left_out', NULL, NULL, NULL, NULL, NULL, NULL,
		format('%s more differences were counted; angles.drift_summary has the numbers', m.left_out), NULL, m.measured_at
	FROM angles.drift_measures m JOIN angles.links l ON l.id = m.link_id
	WHERE m.left_out > 0 AND l.state <> 'unlinked';
COMMENT ON VIEW angles.drift IS 'fields in which rows differ from their pages, as angles.drift_notion() found them last: what both sides hold, who changed it, and what will become of it';
COMMENT ON COLUMN angles.drift.class IS 'changed_here, changed_in_notion, both_changed, representation (the same value in two forms), missing_page, missing_row, out_of_scope, unreadable, page_STATE, left_out';
COMMENT ON COLUMN angles.drift.base IS 'what both sides last agreed on';
COMMENT ON COLUMN angles.drift.since IS 'of the row''s change: when it was captured, as long as it is queued; of the page''s: the minute of its last edit; of a conflict: when it was found; of a representation: the last write. Null: not known';
COMMENT ON COLUMN angles.drift.state IS 'queued, waiting, parked, held, conflict, paused, fenced: it is known and will be dealt with then; unseen: nobody has noted it; none: it stays';
COMMENT ON COLUMN angles.drift.remote_at IS 'when Notion was known to hold that';

CREATE VIEW angles.drift_summary AS
	SELECT l.relid AS "table", m.half, m.measured_at, m.measured_by, m.fresh, m.complete, m.seconds, m.compared,
		m.counts, m.left_out
	FROM angles.drift_measures m JOIN angles.links l ON l.id = m.link_id
	WHERE l.state <> 'unlinked';
COMMENT ON VIEW angles.drift_summary IS 'when each table was compared with its copy last, and how many differences there were of each class';
COMMENT ON COLUMN angles.drift_summary.complete IS 'whether Notion showed all pages; null: it was not asked';
COMMENT ON COLUMN angles.drift_summary.compared IS 'rows and pages that were looked at';

CREATE FUNCTION angles.measure_drift(relids oid[], fresh boolean) RETURNS void
	LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET row_security = on SET standard_conforming_strings = on
	AS 'MODULE_PATHNAME', 'angles_measure_drift';
COMMENT ON FUNCTION angles.measure_drift(oid[], boolean) IS 'internal: fills angles.drift; angles.drift_notion() calls it';

CREATE FUNCTION angles.drift_notion(tables regclass[] DEFAULT NULL, fresh boolean DEFAULT false)
	RETURNS SETOF angles.drift
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	wanted regclass;
BEGIN
	FOREACH wanted IN ARRAY COALESCE(drift_notion.tables, '{}') LOOP
		PERFORM angles.linked(wanted);
	END LOOP;
	PERFORM angles.measure_drift(array_agg(l.relid::oid), COALESCE(drift_notion.fresh, false))
	FROM angles.links l
	WHERE l.state <> 'unlinked' AND (drift_notion.tables IS NULL OR l.relid = ANY (drift_notion.tables));
	RETURN QUERY SELECT d.* FROM angles.drift d
		WHERE d.half = 'notion' AND (drift_notion.tables IS NULL OR d."table" = ANY (drift_notion.tables))
		ORDER BY d."table"::text, d.class = 'left_out', d.key, d.page_id, d.property;
END
$$;
COMMENT ON FUNCTION angles.drift_notion IS 'compares tables with their pages, by what is known of these; fresh => true reads all pages anew';
