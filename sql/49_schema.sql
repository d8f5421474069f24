/*
 * 49_schema.sql
 *		The schema of some tables as SQL scripts: what a backup keeps beside the rows, and what a person
 *		may look at with angles.schema_of().
 *
 * Parts: pre (before the rows), seq (where sequences stand), post (after the rows: constraints, indexes,
 * triggers, policies, comments), rights (everything that names a role; may be left out where the roles
 * do not exist), order (the tables as foreign keys want them loaded), not captured (what is missing, and
 * why). The same schema gives the same bytes, whatever the settings, the locale, the order of oids.
 */

/*
 * Makes the privileges those of the object out of the ones that a new object has. Sorted by who gave
 * them: nobody can pass on what he has not got yet.
 */
CREATE FUNCTION angles.ddl_grants(target text, acl aclitem[], base aclitem[], owner oid, of_column text)
	RETURNS TABLE (n integer, statement text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH RECURSIVE item AS (
		SELECT * FROM aclexplode(acl)
	), revoked AS (
		SELECT DISTINCT b.grantee FROM aclexplode(base) b WHERE EXISTS (
				(SELECT x.privilege_type, x.is_grantable FROM aclexplode(base) x WHERE x.grantee = b.grantee
					EXCEPT SELECT x.privilege_type, x.is_grantable FROM item x WHERE x.grantee = b.grantee)
				UNION ALL
				(SELECT x.privilege_type, x.is_grantable FROM item x WHERE x.grantee = b.grantee
					EXCEPT SELECT x.privilege_type, x.is_grantable FROM aclexplode(base) x WHERE x.grantee = b.grantee))
	), depth AS (
		SELECT owner AS role, 0 AS depth
		UNION
		SELECT i.grantee, d.depth + 1 FROM depth d JOIN item i ON i.grantor = d.role AND i.is_grantable
			WHERE i.grantee <> owner AND d.depth < 100
	), given AS (
		SELECT COALESCE((SELECT max(d.depth) FROM depth d WHERE d.role = i.grantor), 0) AS depth,
				angles.ddl_role(i.grantor) AS grantor, i.grantor = owner AS by_owner, angles.ddl_role(i.grantee) AS grantee, i.is_grantable,
				string_agg(i.privilege_type || COALESCE('(' || of_column || ')', ''), ', ' ORDER BY i.privilege_type COLLATE "C") AS what
			FROM item i
			WHERE i.grantee NOT IN (SELECT b.grantee FROM aclexplode(base) b) OR i.grantee IN (SELECT r.grantee FROM revoked r)
			GROUP BY i.grantor, i.grantee, i.is_grantable
	), line AS (
		SELECT 0 AS depth, angles.ddl_role(r.grantee) COLLATE "C" AS a, '' COLLATE "C" AS b, false AS c,
				format('REVOKE ALL ON %s FROM %s;', target, angles.ddl_role(r.grantee)) AS statement
			FROM revoked r
		UNION ALL
		SELECT g.depth + 1, g.grantor, g.grantee, g.is_grantable, format(CASE WHEN g.by_owner THEN '%s' ELSE
				format(E'SET SESSION AUTHORIZATION %s;\n%%s\nRESET SESSION AUTHORIZATION;', replace(g.grantor, '%', '%%')) END,
				format('GRANT %s ON %s TO %s%s;', g.what, target, g.grantee, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END))
			FROM given g
	)
	SELECT (row_number() OVER (ORDER BY l.depth, l.a, l.b, l.c))::integer, l.statement FROM line l WHERE acl IS NOT NULL;
END
$$;
COMMENT ON FUNCTION angles.ddl_grants(text, aclitem[], aclitem[], oid, text) IS 'internal: GRANT and REVOKE from what a new object has to what this one has';

/*
 * Owner and privileges of an object; the owner first, as he is the one who grants.
 */
CREATE FUNCTION angles.ddl_rights(classid oid, objid oid, kind text)
	RETURNS TABLE (step integer, n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH own AS (
		SELECT n.nspowner AS owner, n.nspacl AS acl, 'n'::"char" AS type FROM pg_namespace n WHERE kind = 'schema' AND n.oid = $2
		UNION ALL
		SELECT t.typowner, t.typacl, 'T' FROM pg_type t WHERE kind = 'type' AND t.oid = $2
		UNION ALL
		SELECT p.proowner, p.proacl, 'f' FROM pg_proc p WHERE kind = 'function' AND p.oid = $2
		UNION ALL
		SELECT c.relowner, c.relacl, CASE kind WHEN 'sequence' THEN 's' ELSE 'r' END::"char" FROM pg_class c
			WHERE kind IN ('table', 'sequence') AND c.oid = $2
		UNION ALL
		SELECT c.collowner, NULL, NULL FROM pg_collation c WHERE kind = 'collation' AND c.oid = $2
		UNION ALL
		SELECT s.stxowner, NULL, NULL FROM pg_statistic_ext s WHERE kind = 'statistics' AND s.oid = $2
	), object AS (
		SELECT angles.ddl_object($1, $2) AS name, COALESCE((SELECT p.initprivs FROM pg_init_privs p
			WHERE p.classoid = $1 AND p.objoid = $2 AND p.objsubid = 0 AND p.privtype = 'i'), acldefault(o.type, o.owner)) AS base FROM own o
	)
	-- the sequence of a column goes with its table; schema public belongs to the database's owner anyhow
	SELECT 10, 0, format('ALTER %s OWNER TO %s;', w.name, angles.ddl_role(o.owner))
		FROM own o, object w
		WHERE NOT (kind = 'sequence' AND angles.ddl_table_of($1, $2, kind) IS NOT NULL)
			AND NOT (kind = 'schema' AND $2 = 'public'::regnamespace AND o.owner = 'pg_database_owner'::regrole)
	UNION ALL
	SELECT 30, g.n, g.statement FROM own o, object w, LATERAL angles.ddl_grants(w.name, o.acl, w.base, o.owner, NULL) g
	UNION ALL
	SELECT 31, a.attnum * 1000 + g.n, g.statement FROM own o, object w, pg_attribute a,
			LATERAL angles.ddl_grants(w.name, a.attacl, NULL, o.owner, quote_ident(a.attname)) g
		WHERE kind = 'table' AND a.attrelid = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL;
END
$$;
COMMENT ON FUNCTION angles.ddl_rights(oid, oid, text) IS 'internal: owner and privileges of an object';

CREATE FUNCTION angles.ddl_comments(classid oid, objid oid, kind text)
	RETURNS TABLE (n integer, statement text)
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT 0, format('COMMENT ON %s IS %L;', angles.ddl_object($1, $2), d.description)
		FROM (SELECT obj_description($2, c.relname) FROM pg_class c WHERE c.oid = $1) d (description)
		WHERE CASE WHEN kind = 'schema' AND $2 = 'public'::regnamespace
			THEN d.description IS DISTINCT FROM 'standard public schema' ELSE d.description IS NOT NULL END
	UNION ALL
	SELECT a.attnum, format('COMMENT ON COLUMN %s.%I IS %L;', angles.ddl_relation(r.oid), a.attname, d.description)
		FROM (SELECT CASE kind WHEN 'table' THEN $2 WHEN 'type' THEN (SELECT NULLIF(t.typrelid, 0) FROM pg_type t WHERE t.oid = $2) END) r (oid)
		JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = r.oid AND d.objsubid = a.attnum;
END
$$;
COMMENT ON FUNCTION angles.ddl_comments(oid, oid, text) IS 'internal: comments on an object and on its columns';

/*
 * What surrounds the tables and is not in the scripts, by name and with the reason.
 */
CREATE FUNCTION angles.ddl_around(tables oid[], objects oid[])
	RETURNS TABLE (classid oid, objid oid, problem text)
	LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT DISTINCT 'pg_class'::regclass::oid, v.oid, 'a ' || i.type || ' is out of scope: only tables have rows of their own'
		FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm'),
			LATERAL pg_identify_object('pg_class'::regclass, v.oid, 0) i
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (tables) AND d.classid = 'pg_rewrite'::regclass
			AND NOT angles.ddl_is_member('pg_class'::regclass, v.oid)
	UNION ALL
	SELECT 'pg_class'::regclass, t, 'it belongs to an extension, which makes it' FROM unnest(tables) t
		WHERE angles.ddl_is_member('pg_class'::regclass, t)
	UNION ALL
	SELECT 'pg_class'::regclass, c.oid, format('its tablespace %I is left out: another server need not have it', s.spcname)
		FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = ANY (objects)
	UNION ALL
	SELECT 'pg_publication'::regclass, p.prpubid, format('publications are out of scope: this one has table %s', angles.ddl_relation(p.prrelid))
		FROM pg_publication_rel p WHERE p.prrelid = ANY (tables)
	UNION ALL
	SELECT l.classoid, l.objoid, format('its security label of provider %I is left out', l.provider)
		FROM pg_seclabel l WHERE l.objoid = ANY (objects)
	UNION ALL
	SELECT 'pg_trigger'::regclass, t.oid, 'the state of a trigger of PostgreSQL itself is left out: this one is not as it was made'
		FROM pg_trigger t WHERE t.tgrelid = ANY (tables) AND t.tgisinternal AND t.tgenabled <> 'O'
	UNION ALL
	SELECT 'pg_cast'::regclass, c.oid, 'angles writes down no cast'
		FROM pg_cast c WHERE c.oid >= 16384 AND (c.castfunc = ANY (objects) OR c.castsource = ANY (objects) OR c.casttarget = ANY (objects))
			-- a range type brings its own along
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
	UNION ALL
	SELECT 'pg_event_trigger'::regclass, e.oid, 'event triggers are out of scope: they belong to the database'
		FROM pg_event_trigger e WHERE NOT angles.ddl_is_member('pg_event_trigger'::regclass, e.oid)
$$;
COMMENT ON FUNCTION angles.ddl_around(oid[], oid[]) IS 'internal: what surrounds tables and is not captured';

/*
 * All statements with their places. tables: ordinary and partitioned ones, partitions with their parents.
 */
CREATE FUNCTION angles.ddl_statements(tables oid[])
	RETURNS TABLE (part text, step integer, level integer, rank integer, name text, n integer, relid oid, statement text)
	LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
	WITH graph AS MATERIALIZED (
		SELECT g.*, angles.ddl_object(g.classid, g.objid) AS name, array_position(
				ARRAY['schema', 'extension', 'collation', 'type', 'domain constraint', 'function', 'sequence', 'table', 'default'], g.kind) AS rank
			FROM angles.ddl_graph(tables) g
	), good AS MATERIALIZED (
		SELECT * FROM graph g WHERE g.problem IS NULL AND g.kind NOT IN ('via', 'member')
	), plain AS MATERIALIZED (
		SELECT COALESCE(array_agg(g.objid), '{}') AS oids FROM graph g WHERE g.kind = 'default' AND g.problem IS NOT NULL
	), made AS (
		SELECT 'pre' AS part, 20 AS step, g.level, g.rank, g.name, 0 AS n, g.relid, CASE g.kind
				WHEN 'schema' THEN format('CREATE SCHEMA IF NOT EXISTS %s;', substr(g.name, 8))
				WHEN 'extension' THEN angles.ddl_extension(g.objid)
				WHEN 'collation' THEN angles.ddl_collation(g.objid)
				WHEN 'type' THEN angles.ddl_type(g.objid)
				WHEN 'function' THEN angles.ddl_function(g.objid)
				WHEN 'sequence' THEN angles.ddl_sequence(g.objid)
				WHEN 'table' THEN angles.ddl_table(g.objid, p.oids)
				WHEN 'domain constraint' THEN angles.ddl_constraint(g.objid)
				WHEN 'default' THEN angles.ddl_default(g.objid) END AS statement
			FROM good g, plain p
			WHERE g.rank IS NOT NULL
				-- those that their column makes
				AND NOT (g.kind = 'sequence' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = g.classid AND d.objid = g.objid
					AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'))
				AND NOT (g.kind = 'default' AND (angles.ddl_default_is_plain(g.objid) OR EXISTS (SELECT FROM pg_attrdef f
					JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
					WHERE f.oid = g.objid AND a.attgenerated <> '')))
		UNION ALL
		SELECT 'pre', f.step, 0, 0, g.name, f.n, g.relid, f.statement
			FROM good g, LATERAL angles.ddl_table_finish(g.objid) f WHERE g.kind = 'table'
		UNION ALL
		SELECT 'pre', 40, 0, 0, g.name, 0, g.relid, format('ALTER SEQUENCE %s OWNED BY %s.%I;', angles.ddl_relation(g.objid),
				angles.ddl_relation(g.relid), a.attname)
			FROM good g JOIN good t ON t.kind = 'table' AND t.objid = g.relid
			JOIN pg_depend d ON d.classid = g.classid AND d.objid = g.objid AND d.refobjid = g.relid AND d.deptype = 'a'
			JOIN pg_attribute a ON a.attrelid = g.relid AND a.attnum = d.refobjsubid
			WHERE g.kind = 'sequence'
		UNION ALL
		SELECT 'seq', 20, 0, 0, g.name, 0, NULL, angles.ddl_setval(g.objid) FROM good g WHERE g.kind = 'sequence'
		UNION ALL
		SELECT 'post', CASE c.contype WHEN 'c' THEN 25 WHEN 'f' THEN 26 ELSE 10 END, 0, 0, g.name, 0, g.relid, angles.ddl_constraint(g.objid)
			FROM good g JOIN pg_constraint c ON c.oid = g.objid WHERE g.kind = 'constraint'
		UNION ALL
		SELECT 'post', f.step, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_index(g.objid) f WHERE g.kind = 'index'
		UNION ALL
		SELECT 'post', f.step, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_statistics(g.objid) f WHERE g.kind = 'statistics'
		UNION ALL
		SELECT 'post', f.step, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_rule(g.objid) f WHERE g.kind = 'rule'
		UNION ALL
		SELECT 'post', f.step, f.n, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_trigger(g.objid) f WHERE g.kind = 'trigger'
		UNION ALL
		SELECT 'post', f.step, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_table_after(g.objid) f WHERE g.kind = 'table'
		UNION ALL
		-- policies stay together: the ones for everybody alone might open what one for a role closes
		SELECT CASE WHEN EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = g.relid AND p.polroles <> '{0}') THEN 'rights' ELSE 'post' END,
				20, 0, 0, g.name, 0, g.relid, angles.ddl_policy(g.objid)
			FROM good g WHERE g.kind = 'policy'
		UNION ALL
		SELECT 'post', 70, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_comments(g.classid, g.objid, g.kind) f
			WHERE g.kind NOT IN ('extension', 'default')
				AND NOT (g.kind = 'policy' AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = g.relid AND p.polroles <> '{0}'))
		UNION ALL
		SELECT 'rights', 21, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_comments(g.classid, g.objid, g.kind) f
			WHERE g.kind = 'policy' AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = g.relid AND p.polroles <> '{0}')
		UNION ALL
		SELECT 'post', 71, 0, 0, g.name, 0, g.relid, format('ALTER %s DEPENDS ON EXTENSION %I;', g.name, e.extname)
			FROM good g JOIN pg_depend d ON d.classid = g.classid AND d.objid = g.objid AND d.deptype = 'x'
			JOIN pg_extension e ON e.oid = d.refobjid
		UNION ALL
		SELECT 'rights', f.step, 0, 0, g.name, f.n, g.relid, f.statement FROM good g, LATERAL angles.ddl_rights(g.classid, g.objid, g.kind) f
			WHERE g.kind NOT IN ('extension', 'default')
	)
	SELECT m.part, m.step, m.level, m.rank, m.name, m.n, m.relid, m.statement FROM made m
	UNION ALL
	SELECT 'not captured', 20, 0, 0, g.name, 0, g.relid, format('%s: %s', g.name, g.problem)
		FROM graph g
		WHERE g.problem IS NOT NULL AND g.kind <> 'via'
			-- what goes with a table goes unsaid when the table does
			AND NOT EXISTS (SELECT FROM graph t WHERE g.kind <> 'table' AND t.objid = g.relid AND t.kind = 'table' AND t.problem IS NOT NULL)
	UNION ALL
	SELECT 'not captured', 30, 0, 0, i.name, 0, NULL, format('%s: %s', i.name, a.problem)
		FROM (SELECT array_agg(g.objid) FROM good g) o (oids), LATERAL angles.ddl_around(tables, o.oids) a,
			LATERAL angles.ddl_object(a.classid, a.objid) i (name)
	UNION ALL
	SELECT 'not captured', 31, 0, 0, g.name, 0, NULL, format('%s: it belongs to %s, which is not in this backup; it is made without an owner',
			g.name, angles.ddl_relation(g.relid))
		FROM good g WHERE g.kind = 'sequence' AND g.relid IS NOT NULL AND NOT EXISTS (SELECT FROM good t WHERE t.objid = g.relid)
$$;
COMMENT ON FUNCTION angles.ddl_statements(oid[]) IS 'internal: all statements that make tables again, with their places';

/*
 * The tables as foreign keys want them loaded: level 0 refers to no table of a lower one. Tables that refer
 * to each other in a circle share a level and a number, and can only be loaded without their constraints.
 */
CREATE FUNCTION angles.ddl_order(tables oid[])
	RETURNS TABLE (relid oid, level integer, circle integer, self boolean)
	LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
	WITH RECURSIVE own AS (
		SELECT t AS relid, angles.ddl_relation(t) COLLATE "C" AS name FROM unnest(tables) t JOIN pg_class c ON c.oid = t AND c.relkind IN ('r', 'p')
	), fk AS MATERIALIZED (
		SELECT DISTINCT c.conrelid AS child, c.confrelid AS parent FROM pg_constraint c
			WHERE c.contype = 'f' AND c.conrelid = ANY (tables) AND c.confrelid = ANY (tables)
		UNION
		-- rows of a partition come through either name
		SELECT i.inhparent, i.inhrelid FROM pg_inherits i WHERE i.inhrelid = ANY (tables) AND i.inhparent = ANY (tables)
	), reach AS (
		SELECT f.child, f.parent FROM fk f WHERE f.child <> f.parent
		UNION
		SELECT r.child, f.parent FROM reach r JOIN fk f ON f.child = r.parent
	), loops AS MATERIALIZED (
		SELECT a.child AS relid, min(angles.ddl_relation(a.parent) COLLATE "C") AS first
			FROM reach a JOIN reach b ON b.child = a.parent AND b.parent = a.child GROUP BY 1
	), team AS MATERIALIZED (
		SELECT o.relid, o.name, l.first AS circle, COALESCE(l.first, o.name) AS team FROM own o LEFT JOIN loops l ON l.relid = o.relid
	), edge AS MATERIALIZED (
		SELECT DISTINCT a.team AS child, b.team AS parent FROM fk f JOIN team a ON a.relid = f.child JOIN team b ON b.relid = f.parent WHERE a.team <> b.team
	), step AS (
		SELECT DISTINCT t.team, 0 AS level FROM team t
		UNION
		SELECT e.child, s.level + 1 FROM step s JOIN edge e ON e.parent = s.team
	)
	SELECT t.relid, (SELECT max(s.level) FROM step s WHERE s.team = t.team),
			CASE WHEN t.circle IS NOT NULL THEN (dense_rank() OVER (PARTITION BY t.circle IS NULL ORDER BY t.circle))::integer END,
			EXISTS (SELECT FROM fk f WHERE f.child = t.relid AND f.parent = t.relid)
		FROM team t
$$;
COMMENT ON FUNCTION angles.ddl_order(oid[]) IS 'internal: the order in which foreign keys want tables loaded';

/*
 * What a comment line or a list may hold: one line, whatever names people choose.
 */
CREATE FUNCTION angles.ddl_one_line(words text)
	RETURNS text LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT replace(replace(replace(replace(words, '\', '\\'), E'\n', '\n'), E'\r', '\r'), E'\t', '\t')
$$;
COMMENT ON FUNCTION angles.ddl_one_line(text) IS 'internal: words with backslash, line ends and tabs as \\, \n, \r, \t';

/*
 * The tables of a call with their partitions, checked and locked against changes; what cannot be read by
 * the caller ends the call.
 */
CREATE FUNCTION angles.ddl_scope(tables oid[])
	RETURNS oid[] LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	wanted oid;
	name text;
	kind "char";
	problem text;
	scope oid[];
BEGIN
	IF tables IS NULL OR array_position(tables, NULL) IS NOT NULL THEN
		RAISE EXCEPTION 'a table is null' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'Name the tables: angles.schema_of(ARRAY[''my_table''::regclass]).';
	END IF;
	SELECT COALESCE(array_agg(DISTINCT r.relid), '{}') INTO scope
		FROM unnest(tables) t, LATERAL (SELECT t AS relid UNION ALL SELECT p.relid FROM pg_partition_tree(t) p) r;
	FOREACH wanted IN ARRAY scope LOOP
		SELECT angles.ddl_relation(c.oid), c.relkind, CASE
				WHEN c.relpersistence = 't' THEN 'it is temporary'
				WHEN c.oid < 16384 OR n.nspname IN ('pg_catalog', 'information_schema', 'angles') THEN 'it belongs to the system'
				WHEN c.relkind NOT IN ('r', 'p', 'f', 'v', 'm') THEN 'it is not a table' END
			INTO name, kind, problem
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = wanted;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is no table with oid %', wanted USING ERRCODE = 'undefined_table',
				HINT = 'It may have been dropped meanwhile; run it again.';
		ELSIF problem IS NOT NULL THEN
			RAISE EXCEPTION 'the schema of % cannot be kept: %', name, problem USING ERRCODE = 'wrong_object_type',
				HINT = 'Name tables that stay and are yours.';
		ELSIF NOT has_table_privilege(wanted, 'SELECT') THEN
			PERFORM angles.ddl_denied(name);
		END IF;
		IF kind IN ('r', 'p') THEN
			EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', name);
		END IF;
	END LOOP;
	RETURN scope;
END
$$;
COMMENT ON FUNCTION angles.ddl_scope(oid[]) IS 'internal: tables with their partitions, checked and locked';

CREATE FUNCTION angles.ddl_denied(relation text)
	RETURNS void LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	RAISE EXCEPTION 'role % may not read %', quote_ident(current_user), relation USING ERRCODE = 'insufficient_privilege',
		DETAIL = 'A schema is kept together with the rows and the state of its sequences.',
		HINT = format('GRANT SELECT ON %s TO %I, or GRANT pg_read_all_data TO %2$I.', relation, current_user);
END
$$;
COMMENT ON FUNCTION angles.ddl_denied(text) IS 'internal: says that the caller may not read a relation';

/*
 * schema_of() with the table that each statement belongs to, for the files of a backup. Called in the
 * backup's own snapshot; the settings of the function are those of the backup.
 */
CREATE FUNCTION angles.schema_rows(tables oid[])
	RETURNS TABLE (part text, ord integer, relid oid, statement text)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET jit = off SET quote_all_identifiers = off SET standard_conforming_strings = on SET "TimeZone" = 'UTC'
	SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = 'postgres' SET extra_float_digits = 3
	SET bytea_output = 'hex' SET lc_monetary = 'C' SET lc_numeric = 'C' SET xmloption = 'content' SET xmlbinary = 'base64'
	AS $$
DECLARE
	scope CONSTANT oid[] := angles.ddl_scope(tables);
	place text;
	-- names and bodies come as they were written: nothing of the session that runs a script may change them
	settings CONSTANT text[] := ARRAY[
		format('SET client_encoding = %L;', CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END),
		'SET standard_conforming_strings = on;', 'SET check_function_bodies = false;', 'SET xmloption = content;',
		'SET client_min_messages = warning;', 'SET row_security = off;', 'SET default_tablespace = '''';',
		'SET default_table_access_method = heap;', 'SET transform_null_equals = off;', 'SET "DateStyle" = ''ISO, YMD'';',
		'SET "IntervalStyle" = ''postgres'';', 'SET "TimeZone" = ''UTC'';', 'SET lc_monetary = ''C'';',
		'SELECT pg_catalog.set_config(''search_path'', '''', false);'];
BEGIN
	FOR part, ord, relid, statement, place IN
		WITH row AS (
			SELECT s.part, s.step, s.level, s.rank, s.name COLLATE "C" AS name, s.n, s.relid, s.statement FROM angles.ddl_statements(scope) s
			UNION ALL
			SELECT p.part, 0, 0, 0, '', u.n::integer, NULL, u.line
				FROM unnest(ARRAY['pre', 'seq', 'post', 'rights']) p (part), unnest(settings) WITH ORDINALITY u (line, n)
			UNION ALL
			SELECT 'order', 0, o.level, o.circle, angles.ddl_relation(o.relid), 0, o.relid, concat_ws(E'\t', o.level,
					angles.ddl_one_line(angles.ddl_relation(o.relid)), 'circle ' || o.circle, CASE WHEN o.self THEN 'self' END)
				FROM angles.ddl_order(scope) o
		)
		SELECT r.part, row_number() OVER (PARTITION BY r.part ORDER BY r.step, r.level, r.rank, r.name, r.n, r.statement COLLATE "C"),
				r.relid, CASE WHEN r.part = 'not captured' THEN angles.ddl_one_line(r.statement) ELSE r.statement END, r.name
			FROM row r
			ORDER BY array_position(ARRAY['pre', 'seq', 'post', 'rights', 'order', 'not captured'], r.part), 2
	LOOP
		-- what PostgreSQL does not know any more was dropped after the snapshot was taken
		IF statement IS NULL THEN
			RAISE EXCEPTION '% was changed while its definition was read', COALESCE(place, 'an object') USING ERRCODE = 'serialization_failure',
				HINT = 'Run it again.';
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION angles.schema_rows(oid[]) IS 'internal: schema_of() with the table that each statement belongs to';

/*
 * The files of a backup: pre, seq, post, rights, order, notes once, and table for each table: its own
 * statements, for people to read. A file without statements has a heading all the same.
 */
CREATE FUNCTION angles.schema_files(tables oid[])
	RETURNS TABLE (file text, relid oid, content text)
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	WITH row AS MATERIALIZED (
		SELECT r.part, r.ord, r.relid, r.statement
			FROM angles.schema_rows(tables) r
	)
	SELECT h.file, NULL::oid, h.heading || E'\n' || COALESCE((SELECT string_agg(r.statement || E'\n', h.gap ORDER BY r.ord)
			FROM row r WHERE r.part = h.part), '')
		FROM (VALUES
			('pre', 'pre', E'\n', E'-- To run first, in an empty database: types, functions, sequences, tables.\n'),
			('seq', 'seq', E'\n', E'-- To run after the rows: where the sequences stood.\n'),
			('post', 'post', E'\n', E'-- To run after the rows: constraints, indexes, triggers, policies, comments.\n'),
			('rights', 'rights', E'\n', E'-- To run last, where the roles exist: owners, policies for roles, privileges.\n'),
			('order', 'order', '', E'# level, table, marks: a table comes after those that its foreign keys refer to. Tables of one\n# circle refer to each other; self: to itself. In names \\n, \\t, \\r and \\\\ stand for the characters.'),
			('notes', 'not captured', '', '# What is not in these files, and why.')) AS h (file, part, gap, heading)
	UNION ALL
	SELECT 'table', r.relid, string_agg(r.statement || E'\n', E'\n' ORDER BY array_position(ARRAY['pre', 'post', 'rights'], r.part), r.ord)
		FROM row r JOIN pg_class c ON c.oid = r.relid AND c.relkind IN ('r', 'p')
		WHERE r.part IN ('pre', 'post', 'rights')
		GROUP BY r.relid
$$;
COMMENT ON FUNCTION angles.schema_files(oid[]) IS 'internal: the schema files of a backup';

CREATE FUNCTION angles.schema_of(tables regclass[])
	RETURNS TABLE (part text, ord integer, statement text)
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT r.part, r.ord, r.statement FROM angles.schema_rows(tables::oid[]) r $$;
COMMENT ON FUNCTION angles.schema_of(regclass[]) IS 'the statements that make these tables again, with all they need: parts pre, seq, post, rights in this order, the loading order, and what is not captured';
