/*
 * 00_roles.sql
 *		The roles of angles: three for people, one for the front end that takes webhooks, and the one as
 *		whom backups read tables. Roles belong to the whole cluster, not to an extension: they are
 *		made when missing and stay when the extension goes.
 */
DO $roles$
DECLARE
	wanted record;
BEGIN
	FOR wanted IN
		SELECT * FROM (VALUES
			('angles_admin', 'links tables, changes settings of links, adopts a clone'),
			('angles_operator', 'starts, pauses and retries runs'),
			('angles_viewer', 'reads the views of angles'),
			('angles_webhook', 'hands on what Notion posts, and may do nothing else')) AS v (name, purpose)
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r
					   WHERE r.rolname OPERATOR(pg_catalog.=) wanted.name) THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted.name);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, 'angles: ' OPERATOR(pg_catalog.||) wanted.purpose);
		END IF;
	END LOOP;
	GRANT angles_viewer TO angles_operator;
	GRANT angles_operator TO angles_admin;
	/* Before 17 a worker connects only as a role that may log in; without a password nobody else can. */
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) 'angles_backup') THEN
		IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 170000 THEN
			CREATE ROLE angles_backup LOGIN PASSWORD NULL BYPASSRLS;
		ELSE
			CREATE ROLE angles_backup NOLOGIN BYPASSRLS;
		END IF;
		GRANT pg_read_all_data TO angles_backup;
		COMMENT ON ROLE angles_backup IS 'angles: reads tables for backups';
	END IF;
END
$roles$;

GRANT USAGE ON SCHEMA angles TO angles_viewer, angles_webhook;
COMMENT ON SCHEMA angles IS 'angles: two-way sync with Notion, backup to Git, health';
