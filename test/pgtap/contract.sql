-- contract.sql
--   What holds for every object of the extension, whatever it does. Runs on any server that has
--   angles and pgtap installed: make pgtap.
SELECT plan(16);

SELECT has_extension('angles', 'the extension is there');
SELECT is(e.extversion, a.default_version, 'its version is the one of the control file')
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_available_extensions a ON a.name = e.extname
 WHERE e.extname = 'angles';
SELECT is((SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
            WHERE e.extname = 'angles'), 'angles', 'it lives in schema angles');
SELECT ok((SELECT NOT extrelocatable FROM pg_catalog.pg_extension WHERE extname = 'angles'),
          'it cannot be moved to another schema');

CREATE TEMPORARY VIEW member AS
SELECT d.classid, d.objid, i.type, i.schema, i.identity
  FROM pg_catalog.pg_depend d
  CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
 WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
   AND d.refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'angles')
   AND d.deptype = 'e';
CREATE TEMPORARY VIEW func AS
SELECT p.*, l.lanname, m.identity
  FROM member m JOIN pg_catalog.pg_proc p ON p.oid = m.objid
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass;
CREATE TEMPORARY VIEW rel AS
SELECT c.*, m.identity
  FROM member m JOIN pg_catalog.pg_class c ON c.oid = m.objid
 WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass;

-- a view of members that is empty by mistake would make all that follows true
SELECT cmp_ok((SELECT count(*) FROM func), '>', 3::bigint, 'the extension has functions to look at');
SELECT cmp_ok((SELECT count(*) FROM rel), '>', 3::bigint, 'the extension has relations to look at');

SELECT is_empty($$
  SELECT type, identity FROM member
   WHERE schema IS DISTINCT FROM 'angles'
     AND type NOT IN ('schema', 'event trigger', 'language')
     AND identity NOT LIKE 'angles.%'
$$, 'every object lives in schema angles');

SELECT is_empty($$
  SELECT f.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc f
   WHERE f.pronamespace = 'angles'::pg_catalog.regnamespace
     AND f.oid NOT IN (SELECT oid FROM func)
  UNION ALL
  SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
   WHERE c.relnamespace = 'angles'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
     AND c.oid NOT IN (SELECT oid FROM rel)
$$, 'schema angles holds nothing but the extension');

-- Triggers written in C look nothing up by name, and a SET would cost at each row; a procedure with SET may
-- not commit. These two are left out when they are in C, and undelete(), which runs triggers of users.
SELECT is_empty($$
  SELECT identity FROM func
   WHERE NOT (lanname = 'c' AND (prokind = 'p' OR prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
      OR identity LIKE 'angles.undelete(%'))
     AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
$$, 'every function has its search_path pinned to pg_catalog, pg_temp');

SELECT is_empty($$
  SELECT f.identity, a.privilege_type
    FROM func f
    CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) a
   WHERE a.grantee = 0
$$, 'no function may be executed by PUBLIC');

SELECT is_empty($$
  SELECT r.identity, a.privilege_type
    FROM rel r
    CROSS JOIN LATERAL pg_catalog.aclexplode(r.relacl) a
   WHERE a.grantee = 0
  UNION ALL
  SELECT r.identity || '.' || t.attname, a.privilege_type
    FROM rel r JOIN pg_catalog.pg_attribute t ON t.attrelid = r.oid
    CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a
   WHERE a.grantee = 0
  UNION ALL
  SELECT n.nspname, a.privilege_type
    FROM pg_catalog.pg_namespace n
    CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
   WHERE n.nspname = 'angles' AND a.grantee = 0
$$, 'no relation, column or schema is open to PUBLIC');

SELECT is_empty($$
  SELECT type, identity FROM member m
   WHERE pg_catalog.obj_description(objid,
           (SELECT relname FROM pg_catalog.pg_class WHERE oid = m.classid)) IS NULL
     -- the row type of a table, and the array of a type, are described with what they belong to
     AND NOT (classid = 'pg_catalog.pg_type'::pg_catalog.regclass
              AND EXISTS (SELECT FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
                           WHERE t.oid = m.objid AND (t.typelem <> 0 OR c.relkind <> 'c')))
     -- and so is the sequence of a column
     AND NOT (classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              AND EXISTS (SELECT FROM pg_catalog.pg_depend d
                           WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype IN ('a', 'i')
                             AND d.refclassid = m.classid AND d.refobjsubid > 0))
$$, 'every object has a comment');

-- Who calls such a function works with the rights of its owner: triggers in C are no exception here.
SELECT is_empty($$
  SELECT identity FROM func
   WHERE prosecdef AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
$$, 'functions with the rights of their owner have their search_path pinned');

SELECT is_empty($$
  SELECT identity FROM func WHERE lanname = 'c' AND probin <> '$libdir/angles'
$$, 'every function in C comes from the library of this extension');

SELECT set_eq($$
  SELECT rolname::text, rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname ~ '^angles_'
$$, $$ VALUES ('angles_admin', false, false), ('angles_operator', false, false), ('angles_viewer', false, false),
  ('angles_webhook', false, false),
         ('angles_backup', current_setting('server_version_num')::int < 170000, false) $$,
  'the roles: none is superuser, and none can log in but the one that a worker must be able to connect as');

SELECT is_empty($$
  SELECT identity, proparallel FROM func WHERE provolatile = 'v' AND proparallel = 's'
$$, 'no function that writes or asks the outside is marked safe for parallel plans');

SELECT * FROM finish();
