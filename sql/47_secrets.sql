/*
 * 47_secrets.sql
 *		Secrets in tables: what becomes of columns in backups, what may be written although it looks
 *		like a secret, and looking for secrets without a backup.
 */

/* Fingerprints say nothing about a secret to who lacks this. Made anew in each database, never dumped. */
CREATE TABLE angles.scan_salt (
	salt			bytea NOT NULL
);
COMMENT ON TABLE angles.scan_salt IS 'what fingerprints of secrets are made with; one row';
INSERT INTO angles.scan_salt
	SELECT pg_catalog.sha256(pg_catalog.string_agg(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), ''::pg_catalog.bytea))
	FROM pg_catalog.generate_series(1, 4);

CREATE TABLE angles.column_policies (
	relid			regclass NOT NULL,
	column_name		name NOT NULL,
	policy			text NOT NULL CHECK (policy IN ('plain', 'seal', 'hash', 'omit')),
	set_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	set_by			name NOT NULL DEFAULT session_user,
	PRIMARY KEY (relid, column_name)
);
COMMENT ON TABLE angles.column_policies IS 'what becomes of columns in backups; angles.backup_policies shows it';
SELECT pg_catalog.pg_extension_config_dump('angles.column_policies', '');

/* With the salt of their time, so that they are still right in another database. */
CREATE TABLE angles.secret_allowances (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	relid			regclass NOT NULL,
	column_name		name,
	fingerprint		text,
	salt			bytea NOT NULL,
	reason			text NOT NULL,
	allowed_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	allowed_by		name NOT NULL DEFAULT session_user
);
COMMENT ON TABLE angles.secret_allowances IS 'what backups may write although it looks like a secret; angles.allowed_secrets shows it';
COMMENT ON COLUMN angles.secret_allowances.column_name IS 'null: anywhere in the table';
COMMENT ON COLUMN angles.secret_allowances.fingerprint IS 'null: everything';
SELECT pg_catalog.pg_extension_config_dump('angles.secret_allowances', '');
SELECT pg_catalog.pg_extension_config_dump('angles.secret_allowances_id_seq', '');

CREATE VIEW angles.backup_policies AS
	SELECT p.relid AS "table", p.column_name AS "column", p.policy, p.set_at, p.set_by
	FROM angles.column_policies p
	ORDER BY p.relid::text, p.column_name;
COMMENT ON VIEW angles.backup_policies IS 'what becomes of columns in backups: plain (written; secrets in it are sealed), seal, hash, omit';

CREATE VIEW angles.allowed_secrets AS
	SELECT a.id, a.relid AS "table", a.column_name AS "column", a.fingerprint, a.reason, a.allowed_at, a.allowed_by
	FROM angles.secret_allowances a
	ORDER BY a.id;
COMMENT ON VIEW angles.allowed_secrets IS 'what backups may write although it looks like a secret, and why';

CREATE FUNCTION angles.backup_refusal(relid oid) RETURNS text
	LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_backup_refusal';
COMMENT ON FUNCTION angles.backup_refusal(oid) IS 'internal: why the policies of a table cannot be kept, or null';

/* with its owner's rights: it changes angles.column_policies */
CREATE FUNCTION angles.backup_policy("table" regclass, "column" name, policy text) RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	type_name text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
		WHERE a.attrelid = backup_policy."table" AND a.attname = backup_policy."column" AND a.attnum > 0 AND NOT a.attisdropped);
	refusal text;
BEGIN
	IF backup_policy."table" IS NULL OR type_name IS NULL
		OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = backup_policy."table" AND c.relkind IN ('r', 'p')) THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('there is no column %I in table %s',
			COALESCE(backup_policy."column", ''), COALESCE(backup_policy."table"::text, '')),
			HINT = 'Name a table and one of its columns.';
	END IF;
	IF backup_policy.policy IS NULL THEN
		DELETE FROM angles.column_policies p WHERE p.relid = backup_policy."table" AND p.column_name = backup_policy."column";
	ELSE
		IF backup_policy.policy NOT IN ('plain', 'seal', 'hash', 'omit') THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('there is no policy "%s"', backup_policy.policy),
				HINT = 'Give plain, seal, hash or omit; null takes a policy away.';
		END IF;
		IF backup_policy.policy = 'hash' AND type_name NOT IN ('text', 'character varying', 'character', 'json', 'jsonb', 'citext') THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a column of type %s cannot be hashed', type_name),
				DETAIL = 'A hash is text.', HINT = 'Give seal or omit.';
		END IF;
		INSERT INTO angles.column_policies (relid, column_name, policy)
			VALUES (backup_policy."table", backup_policy."column", backup_policy.policy)
			ON CONFLICT (relid, column_name) DO UPDATE SET policy = EXCLUDED.policy, set_at = clock_timestamp(), set_by = session_user;
		refusal := angles.backup_refusal(backup_policy."table");
		IF backup_policy.policy <> 'plain' AND refusal LIKE '%is not to be written%' THEN
			RAISE EXCEPTION USING ERRCODE = 'NG403', MESSAGE = format('%s could not be backed up', backup_policy."table"),
				DETAIL = format('The %s.', refusal), HINT = 'Leave the policy of this column as it was.';
		END IF;
	END IF;
	PERFORM angles.audit('backup_policy', backup_policy."table"::text,
		jsonb_build_object('column', backup_policy."column", 'policy', backup_policy.policy));
	RETURN backup_policy.policy;
END
$body$;
COMMENT ON FUNCTION angles.backup_policy(regclass, name, text) IS 'says what becomes of a column in backups: plain, seal, hash, omit; null takes the policy away';

/* with its owner's rights: it changes angles.secret_allowances */
CREATE FUNCTION angles.allow_secret("table" regclass, "column" name, fingerprint text, reason text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	allowance bigint;
BEGIN
	IF allow_secret."table" IS NULL OR (allow_secret."column" IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a
			WHERE a.attrelid = allow_secret."table" AND a.attname = allow_secret."column" AND a.attnum > 0 AND NOT a.attisdropped)) THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('there is no column %I in table %s',
			COALESCE(allow_secret."column", ''), COALESCE(allow_secret."table"::text, '')),
			HINT = 'Name a table and one of its columns.';
	END IF;
	IF allow_secret."column" IS NULL AND allow_secret.fingerprint IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'neither a column nor a fingerprint is given',
			HINT = 'SELECT * FROM angles.scan_secrets() shows both.';
	END IF;
	IF allow_secret.fingerprint !~ '^[0-9a-f]{16}$' OR COALESCE(btrim(allow_secret.reason), '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no fingerprint, or the reason is missing',
			HINT = 'A fingerprint has 16 hexadecimal digits; SELECT * FROM angles.scan_secrets() shows them.';
	END IF;
	INSERT INTO angles.secret_allowances (relid, column_name, fingerprint, salt, reason)
		SELECT allow_secret."table", allow_secret."column", allow_secret.fingerprint, s.salt, allow_secret.reason FROM angles.scan_salt s
		RETURNING id INTO allowance;
	PERFORM angles.audit('allow_secret', allow_secret."table"::text,
		jsonb_build_object('column', allow_secret."column", 'fingerprint', allow_secret.fingerprint, 'reason', allow_secret.reason));
	RETURN allowance;
END
$body$;
COMMENT ON FUNCTION angles.allow_secret(regclass, name, text, text) IS 'lets backups write what looks like a secret: one fingerprint, or (null) all of a column; says who has decided that, and why';

/* with its owner's rights: it changes angles.secret_allowances */
CREATE FUNCTION angles.disallow_secret(id bigint) RETURNS boolean
	LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	was text;
BEGIN
	DELETE FROM angles.secret_allowances a WHERE a.id = disallow_secret.id RETURNING a.relid::text INTO was;
	IF was IS NOT NULL THEN
		PERFORM angles.audit('disallow_secret', was, jsonb_build_object('id', disallow_secret.id));
	END IF;
	RETURN was IS NOT NULL;
END
$body$;
COMMENT ON FUNCTION angles.disallow_secret(bigint) IS 'takes back what angles.allow_secret() allowed; its number is in angles.allowed_secrets';

CREATE FUNCTION angles.find_secrets(tables oid[])
	RETURNS TABLE ("table" regclass, "column" name, place text, key text, kind text, fingerprint text, count bigint)
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_find_secrets';
COMMENT ON FUNCTION angles.find_secrets(oid[]) IS 'internal: angles.scan_secrets() without an order';

CREATE FUNCTION angles.scan_secrets(tables regclass[] DEFAULT NULL)
	RETURNS TABLE ("table" regclass, "column" name, place text, key text, kind text, fingerprint text, count bigint)
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $body$
	SELECT f."table", f."column", f.place, f.key, f.kind, f.fingerprint, f.count
	FROM angles.find_secrets(scan_secrets.tables::oid[]) f
	ORDER BY f."table"::text, f.place = 'rows', f."column", f.kind, f.fingerprint
$body$;
COMMENT ON FUNCTION angles.scan_secrets(regclass[]) IS 'looks for secrets in tables (all that you may read) and says where they are: the key of the first row, what kind, how often; never what they are';
