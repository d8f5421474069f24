-- secrets.sql
--   Who may look for secrets and decide about them, and that nothing readable tells one.
SELECT plan(9);

SELECT has_function('angles', 'scan_secrets', ARRAY['regclass[]'], 'angles.scan_secrets(regclass[]) is there');
SELECT has_function('angles', 'backup_policy', ARRAY['regclass', 'name', 'text'], 'angles.backup_policy(regclass, name, text) is there');
SELECT has_function('angles', 'allow_secret', ARRAY['regclass', 'name', 'text', 'text'], 'angles.allow_secret(regclass, name, text, text) is there');

SELECT is_empty($$
  SELECT r.role, f.call FROM (VALUES ('angles_viewer', 1), ('angles_operator', 2), ('angles_admin', 3)) AS r (role, rank),
    (VALUES ('angles.scan_secrets(regclass[])', 2), ('angles.find_secrets(oid[])', 2), ('angles.backup_policy(regclass, name, text)', 3),
      ('angles.allow_secret(regclass, name, text, text)', 3), ('angles.disallow_secret(bigint)', 3), ('angles.rotate_sealing_key()', 3)) AS f (call, rank)
   WHERE has_function_privilege(r.role, f.call, 'EXECUTE') <> (r.rank >= f.rank)
$$, 'operators scan, administrators decide');
SELECT is_empty($$
  SELECT r.role, t.name FROM unnest('{angles_viewer,angles_operator,angles_admin}'::text[]) AS r (role),
    unnest('{angles.scan_salt,angles.secret_allowances,angles.column_policies}'::text[]) AS t (name)
   WHERE has_table_privilege(r.role, t.name, 'SELECT, INSERT, UPDATE, DELETE')
$$, 'the tables behind are for nobody: the salt of fingerprints is in them');
SELECT columns_are('angles', 'allowed_secrets', ARRAY['id', 'table', 'column', 'fingerprint', 'reason', 'allowed_at', 'allowed_by'],
  'the view of what is allowed has no salt');

CREATE TABLE public.pgtap_secrets (id int PRIMARY KEY, v text);
INSERT INTO public.pgtap_secrets VALUES (1, 'a ' || 'gh' || 'p_' || 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8');
SELECT results_eq($$ SELECT "column", place, key, kind, count FROM angles.scan_secrets('{public.pgtap_secrets}') $$,
  $$ VALUES ('v'::name, 'rows', '1', 'github-token', 1::bigint) $$, 'a token is found, and where');
SELECT throws_ok($$ SELECT angles.backup_policy('public.pgtap_secrets', 'id', 'seal') $$, 'NG403', NULL, 'the key of a table is written as it is, or not at all');
SELECT is(angles.backup_policy('public.pgtap_secrets', 'v', 'hash'), 'hash', 'other columns may have a policy');
DROP TABLE public.pgtap_secrets;

SELECT * FROM finish();
