/*
 * 00_roles.sql
 *		The roles of angles. Roles belong to the whole cluster, not to an extension: they are
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
END
$roles$;

GRANT USAGE ON SCHEMA angles TO angles_viewer, angles_webhook;
COMMENT ON SCHEMA angles IS 'angles: two-way sync with Notion, backup to Git, health';
