/*
 * 47_ddl_objects.sql
 *		Which objects belong to some tables, what each of them needs, which of them cannot be
 *		reproduced, and who may do what with them.
 *
 * An object is (classid, objid) as in pg_depend. Kinds: schema, extension, collation, type, function,
 * sequence, table, domain constraint, default (these are made before the rows), constraint, index,
 * trigger, rule, policy, statistics (after them); member (of an extension) and via (an array, a row type:
 * made with something else) have no statement of their own; other is what angles cannot write.
 */

CREATE FUNCTION angles.ddl_is_member(classid oid, objid oid)
	RETURNS boolean LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT EXISTS (SELECT FROM pg_depend d WHERE d.classid = $1 AND d.objid = $2 AND d.deptype = 'e'));
END
$$;
COMMENT ON FUNCTION angles.ddl_is_member(oid, oid) IS 'internal: whether an object belongs to an extension';

CREATE FUNCTION angles.ddl_kind(classid oid, objid oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT CASE
		WHEN $1 = 'pg_extension'::regclass THEN 'extension'
		WHEN angles.ddl_is_member($1, $2) THEN 'member'
		WHEN $1 = 'pg_namespace'::regclass THEN 'schema'
		WHEN $1 = 'pg_collation'::regclass THEN 'collation'
		WHEN $1 = 'pg_type'::regclass THEN (SELECT CASE
				WHEN t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c' THEN 'type'
				WHEN t.typtype IN ('c', 'm') OR e.typarray = t.oid THEN 'via'
				ELSE 'other' END
			FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = $2)
		WHEN $1 = 'pg_proc'::regclass THEN CASE WHEN EXISTS (SELECT FROM pg_depend d
				WHERE d.classid = $1 AND d.objid = $2 AND d.deptype = 'i') THEN 'via' ELSE 'function' END
		WHEN $1 = 'pg_class'::regclass THEN (SELECT CASE WHEN c.relkind IN ('r', 'p') THEN 'table' WHEN c.relkind = 'S' THEN 'sequence'
				WHEN c.relkind IN ('i', 'I') THEN 'index' WHEN c.relkind = 'c' THEN 'via' ELSE 'other' END
			FROM pg_class c WHERE c.oid = $2)
		WHEN $1 = 'pg_constraint'::regclass THEN (SELECT CASE WHEN c.contypid <> 0 THEN 'domain constraint' ELSE 'constraint' END
			FROM pg_constraint c WHERE c.oid = $2)
		WHEN $1 = 'pg_attrdef'::regclass THEN 'default'
		WHEN $1 = 'pg_trigger'::regclass THEN 'trigger'
		WHEN $1 = 'pg_rewrite'::regclass THEN 'rule'
		WHEN $1 = 'pg_policy'::regclass THEN 'policy'
		WHEN $1 = 'pg_statistic_ext'::regclass THEN 'statistics'
		ELSE 'other' END);
END
$$;
COMMENT ON FUNCTION angles.ddl_kind(oid, oid) IS 'internal: the kind of an object as angles sorts them';

/*
 * What an object cannot be made without. soft: the expression of a generated column, without which its
 * table can still be made. What PostgreSQL brings along is not listed, schema public is.
 */
CREATE FUNCTION angles.ddl_needs(classid oid, objid oid)
	RETURNS TABLE (refclassid oid, refobjid oid, soft boolean)
	LANGUAGE plpgsql STABLE STRICT ROWS 5 SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH own AS (
		SELECT d.refclassid, d.refobjid, d.deptype, d.classid = 'pg_class'::regclass AND d.objsubid > 0 AND d.deptype = 'a' AS soft
			FROM pg_depend d WHERE d.classid = $1 AND d.objid = $2
		UNION ALL
		-- the columns of a composite type belong to its entry in pg_class
		SELECT d.refclassid, d.refobjid, d.deptype, false
			FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
			JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
			WHERE $1 = 'pg_type'::regclass AND t.oid = $2 AND NOT (d.refclassid = $1 AND d.refobjid = $2)
		UNION ALL
		SELECT d.refclassid, d.refobjid, d.deptype, true
			FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
			JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
			WHERE $1 = 'pg_class'::regclass AND f.adrelid = $2
	), k AS (
		SELECT angles.ddl_kind($1, $2) AS kind
	)
	SELECT o.refclassid, o.refobjid, bool_and(o.soft)
		FROM own o, k
		WHERE (o.refobjid >= 16384 OR o.refclassid = 'pg_namespace'::regclass AND o.refobjid = 'public'::regnamespace)
			AND NOT (o.refclassid = $1 AND o.refobjid = $2)
			-- of a member only its extension counts; and a sequence is there before its table
			AND (k.kind <> 'member' OR o.deptype = 'e')
			AND NOT (k.kind = 'sequence' AND o.refclassid = 'pg_class'::regclass)
			AND NOT (k.kind = 'extension' AND o.refclassid = 'pg_namespace'::regclass AND angles.ddl_is_member(o.refclassid, o.refobjid))
		GROUP BY o.refclassid, o.refobjid;
END
$$;
COMMENT ON FUNCTION angles.ddl_needs(oid, oid) IS 'internal: what an object cannot be made without';

/*
 * What goes with an object and is made after it. The triggers of angles are not among it: link() makes them.
 */
CREATE FUNCTION angles.ddl_parts(classid oid, objid oid)
	RETURNS TABLE (partclassid oid, partobjid oid)
	LANGUAGE plpgsql STABLE STRICT ROWS 5 SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	CASE angles.ddl_kind($1, $2)
		WHEN 'table' THEN
			RETURN QUERY
			SELECT 'pg_attrdef'::regclass::oid, f.oid FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
				WHERE f.adrelid = $2
			UNION ALL
			-- a partition has the keys of its parent from that one, and children have its checks
			SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c
				WHERE c.conrelid = $2 AND (c.contype IN ('p', 'u', 'x')
					OR c.contype = 'f' AND c.conparentid = 0 OR c.contype = 'c' AND c.conislocal)
			UNION ALL
			SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = $2
			UNION ALL
			SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t
				WHERE t.tgrelid = $2 AND NOT t.tgisinternal AND NOT EXISTS (
					SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'angles'
						WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.deptype = 'e')
			UNION ALL
			SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r WHERE r.ev_class = $2
			UNION ALL
			SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p WHERE p.polrelid = $2
			UNION ALL
			SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s WHERE s.stxrelid = $2
			UNION ALL
			SELECT 'pg_class'::regclass, q.oid FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
				WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $2
					AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i');
		WHEN 'type' THEN
			RETURN QUERY SELECT 'pg_constraint'::regclass::oid, c.oid FROM pg_constraint c WHERE c.contypid = $2 AND c.contype = 'c';
		ELSE NULL;
	END CASE;
END
$$;
COMMENT ON FUNCTION angles.ddl_parts(oid, oid) IS 'internal: constraints, indexes, triggers and so on of a table; constraints of a domain';

/*
 * The table that a part, or a sequence, belongs to; null for what belongs to none.
 */
CREATE FUNCTION angles.ddl_table_of(classid oid, objid oid, kind text)
	RETURNS oid LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT CASE kind
		WHEN 'table' THEN $2
		WHEN 'default' THEN (SELECT f.adrelid FROM pg_attrdef f WHERE f.oid = $2)
		WHEN 'constraint' THEN (SELECT c.conrelid FROM pg_constraint c WHERE c.oid = $2)
		WHEN 'index' THEN (SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = $2)
		WHEN 'trigger' THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = $2)
		WHEN 'rule' THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = $2)
		WHEN 'policy' THEN (SELECT p.polrelid FROM pg_policy p WHERE p.oid = $2)
		WHEN 'statistics' THEN (SELECT s.stxrelid FROM pg_statistic_ext s WHERE s.oid = $2)
		WHEN 'sequence' THEN (SELECT d.refobjid FROM pg_depend d WHERE d.classid = $1 AND d.objid = $2
			AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')) END);
END
$$;
COMMENT ON FUNCTION angles.ddl_table_of(oid, oid, text) IS 'internal: the table that a part belongs to';

/*
 * Why an object cannot be written down, whatever else there is; null when it can.
 */
CREATE FUNCTION angles.ddl_problem(classid oid, objid oid, kind text)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT CASE kind
		WHEN 'other' THEN (SELECT CASE WHEN $1 = 'pg_class'::regclass THEN format('a %s is out of scope: only tables have rows of their own', i.type)
				WHEN $1 = 'pg_language'::regclass THEN 'its language was not made by an extension'
				WHEN $1 = 'pg_type'::regclass THEN 'a base type is made of functions in C'
				ELSE 'angles writes down no ' || i.type END
			FROM pg_identify_object($1, $2, 0) i)
		WHEN 'function' THEN (SELECT CASE WHEN p.prokind = 'a' THEN 'angles writes down no aggregate'
				WHEN l.lanname = 'c' THEN format('it is in C, in the library %s, which no statement can bring along', p.probin) END
			FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = $2)
		WHEN 'type' THEN (SELECT 'its canonical function needs the type before the type is there'
			FROM pg_range r WHERE r.rngtypid = $2 AND r.rngcanonical <> 0)
		WHEN 'index' THEN (SELECT 'it is not valid: CREATE INDEX CONCURRENTLY or REINDEX did not come to its end'
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indexrelid = $2 AND NOT i.indisvalid AND c.relkind = 'i') END);
END
$$;
COMMENT ON FUNCTION angles.ddl_problem(oid, oid, text) IS 'internal: why an object cannot be written down';

/*
 * Everything that has to be there for the tables: each object once, with its level (0 needs nothing, each
 * other one needs lower ones only) and why it cannot be made again, if so. Other tables are not pulled in by
 * what refers to them (a foreign key, a policy), as they would be empty; only parents and row types are.
 * No honest schema is 1000 levels deep: what gets there goes round in a circle.
 */
CREATE FUNCTION angles.ddl_graph(tables oid[])
	RETURNS TABLE (classid oid, objid oid, kind text, relid oid, level integer, problem text)
	LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
	WITH RECURSIVE obj AS (
		SELECT 'pg_class'::regclass::oid AS classid, t AS objid FROM unnest(tables) t
		UNION
		SELECT n.classid, n.objid FROM obj o, LATERAL (
			SELECT r.refclassid, r.refobjid FROM angles.ddl_needs(o.classid, o.objid) r
				LEFT JOIN pg_class c ON r.refclassid = 'pg_class'::regclass AND c.oid = r.refobjid
				WHERE c.oid IS NULL OR c.relkind IN ('S', 'c')
					OR c.relkind IN ('r', 'p', 'f') AND o.classid IN ('pg_type'::regclass, 'pg_class'::regclass)
						AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = o.objid)
			UNION ALL
			SELECT p.partclassid, p.partobjid FROM angles.ddl_parts(o.classid, o.objid) p) n (classid, objid)
	), node AS MATERIALIZED (
		SELECT o.classid, o.objid, k.kind, angles.ddl_table_of(o.classid, o.objid, k.kind) AS relid,
				angles.ddl_problem(o.classid, o.objid, k.kind) AS problem
			FROM obj o, LATERAL angles.ddl_kind(o.classid, o.objid) k (kind)
	), need AS MATERIALIZED (
		SELECT o.classid, o.objid, o.kind, o.relid, r.refclassid, r.refobjid, r.soft, t.objid IS NULL AS missing,
				COALESCE(t.kind NOT IN ('constraint', 'index', 'trigger', 'rule', 'policy', 'statistics'), false)
					AND o.kind NOT IN ('constraint', 'index', 'trigger', 'rule', 'policy', 'statistics') AS before
			FROM node o, LATERAL angles.ddl_needs(o.classid, o.objid) r
			LEFT JOIN node t ON t.classid = r.refclassid AND t.objid = r.refobjid
	), level AS (
		SELECT o.classid, o.objid, 0 AS level FROM node o
		UNION
		SELECT n.classid, n.objid, l.level + 1 FROM level l
			JOIN need n ON n.refclassid = l.classid AND n.refobjid = l.objid
			WHERE n.before AND l.level < 1000
	), top AS MATERIALIZED (
		SELECT l.classid, l.objid, max(l.level) AS level FROM level l GROUP BY 1, 2
	), cause AS (
		SELECT o.classid, o.objid, o.problem FROM node o WHERE o.problem IS NOT NULL
		UNION ALL
		SELECT n.classid, n.objid, format('it uses %s, which is not in this backup', i.identity)
			FROM need n, LATERAL pg_identify_object(n.refclassid, n.refobjid, 0) i
			WHERE n.missing AND NOT n.soft
		UNION ALL
		SELECT n.classid, n.objid, format('it uses %s, which is made after the rows', i.identity)
			FROM need n, LATERAL pg_identify_object(n.refclassid, n.refobjid, 0) i
			WHERE NOT n.before AND NOT n.missing AND n.kind IN ('function', 'type', 'default', 'domain constraint')
		UNION ALL
		SELECT t.classid, t.objid, 'it depends on itself in a circle' FROM top t WHERE t.level >= 1000
	), blocked AS (
		SELECT c.classid, c.objid, c.classid AS rootclass, c.objid AS rootobj, c.problem FROM cause c
		UNION
		SELECT n.classid, n.objid, b.rootclass, b.rootobj, b.problem
			FROM blocked b JOIN need n ON n.refclassid = b.classid AND n.refobjid = b.objid
			WHERE NOT n.soft
	)
	SELECT o.classid, o.objid, o.kind, o.relid, t.level, (
			SELECT COALESCE(min(b.problem COLLATE "C") FILTER (WHERE b.itself),
					min(format('it needs %s: %s', b.root, b.problem) COLLATE "C"))
				FROM (SELECT b.problem, b.rootclass = o.classid AND b.rootobj = o.objid AS itself, i.identity AS root
					FROM blocked b, LATERAL pg_identify_object(b.rootclass, b.rootobj, 0) i
					WHERE b.classid = o.classid AND b.objid = o.objid) b)
		FROM node o JOIN top t ON t.classid = o.classid AND t.objid = o.objid
$$;
COMMENT ON FUNCTION angles.ddl_graph(oid[]) IS 'internal: everything that tables need to be there, in order';
