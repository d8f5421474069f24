/*
 * 36_refusals.sql
 *		What the table did not take, told in Notion: on a property of the page, and in a comment.
 */

CREATE TABLE angles.refusal_settings (
	link_id			integer PRIMARY KEY REFERENCES angles.links (id) ON DELETE CASCADE,
	property		text,
	comments		boolean NOT NULL,
	property_id		text,
	property_type	text,
	property_problem text,
	comments_problem text
);
COMMENT ON TABLE angles.refusal_settings IS 'which links tell in Notion what their table did not take, and where';
COMMENT ON COLUMN angles.refusal_settings.property_problem IS 'why the property cannot be written: it is not tried again until angles.report_refusals() is called';
COMMENT ON COLUMN angles.refusal_settings.comments_problem IS 'the same of comments';
SELECT pg_catalog.pg_extension_config_dump('angles.refusal_settings', '');

CREATE TABLE angles.refusals_told (
	link_id			integer NOT NULL,
	page_id			uuid NOT NULL,
	wanted			text NOT NULL,
	told			text,
	commented		text[] NOT NULL DEFAULT '{}',
	attempts		integer NOT NULL DEFAULT 0,
	next_at			timestamptz,
	PRIMARY KEY (link_id, page_id)
);
COMMENT ON TABLE angles.refusals_told IS 'pages with a change that was refused once: what they shall say, and do; only the sync worker writes it';
COMMENT ON COLUMN angles.refusals_told.commented IS 'sentences that a comment was sent for: noted before it is sent, so that none is sent twice';
SELECT pg_catalog.pg_extension_config_dump('angles.refusals_told', '');

CREATE TRIGGER refusal_settings_changed AFTER INSERT OR UPDATE OR DELETE ON angles.refusal_settings
	FOR EACH STATEMENT EXECUTE FUNCTION angles.links_changed();
COMMENT ON TRIGGER refusal_settings_changed ON angles.refusal_settings IS 'tells the workers that a link changed';

/*
 * A message of the database may hold values, of other rows too, and one of a trigger anything: only
 * its SQLSTATE and the name of the constraint go out. Without a SQLSTATE it is a sentence of angles,
 * which never holds a value.
 */
CREATE FUNCTION angles.refusal_sentence(code text, message text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT CASE WHEN code IS NULL THEN 'Not taken into the table: ' || left(COALESCE(message, 'it waits for a person'), 500) || '.'
		ELSE format('Not taken into the table: %s (%sSQLSTATE %s).',
			CASE WHEN code = '23502' THEN 'a value is missing that the table needs'
				WHEN code = '23503' THEN 'it refers to a row that is not there'
				WHEN code = '23505' THEN 'another row has this value already'
				WHEN code = '23514' THEN 'a rule of the table forbids this value'
				WHEN code = '23P01' THEN 'it overlaps with another row'
				WHEN code LIKE '22%' THEN 'a value does not fit its column'
				WHEN code = '42501' THEN 'the table''s owner may not write this'
				ELSE 'the table refused it' END,
			CASE WHEN code LIKE '23%' AND message ~ '\(constraint "[^"]{1,63}"\)$'
				THEN substring(message FROM '\((constraint "[^"]{1,63}")\)$') || ', ' ELSE '' END, code) END
$$;
COMMENT ON FUNCTION angles.refusal_sentence(text, text) IS 'internal: why a change was refused, as people in Notion may read it';

CREATE FUNCTION angles.report_refusals("table" regclass, property text DEFAULT 'Sync status', comments boolean DEFAULT false)
	RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	link integer := angles.linked($1);
	wish text := btrim(report_refusals.property);
BEGIN
	IF wish = '' OR length(wish) > 100 OR wish ~ '[[:cntrl:],]' THEN
		RAISE EXCEPTION 'argument "property" cannot be "%"', left(wish, 120)
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give the name of a property of 1 to 100 characters without commas, or null for none.';
	END IF;
	IF EXISTS (SELECT FROM angles.link_columns c WHERE c.link_id = link AND lower(c.property_name) = lower(wish)) THEN
		RAISE EXCEPTION 'property "%" belongs to a column of table %', wish, $1
			USING ERRCODE = 'NG104', HINT = 'Name another one: angles makes it.';
	END IF;
	IF EXISTS (SELECT FROM angles.links l WHERE l.id = link AND l.direction = 'out')
		AND (wish IS NOT NULL OR report_refusals.comments) THEN
		RAISE EXCEPTION 'nothing of Notion goes into table %', $1
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'It is linked with direction ''out'', so nothing is refused.';
	END IF;
	IF wish IS NULL AND NOT COALESCE(report_refusals.comments, false) THEN
		DELETE FROM angles.refusal_settings s WHERE s.link_id = link;
	ELSE
		INSERT INTO angles.refusal_settings AS s (link_id, property, comments)
		VALUES (link, wish, COALESCE(report_refusals.comments, false))
		ON CONFLICT (link_id) DO UPDATE SET property = EXCLUDED.property, comments = EXCLUDED.comments,
			property_id = CASE WHEN s.property = EXCLUDED.property THEN s.property_id END,
			property_problem = NULL, comments_problem = NULL;
	END IF;
	PERFORM angles.wake();
	PERFORM angles.audit('report_refusals', $1::text,
		jsonb_build_object('property', wish, 'comments', COALESCE(report_refusals.comments, false)));
END
$$;
COMMENT ON FUNCTION angles.report_refusals IS 'tells on pages in Notion, on a property and if wanted in a comment, why the table did not take what was typed there; property => null and no comments: not any more';

REVOKE ALL ON angles.refusal_settings, angles.refusals_told FROM PUBLIC;
