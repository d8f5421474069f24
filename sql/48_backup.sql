/*
 * 48_backup.sql
 *		Backups: what people call, and what is kept about them. The backups themselves are in the
 *		repository; a row here only says what is there.
 */

CREATE TABLE angles.backup_log (
	id				bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	run_id			bigint NOT NULL,
	commit			text NOT NULL,
	ref				text NOT NULL,
	at				timestamptz NOT NULL,
	equal			boolean NOT NULL,
	whole			boolean NOT NULL,
	tables			bigint NOT NULL,
	rows			bigint NOT NULL,
	bytes			bigint NOT NULL,
	chunks			bigint NOT NULL,
	chunks_written	bigint,
	chunks_reused	bigint,
	pack_bytes		bigint,
	seconds			double precision,
	message			text,
	signed_by		text,
	verified_at		timestamptz
);
CREATE INDEX backup_log_commit ON angles.backup_log (commit);
COMMENT ON TABLE angles.backup_log IS 'each run of a backup that went well; rows are only added';
COMMENT ON COLUMN angles.backup_log.at IS 'when the rows were read';
COMMENT ON COLUMN angles.backup_log.equal IS 'nothing had changed since that commit, and no new one was made';
COMMENT ON COLUMN angles.backup_log.chunks_written IS 'null like the next ones where the run died before it could say';
COMMENT ON COLUMN angles.backup_log.verified_at IS 'when it was read back from the repository and found to be what was written';

CREATE TABLE angles.backup_keys (
	fingerprint		text PRIMARY KEY,
	public_key		text NOT NULL,
	seen_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	saved_at		timestamptz,
	saved_by		name
);
COMMENT ON TABLE angles.backup_keys IS 'public halves of the keys that have signed backups, and who has confirmed that the private one is kept elsewhere too';

CREATE FUNCTION angles.note_backup(run_id bigint, commit text, ref text, manifest jsonb, equal boolean,
	chunks_written bigint, chunks_reused bigint, pack_bytes bigint, seconds double precision, message text, public_key text)
	RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	INSERT INTO angles.backup_log (run_id, commit, ref, at, equal, whole, tables, rows, bytes, chunks,
			chunks_written, chunks_reused, pack_bytes, seconds, message, signed_by, verified_at)
		VALUES (note_backup.run_id, note_backup.commit, note_backup.ref,
			CASE WHEN note_backup.equal THEN clock_timestamp() ELSE (manifest->>'time')::timestamptz END,
			note_backup.equal, (manifest->>'whole')::boolean,
			(SELECT count(*) FROM jsonb_array_elements(manifest->'tables') t WHERE t->>'folder' LIKE 'data/%'),
			(manifest->>'rows')::bigint, (manifest->>'bytes')::bigint, (manifest->>'chunks')::bigint,
			note_backup.chunks_written, note_backup.chunks_reused, note_backup.pack_bytes, note_backup.seconds,
			note_backup.message, manifest->>'signed_by', CASE WHEN NOT note_backup.equal THEN clock_timestamp() END);
	INSERT INTO angles.backup_keys (fingerprint, public_key)
		SELECT manifest->>'signed_by', note_backup.public_key
		WHERE note_backup.public_key IS NOT NULL AND manifest->>'signed_by' IS NOT NULL
		ON CONFLICT DO NOTHING;
	PERFORM angles.audit('backup', note_backup.commit, jsonb_build_object('run', note_backup.run_id, 'equal', note_backup.equal));
END
$body$;
COMMENT ON FUNCTION angles.note_backup(bigint, text, text, jsonb, boolean, bigint, bigint, bigint, double precision, text, text)
	IS 'internal: notes a run of a backup';

CREATE VIEW angles.backups AS
	SELECT b.at AS time, b.commit, b.tables, b.rows, b.bytes, b.chunks, b.whole, b.message, b.signed_by,
		b.verified_at AS verified, e.runs AS equal_runs, e.last AS last_equal_run, b.ref
	FROM (SELECT DISTINCT ON (l.commit) l.* FROM angles.backup_log l ORDER BY l.commit, l.equal, l.id) b,
		LATERAL (SELECT count(*) AS runs, max(q.at) AS last FROM angles.backup_log q WHERE q.commit = b.commit AND q.equal) e
	ORDER BY b.id;
COMMENT ON VIEW angles.backups IS 'the backups in the repository, the oldest first; equal_runs: how often nothing had changed since';

CREATE FUNCTION angles.backup(tables regclass[] DEFAULT NULL, message text DEFAULT NULL, wait boolean DEFAULT true)
	RETURNS TABLE (commit text, rows bigint, bytes bigint, chunks_written bigint, chunks_reused bigint, seconds numeric, remark text)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	args jsonb := jsonb_strip_nulls(jsonb_build_object('message', backup.message,
		'tables', (SELECT jsonb_agg(t::oid::bigint) FROM unnest(backup.tables) t)));
BEGIN
	IF cardinality(array_remove(backup.tables, NULL)) IS DISTINCT FROM cardinality(backup.tables) OR cardinality(backup.tables) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the list of tables is empty or has a null in it',
			HINT = 'SELECT * FROM angles.backup() takes all tables.';
	END IF;
	IF NOT COALESCE(backup.wait, true) THEN
		RETURN QUERY SELECT NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::numeric,
			format('run %s is queued; see angles.runs', angles.enqueue_run('backup', args));
		RETURN;
	END IF;
	RETURN QUERY SELECT r->>'commit', (r->>'rows')::bigint, (r->>'bytes')::bigint, (r->>'written')::bigint,
			(r->>'reused')::bigint, (r->>'seconds')::numeric,
			CASE WHEN r ? 'run_id' THEN format('run %s is still running; see angles.runs', r->>'run_id')
				ELSE NULLIF(r->>'remark', '') END
		FROM angles.request_rows('backup', args) r;
END
$body$;
COMMENT ON FUNCTION angles.backup(regclass[], text, boolean) IS 'writes all tables (or some) into the repository as they are at one moment; no commit when nothing has changed';

CREATE FUNCTION angles.verify_backup(commit text)
	RETURNS TABLE (files bigint, bytes bigint, signed_by text)
	LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS $body$
	SELECT (r->>'files')::bigint, (r->>'bytes')::bigint, r->>'signed_by'
	FROM angles.request_rows('verify_backup', jsonb_build_object('commit', verify_backup.commit)) r
$body$;
COMMENT ON FUNCTION angles.verify_backup(text) IS 'reads a backup from the repository and compares it with its sums and its signature; an error names the first file that differs';

CREATE FUNCTION angles.make_backup_key(path text, OUT public_key text, OUT fingerprint text) RETURNS record
	LANGUAGE c STRICT VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_create_backup_key';
COMMENT ON FUNCTION angles.make_backup_key(text) IS 'internal: writes a new key into a file; angles.create_backup_key() calls it';

/* with its owner's rights for the audit trail; who may write files is looked at with the caller's, below */
CREATE FUNCTION angles.note_backup_key(fingerprint text, public_key text, path text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
	SELECT angles.audit('create_backup_key', note_backup_key.fingerprint,
		jsonb_build_object('path', note_backup_key.path, 'public_key', note_backup_key.public_key))
$body$;
COMMENT ON FUNCTION angles.note_backup_key(text, text, text) IS 'internal: notes that a key was made';

CREATE FUNCTION angles.create_backup_key(path text, OUT public_key text, OUT fingerprint text, OUT next_steps text) RETURNS record
	LANGUAGE plpgsql STRICT VOLATILE SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	SELECT k.public_key, k.fingerprint INTO public_key, fingerprint FROM angles.make_backup_key(path) k;
	PERFORM angles.note_backup_key(fingerprint, public_key, path);
	next_steps := format('ALTER SYSTEM SET angles.backup_key_file = %L; ALTER SYSTEM SET angles.backup_public_key = %L; SELECT pg_reload_conf(); '
		'keep a copy of the file away from this server, then SELECT angles.key_saved()', path, public_key);
END
$body$;
COMMENT ON FUNCTION angles.create_backup_key(text) IS 'makes a key that signs backups and one that seals secrets, in a new file that only the server''s user can read; it takes pg_write_server_files';

/* with its owner's rights: it changes angles.backup_keys */
CREATE FUNCTION angles.key_saved(fingerprint text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	wanted text := COALESCE(key_saved.fingerprint,
		(SELECT l.signed_by FROM angles.backup_log l WHERE l.signed_by IS NOT NULL ORDER BY l.id DESC LIMIT 1));
BEGIN
	UPDATE angles.backup_keys k SET saved_at = clock_timestamp(), saved_by = session_user WHERE k.fingerprint = wanted;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'NG404', MESSAGE = 'no backup was signed with this key yet',
			HINT = 'SELECT angles.create_backup_key(path) makes one; then make a backup.';
	END IF;
	PERFORM angles.audit('key_saved', wanted);
	RETURN wanted;
END
$body$;
COMMENT ON FUNCTION angles.key_saved(text) IS 'confirms that a copy of the key that signs backups is kept away from this server';

CREATE FUNCTION angles.replace_sealing_key() RETURNS text
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_sql_rotate_sealing_key';
COMMENT ON FUNCTION angles.replace_sealing_key() IS 'internal: puts a new sealing key into the key file; angles.rotate_sealing_key() calls it';

/* with its owner's rights for angles.backup_keys; who may write files was looked at before, with the caller's */
CREATE FUNCTION angles.note_sealing_key(key_id text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $body$
	UPDATE angles.backup_keys SET saved_at = NULL, saved_by = NULL;
	SELECT angles.audit('rotate_sealing_key', note_sealing_key.key_id)
$body$;
COMMENT ON FUNCTION angles.note_sealing_key(text) IS 'internal: notes that the key file has changed, so that copies of it are old';

CREATE FUNCTION angles.rotate_sealing_key() RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $body$
DECLARE
	key_id text := angles.replace_sealing_key();
BEGIN
	PERFORM angles.note_sealing_key(key_id);
	RETURN key_id;
END
$body$;
COMMENT ON FUNCTION angles.rotate_sealing_key() IS 'makes a new key for sealing values, and keeps the old ones in the file to open what they sealed; keep a copy of the file again, then SELECT angles.key_saved()';

REVOKE ALL ON angles.backup_log, angles.backup_keys, angles.backups FROM PUBLIC;
REVOKE ALL ON SEQUENCE angles.backup_log_id_seq FROM PUBLIC;
