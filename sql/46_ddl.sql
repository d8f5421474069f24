/*
 * 46_ddl.sql
 *		The definition of one object as SQL, one function for each kind, from the catalogs and
 *		PostgreSQL's own pg_get_*def(). What belongs together, and in which order, says 49_schema.sql.
 *
 * All of these are called with the settings of angles.schema_of(): nothing is visible but pg_catalog, so
 * every other name comes with its schema, and no setting of a session changes a byte. Columns that
 * PostgreSQL versions name differently are read through to_jsonb().
 */

CREATE FUNCTION angles.ddl_schema_name(namespace oid, object name)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$ #variable_conflict use_column
	BEGIN RETURN (SELECT format('%I.%I', n.nspname, object) FROM pg_namespace n WHERE n.oid = namespace); END $$;
COMMENT ON FUNCTION angles.ddl_schema_name(oid, name) IS 'internal: a name with its schema, quoted';

CREATE FUNCTION angles.ddl_relation(rel oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$ #variable_conflict use_column
	BEGIN RETURN (SELECT angles.ddl_schema_name(c.relnamespace, c.relname) FROM pg_class c WHERE c.oid = rel); END $$;
COMMENT ON FUNCTION angles.ddl_relation(oid) IS 'internal: the name of a relation with its schema, quoted';

/*
 * The object as COMMENT ON, ALTER and GRANT call it: TABLE s.t, CONSTRAINT c on s.t.
 */
CREATE FUNCTION angles.ddl_object(classid oid, objid oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT CASE i.type
			WHEN 'domain constraint' THEN (SELECT format('CONSTRAINT %I ON DOMAIN %s', c.conname,
					angles.ddl_schema_name(t.typnamespace, t.typname))
				FROM pg_constraint c JOIN pg_type t ON t.oid = c.contypid WHERE c.oid = objid)
			WHEN 'table constraint' THEN 'CONSTRAINT ' || i.identity
			WHEN 'statistics object' THEN 'STATISTICS ' || i.identity
			WHEN 'default value' THEN 'DEFAULT ' || i.identity
			WHEN 'type' THEN CASE (SELECT t.typtype FROM pg_type t WHERE t.oid = objid) WHEN 'd' THEN 'DOMAIN '
				ELSE 'TYPE ' END || i.identity
			ELSE upper(i.type) || ' ' || i.identity END
		FROM pg_identify_object(classid, objid, 0) i);
END
$$;
COMMENT ON FUNCTION angles.ddl_object(oid, oid) IS 'internal: an object as COMMENT ON and ALTER call it';

CREATE FUNCTION angles.ddl_role(role oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$ #variable_conflict use_column
	BEGIN RETURN (SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END); END $$;
COMMENT ON FUNCTION angles.ddl_role(oid) IS 'internal: a role as GRANT calls it; 0 is everybody';

/*
 * COLLATE ... when it is another than that of the type, with a space before; else nothing.
 */
CREATE FUNCTION angles.ddl_collate(coll oid, of_type oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT COALESCE((SELECT ' COLLATE ' || angles.ddl_schema_name(c.collnamespace, c.collname)
		FROM pg_collation c, pg_type t WHERE c.oid = coll AND t.oid = of_type AND t.typcollation <> coll), ''));
END
$$;
COMMENT ON FUNCTION angles.ddl_collate(oid, oid) IS 'internal: the COLLATE clause that a column or domain needs';

/*
 * pg_attver is no option: late minor releases keep the version of a column there (catalog/pg_attribute.h,
 * ATTRIBUTE_VERSION_ATTOPTION). It differs from server to server, and pg_dump leaves it out too.
 */
CREATE FUNCTION angles.ddl_options(options text[], prefix text)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT string_agg(format('%s%I=%L', prefix, o.name, o.value), ', ' ORDER BY o.name)
		FROM (SELECT split_part(u, '=', 1) COLLATE "C", substr(u, strpos(u, '=') + 1) FROM unnest(options) u) o (name, value)
		WHERE o.name <> 'pg_attver');
END
$$;
COMMENT ON FUNCTION angles.ddl_options(text[], text) IS 'internal: storage options as WITH and SET take them; null when there are none';

CREATE FUNCTION angles.ddl_extension(ext oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	-- a schema that the extension makes itself cannot be asked for
	SELECT format('CREATE EXTENSION IF NOT EXISTS %I%s;', e.extname, (SELECT format(' WITH SCHEMA %I', n.nspname)
			FROM pg_namespace n WHERE n.oid = e.extnamespace AND NOT EXISTS (SELECT FROM pg_depend d
				WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')))
		FROM pg_extension e WHERE e.oid = ext);
END
$$;
COMMENT ON FUNCTION angles.ddl_extension(oid) IS 'internal: CREATE EXTENSION';

CREATE FUNCTION angles.ddl_collation(coll oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('CREATE COLLATION %s (provider = %s%s%s%s);', angles.ddl_schema_name(c.collnamespace, c.collname),
			CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
			CASE WHEN NOT c.collisdeterministic THEN ', deterministic = false' END,
			CASE WHEN c.collprovider = 'c' AND c.collcollate <> c.collctype
				THEN format(', lc_collate = %L, lc_ctype = %L', c.collcollate, c.collctype)
				-- 15 and 16 have the one column, 17 the other
				ELSE format(', locale = %L', COALESCE(r->>'colliculocale', r->>'colllocale', c.collcollate)) END,
			', rules = ' || quote_literal(r->>'collicurules'))
		FROM pg_collation c, LATERAL to_jsonb(c) r WHERE c.oid = coll);
END
$$;
COMMENT ON FUNCTION angles.ddl_collation(oid) IS 'internal: CREATE COLLATION';

CREATE FUNCTION angles.ddl_type(typ oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT CASE t.typtype
			WHEN 'e' THEN format(E'CREATE TYPE %s AS ENUM (%s);', v.name,
				(SELECT string_agg(E'\n    ' || quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) || E'\n'
					FROM pg_enum e WHERE e.enumtypid = typ))
			WHEN 'd' THEN format('CREATE DOMAIN %s AS %s%s%s%s;', v.name, format_type(t.typbasetype, t.typtypmod),
				angles.ddl_collate(t.typcollation, t.typbasetype),
				' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0), CASE WHEN t.typnotnull THEN ' NOT NULL' END)
			WHEN 'c' THEN format(E'CREATE TYPE %s AS (%s\n);', v.name,
				(SELECT string_agg(format(E'\n    %I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
						angles.ddl_collate(a.attcollation, a.atttypid)), ',' ORDER BY a.attnum)
					FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
			WHEN 'r' THEN (SELECT format(E'CREATE TYPE %s AS RANGE (\n    subtype = %s,\n    subtype_opclass = %s,%s%s\n    multirange_type_name = %s\n);',
					v.name, format_type(r.rngsubtype, NULL), angles.ddl_schema_name(o.opcnamespace, o.opcname),
					(SELECT E'\n    collation = ' || angles.ddl_schema_name(c.collnamespace, c.collname) || ','
						FROM pg_collation c WHERE c.oid = r.rngcollation),
					CASE WHEN r.rngsubdiff <> 0 THEN (SELECT E'\n    subtype_diff = '
						|| angles.ddl_schema_name(p.pronamespace, p.proname) || ',' FROM pg_proc p WHERE p.oid = r.rngsubdiff) END,
					(SELECT angles.ddl_schema_name(m.typnamespace, m.typname) FROM pg_type m WHERE m.oid = r.rngmultitypid))
				FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc WHERE r.rngtypid = typ) END
		FROM pg_type t, LATERAL angles.ddl_schema_name(t.typnamespace, t.typname) v (name) WHERE t.oid = typ);
END
$$;
COMMENT ON FUNCTION angles.ddl_type(oid) IS 'internal: CREATE TYPE or CREATE DOMAIN; the constraints of a domain come apart';

CREATE FUNCTION angles.ddl_function(fn oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$ #variable_conflict use_column
	BEGIN RETURN (SELECT rtrim(pg_get_functiondef(fn), E'\n') || ';'); END $$;
COMMENT ON FUNCTION angles.ddl_function(oid) IS 'internal: CREATE FUNCTION or CREATE PROCEDURE';

CREATE FUNCTION angles.ddl_sequence_options(seq oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s', s.seqstart, s.seqincrement,
			s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' END)
		FROM pg_sequence s WHERE s.seqrelid = seq);
END
$$;
COMMENT ON FUNCTION angles.ddl_sequence_options(oid) IS 'internal: what CREATE SEQUENCE and AS IDENTITY say about a sequence';

CREATE FUNCTION angles.ddl_sequence(seq oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('CREATE %sSEQUENCE %s AS %s %s;', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' END,
			angles.ddl_relation(seq), format_type(s.seqtypid, NULL), angles.ddl_sequence_options(seq))
		FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE s.seqrelid = seq);
END
$$;
COMMENT ON FUNCTION angles.ddl_sequence(oid) IS 'internal: CREATE SEQUENCE';

CREATE FUNCTION angles.ddl_setval(seq oid)
	RETURNS text LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	relation CONSTANT text := angles.ddl_relation(seq);
	at bigint;
	used boolean;
BEGIN
	IF NOT has_sequence_privilege(seq, 'SELECT') THEN
		PERFORM angles.ddl_denied(relation);
	END IF;
	EXECUTE format('SELECT last_value, is_called FROM %s', relation) INTO at, used;
	RETURN format('SELECT pg_catalog.setval(%L, %s, %L);', relation, at, used);
END
$$;
COMMENT ON FUNCTION angles.ddl_setval(oid) IS 'internal: where a sequence stands, as setval(); needs SELECT on it';

/*
 * A default goes into CREATE TABLE when it needs nothing that the table does not, and when neither a
 * parent nor a child could pass it on; else it is set when everything is there.
 */
CREATE FUNCTION angles.ddl_default_is_plain(attrdef oid)
	RETURNS boolean LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
				AND d.refobjid <> f.adrelid AND d.refobjid >= 16384)
			AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = f.adrelid OR i.inhparent = f.adrelid)
		FROM pg_attrdef f WHERE f.oid = attrdef);
END
$$;
COMMENT ON FUNCTION angles.ddl_default_is_plain(oid) IS 'internal: whether a default stands in CREATE TABLE';

CREATE FUNCTION angles.ddl_default(attrdef oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT ', angles.ddl_relation(f.adrelid), a.attname)
			|| pg_get_expr(f.adbin, f.adrelid) || ';'
		FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
		WHERE f.oid = attrdef);
END
$$;
COMMENT ON FUNCTION angles.ddl_default(oid) IS 'internal: ALTER TABLE ... SET DEFAULT';

/*
 * Whether the child is made by INHERITS: it is when it has columns that are only its parents', as there
 * is no other way to them. Else it is made by itself, which keeps the order of its columns, and joined.
 */
CREATE FUNCTION angles.ddl_inherits(rel oid)
	RETURNS boolean LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT NOT c.relispartition AND EXISTS (SELECT FROM pg_attribute a
			WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attislocal)
		FROM pg_class c WHERE c.oid = rel);
END
$$;
COMMENT ON FUNCTION angles.ddl_inherits(oid) IS 'internal: whether CREATE TABLE says INHERITS';

/*
 * plain: generation expressions that cannot be reproduced, by oid; their columns are made without.
 */
CREATE FUNCTION angles.ddl_column(attr pg_catalog.pg_attribute, plain oid[])
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('%I %s%s%s%s', attr.attname, format_type(attr.atttypid, attr.atttypmod),
			angles.ddl_collate(attr.attcollation, attr.atttypid),
			(SELECT CASE WHEN attr.attgenerated = '' THEN format(' DEFAULT %s', e.expr)
					ELSE format(' GENERATED ALWAYS AS (%s) %s', e.expr, CASE attr.attgenerated
						WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) END
				FROM pg_attrdef f, LATERAL pg_get_expr(f.adbin, f.adrelid) e (expr)
				WHERE f.adrelid = attr.attrelid AND f.adnum = attr.attnum AND f.oid <> ALL (plain)
					AND CASE WHEN attr.attgenerated = '' THEN angles.ddl_default_is_plain(f.oid)
						-- a child gets the expression from its parent, and may not say it again
						ELSE attr.attinhcount = 0 OR NOT angles.ddl_inherits(attr.attrelid) END),
			CASE WHEN attr.attnotnull THEN ' NOT NULL' END));
END
$$;
COMMENT ON FUNCTION angles.ddl_column(pg_catalog.pg_attribute, oid[]) IS 'internal: a column as CREATE TABLE has it';

CREATE FUNCTION angles.ddl_table(rel oid, plain oid[])
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format(E'CREATE %sTABLE %s (%s\n)%s%s%s%s;', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' END,
			angles.ddl_relation(rel),
			(SELECT string_agg(E'\n    ' || angles.ddl_column(a, plain), ',' ORDER BY a.attnum) FROM pg_attribute a
				WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND (a.attislocal OR c.relispartition)),
			CASE WHEN angles.ddl_inherits(rel) THEN
				(SELECT format(E'\nINHERITS (%s)', string_agg(angles.ddl_relation(i.inhparent), ', ' ORDER BY i.inhseqno))
					FROM pg_inherits i WHERE i.inhrelid = rel) END,
			CASE c.relkind WHEN 'p' THEN E'\nPARTITION BY ' || pg_get_partkeydef(rel) END,
			(SELECT format(E'\nUSING %I', m.amname) FROM pg_am m WHERE m.oid = c.relam AND m.amname <> 'heap'),
			E'\nWITH (' || NULLIF(concat_ws(', ', angles.ddl_options(c.reloptions, ''),
				angles.ddl_options(s.reloptions, 'toast.')), '') || ')')
		FROM pg_class c LEFT JOIN pg_class s ON s.oid = c.reltoastrelid WHERE c.oid = rel);
END
$$;
COMMENT ON FUNCTION angles.ddl_table(oid, oid[]) IS 'internal: CREATE TABLE with columns, NOT NULL, generated columns and plain defaults';

/*
 * What a table needs when all tables are there, before the rows: parents, identities, how its columns
 * are stored. step sorts the kinds: partitions are attached when they are as their parents are.
 */
CREATE FUNCTION angles.ddl_table_finish(rel oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH col AS (
		SELECT a.*, t.typstorage, to_jsonb(a) AS r, format('ALTER TABLE ONLY %s ALTER COLUMN %I', angles.ddl_relation(rel), a.attname) AS alter_it
			FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
			WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
	)
	SELECT 30, 0, format('ALTER TABLE ONLY %s OF %s;', angles.ddl_relation(rel), format_type(c.reloftype, NULL))
		FROM pg_class c WHERE c.oid = rel AND c.reloftype <> 0
	UNION ALL
	SELECT 31, c.attnum, c.alter_it || ' SET NOT NULL;' FROM col c
		WHERE c.attnotnull AND NOT c.attislocal AND angles.ddl_inherits(rel) AND NOT EXISTS (
			SELECT FROM pg_inherits i JOIN pg_attribute p ON p.attrelid = i.inhparent
				WHERE i.inhrelid = rel AND p.attname = c.attname AND p.attnotnull)
	UNION ALL
	SELECT 32, c.attnum, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s %s);',
			angles.ddl_relation(rel), c.attname, CASE c.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
			angles.ddl_relation(q.oid), angles.ddl_sequence_options(q.oid))
		FROM col c JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND d.refobjsubid = c.attnum
			AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
		JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
		WHERE c.attidentity <> ''
	UNION ALL
	SELECT 33, c.attnum, format('ALTER SEQUENCE %s SET %s;', angles.ddl_relation(q.oid),
			CASE q.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END)
		FROM col c JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND d.refobjsubid = c.attnum
			AND d.classid = 'pg_class'::regclass AND d.deptype = 'i'
		JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' JOIN pg_class t ON t.oid = rel
		WHERE c.attidentity <> '' AND q.relpersistence <> t.relpersistence
	UNION ALL
	SELECT 34, c.attnum, format('%s SET STORAGE %s;', c.alter_it, CASE c.attstorage WHEN 'p' THEN 'PLAIN'
			WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
		FROM col c WHERE c.attstorage <> c.typstorage
	UNION ALL
	SELECT 35, c.attnum, format('%s SET COMPRESSION %s;', c.alter_it, CASE c.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END)
		FROM col c WHERE c.attcompression <> ''
	UNION ALL
	SELECT 36, c.attnum, format('%s SET STATISTICS %s;', c.alter_it, c.r->>'attstattarget')
		FROM col c WHERE (c.r->>'attstattarget')::integer >= 0
	UNION ALL
	SELECT 37, c.attnum, format('%s SET (%s);', c.alter_it, angles.ddl_options(c.attoptions, ''))
		FROM col c WHERE angles.ddl_options(c.attoptions, '') IS NOT NULL
	UNION ALL
	SELECT 38, i.inhseqno, format('ALTER TABLE ONLY %s INHERIT %s;', angles.ddl_relation(rel), angles.ddl_relation(i.inhparent))
		FROM pg_inherits i JOIN pg_class c ON c.oid = rel
		WHERE i.inhrelid = rel AND NOT c.relispartition AND NOT angles.ddl_inherits(rel)
	UNION ALL
	SELECT 39, 0, format('ALTER TABLE ONLY %s ATTACH PARTITION %s %s;', angles.ddl_relation(i.inhparent), angles.ddl_relation(rel),
			pg_get_expr(c.relpartbound, rel))
		FROM pg_inherits i JOIN pg_class c ON c.oid = rel WHERE i.inhrelid = rel AND c.relispartition;
END
$$;
COMMENT ON FUNCTION angles.ddl_table_finish(oid) IS 'internal: identities, column options, parents of a table';

/*
 * What a table needs at the end, after the rows, indexes and triggers.
 */
CREATE FUNCTION angles.ddl_table_after(rel oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT v.step, 0, format('ALTER TABLE ONLY %s %s;', angles.ddl_relation(rel), v.clause)
		FROM pg_class c, LATERAL (VALUES
			(60, CASE WHEN c.relrowsecurity THEN 'ENABLE ROW LEVEL SECURITY' END),
			(61, CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END),
			(62, CASE c.relreplident WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' WHEN 'f' THEN 'REPLICA IDENTITY FULL' END))
			AS v (step, clause)
		WHERE c.oid = rel AND v.clause IS NOT NULL;
END
$$;
COMMENT ON FUNCTION angles.ddl_table_after(oid) IS 'internal: row level security and replica identity of a table';

CREATE FUNCTION angles.ddl_constraint(con oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	-- a check, and a key to another table, go down to the children; a partition's index is attached instead
	SELECT CASE WHEN c.contypid <> 0 THEN 'ALTER DOMAIN ' || format_type(c.contypid, NULL)
			ELSE format('ALTER TABLE %s%s', CASE WHEN c.contype NOT IN ('c', 'f')
				OR c.contype = 'f' AND t.relkind <> 'p' THEN 'ONLY ' END, angles.ddl_relation(c.conrelid)) END
			-- null, and not an empty place, when it was dropped meanwhile
			|| format(' ADD CONSTRAINT %I ', c.conname) || pg_get_constraintdef(con) || ';'
		FROM pg_constraint c LEFT JOIN pg_class t ON t.oid = c.conrelid WHERE c.oid = con);
END
$$;
COMMENT ON FUNCTION angles.ddl_constraint(oid) IS 'internal: ALTER TABLE or ALTER DOMAIN ... ADD CONSTRAINT';

/*
 * What an index needs. One that a constraint makes has no CREATE INDEX, but all the rest.
 */
CREATE FUNCTION angles.ddl_index(idx oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH own AS (
		SELECT i.*, c.reloptions, EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = idx AND k.conrelid = i.indrelid
				AND k.contype IN ('p', 'u', 'x')) AS by_constraint
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indexrelid = idx
	)
	SELECT 11, 0, pg_get_indexdef(idx) || ';' FROM own o WHERE NOT o.by_constraint
	UNION ALL
	SELECT 12, 0, format('ALTER INDEX %s SET (%s);', angles.ddl_relation(idx), angles.ddl_options(o.reloptions, ''))
		FROM own o WHERE o.by_constraint AND o.reloptions IS NOT NULL
	UNION ALL
	SELECT 13, a.attnum, format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s;', angles.ddl_relation(idx), a.attnum, r->>'attstattarget')
		FROM pg_attribute a, LATERAL to_jsonb(a) r WHERE a.attrelid = idx AND a.attnum > 0 AND (r->>'attstattarget')::integer >= 0
	UNION ALL
	SELECT 14, 0, format('ALTER INDEX %s ATTACH PARTITION %s;', angles.ddl_relation(h.inhparent), angles.ddl_relation(idx))
		FROM pg_inherits h WHERE h.inhrelid = idx
	UNION ALL
	SELECT 63, 0, format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I;', angles.ddl_relation(o.indrelid), c.relname)
		FROM own o JOIN pg_class c ON c.oid = idx JOIN pg_class t ON t.oid = o.indrelid
		WHERE o.indisreplident AND t.relreplident = 'i'
	UNION ALL
	SELECT 64, 0, format('ALTER TABLE %s CLUSTER ON %I;', angles.ddl_relation(o.indrelid), c.relname)
		FROM own o JOIN pg_class c ON c.oid = idx WHERE o.indisclustered;
END
$$;
COMMENT ON FUNCTION angles.ddl_index(oid) IS 'internal: CREATE INDEX and all that belongs to an index';

/*
 * A trigger that a partition has from its parent is made with that one; only its state may be its own.
 */
CREATE FUNCTION angles.ddl_trigger(trig oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT 50, 0, pg_get_triggerdef(trig) || ';' FROM pg_trigger t WHERE t.oid = trig AND t.tgparentid = 0
	UNION ALL
	-- ALTER TABLE goes down to the partitions, so parents come first
	SELECT 51, (SELECT count(*) FROM pg_partition_ancestors(t.tgrelid))::integer,
			format('ALTER TABLE %s %s TRIGGER %I;', angles.ddl_relation(t.tgrelid), CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS'
				WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END, t.tgname)
		FROM pg_trigger t LEFT JOIN pg_trigger p ON p.oid = t.tgparentid
		WHERE t.oid = trig AND t.tgenabled <> COALESCE(p.tgenabled, 'O');
END
$$;
COMMENT ON FUNCTION angles.ddl_trigger(oid) IS 'internal: CREATE TRIGGER, and whether it fires';

CREATE FUNCTION angles.ddl_rule(rule oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT 40, 0, pg_get_ruledef(rule)
	UNION ALL
	SELECT 41, 0, format('ALTER TABLE %s %s RULE %I;', angles.ddl_relation(r.ev_class), CASE r.ev_enabled
			WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'DISABLE' END, r.rulename)
		FROM pg_rewrite r WHERE r.oid = rule AND r.ev_enabled <> 'O';
END
$$;
COMMENT ON FUNCTION angles.ddl_rule(oid) IS 'internal: CREATE RULE, and whether it is used';

CREATE FUNCTION angles.ddl_statistics(stat oid)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT 30, 0, pg_get_statisticsobjdef(stat) || ';'
	UNION ALL
	SELECT 31, 0, format('ALTER STATISTICS %s SET STATISTICS %s;', angles.ddl_schema_name(s.stxnamespace, s.stxname), r->>'stxstattarget')
		FROM pg_statistic_ext s, LATERAL to_jsonb(s) r WHERE s.oid = stat AND (r->>'stxstattarget')::integer >= 0;
END
$$;
COMMENT ON FUNCTION angles.ddl_statistics(oid) IS 'internal: CREATE STATISTICS and its target';

CREATE FUNCTION angles.ddl_policy(pol oid)
	RETURNS text LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN (
	SELECT format('CREATE POLICY %I ON %s%s%s%s%s%s;', p.polname, angles.ddl_relation(p.polrelid),
			CASE WHEN NOT p.polpermissive THEN ' AS RESTRICTIVE' END,
			CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT' WHEN 'w' THEN ' FOR UPDATE'
				WHEN 'd' THEN ' FOR DELETE' END,
			(SELECT ' TO ' || string_agg(angles.ddl_role(u), ', ' ORDER BY angles.ddl_role(u) COLLATE "C")
				FROM unnest(p.polroles) u WHERE p.polroles <> '{0}'),
			' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
			' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
		FROM pg_policy p WHERE p.oid = pol);
END
$$;
COMMENT ON FUNCTION angles.ddl_policy(oid) IS 'internal: CREATE POLICY';
