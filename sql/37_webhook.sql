/*
 * 37_webhook.sql
 *		What Notion posts to an HTTP front end of the user's choice: PostgreSQL itself listens to
 *		nobody. The front end hands each request on to angles.notion_webhook(). An event makes the
 *		sync worker ask that data source at once; what has changed is what Notion answers then.
 *
 * Notion shows the token by which it signs only once, in its first request, the handshake, which
 * nothing proves to be Notion's. So a token is taken only while a person of angles_admin expects one,
 * for some minutes, and one only; a stranger who is quicker has planted a token by which no event of
 * Notion is found right, and which Notion refuses when it is pasted there. It stands in a file that
 * the server's user alone can read; the table below has the file's name. No function returns it: who
 * finishes the handshake in Notion reads the file, with rights that are not those of angles.
 */

CREATE TABLE angles.webhook (
	one				boolean PRIMARY KEY DEFAULT true CHECK (one),
	secret			text NOT NULL DEFAULT 'notion_webhook_token',
	expected_until	timestamptz,
	replaces		boolean NOT NULL DEFAULT false,
	token_at		timestamptz,
	refused			bigint NOT NULL DEFAULT 0,
	refused_at		timestamptz
);
COMMENT ON TABLE angles.webhook IS 'how requests of Notion''s webhooks are checked';
COMMENT ON COLUMN angles.webhook.secret IS 'file in angles.secrets_dir that has the token by which Notion signs';
COMMENT ON COLUMN angles.webhook.expected_until IS 'until then a token may come by a handshake';
COMMENT ON COLUMN angles.webhook.replaces IS '... and takes the place of one that is there';
COMMENT ON COLUMN angles.webhook.token_at IS 'when a token came by a handshake';
COMMENT ON COLUMN angles.webhook.refused IS 'requests refused, as far as the audit trail tells';
INSERT INTO angles.webhook DEFAULT VALUES;

/* Notion delivers an event up to eight times in 24 hours. */
CREATE TABLE angles.webhook_events (
	id				text PRIMARY KEY,
	n				bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
	received_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	sent_at			timestamptz,
	type			text NOT NULL,
	entity_type		text,
	entity_id		uuid,
	links			integer[] NOT NULL,
	deliveries		integer NOT NULL DEFAULT 1,
	attempt			integer NOT NULL
);
COMMENT ON TABLE angles.webhook_events IS 'what Notion told of by webhooks: ids only; kept 7 days, at most 100,000';
COMMENT ON COLUMN angles.webhook_events.links IS 'the links it is about; none: not about a linked table, or about nothing that is synced';
COMMENT ON COLUMN angles.webhook_events.deliveries IS 'how often it came; only the first time counts';
COMMENT ON COLUMN angles.webhook_events.attempt IS 'the highest number that Notion gave to one of them';

REVOKE ALL ON angles.webhook, angles.webhook_events FROM PUBLIC;

/* ---- in C ---- */

CREATE FUNCTION angles.webhook_read(body bytea, signature text, secret text,
	OUT verdict text, OUT id text, OUT type text, OUT entity_type text, OUT entity_id uuid, OUT data_source_id uuid,
	OUT database_id uuid, OUT sent_at timestamptz, OUT attempt integer, OUT bot text)
	LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_webhook_read';
COMMENT ON FUNCTION angles.webhook_read(bytea, text, text) IS 'internal: event, handshake, known (a handshake with the token that is there), or why a request is refused';

CREATE FUNCTION angles.webhook_keep(body bytea, secret text, replace boolean) RETURNS boolean
	LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_webhook_keep';
COMMENT ON FUNCTION angles.webhook_keep(bytea, text, boolean) IS 'internal: keeps the token of a handshake in a file; false when there is one already';

CREATE FUNCTION angles.webhook_knows(secret text, replace boolean) RETURNS boolean
	LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_webhook_knows';
COMMENT ON FUNCTION angles.webhook_knows(text, boolean) IS 'internal: whether there is a token; an error when none could be kept';

CREATE FUNCTION angles.webhook_refused(refused boolean) RETURNS bigint
	LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'angles_webhook_refused';
COMMENT ON FUNCTION angles.webhook_refused(boolean) IS 'internal: counts a refused request; how many are to be told of now, once a minute';

/* ---- the handshake ---- */

/*
 * Names begin with notion_webhook, so that who may call this, but is no superuser, can overwrite no
 * other secret.
 */
CREATE FUNCTION angles.notion_webhook_expect(period interval DEFAULT '10 minutes', secret text DEFAULT NULL,
	replace boolean DEFAULT false) RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	wanted text := COALESCE(notion_webhook_expect.secret, (SELECT w.secret FROM angles.webhook w));
	again boolean := COALESCE(notion_webhook_expect.replace, false);
	known boolean;
	until timestamptz;
BEGIN
	IF period IS NULL OR period <= interval '0' OR period > interval '1 day' THEN
		RAISE EXCEPTION 'argument "period" cannot be %', COALESCE(period::text, 'null')
			USING ERRCODE = 'invalid_parameter_value', HINT = 'It may be up to a day; some minutes are enough.';
	END IF;
	IF wanted !~ '^notion_webhook[A-Za-z0-9_-]{0,40}$' THEN
		RAISE EXCEPTION 'argument "secret" cannot be "%"', wanted
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'It is the name of a file: notion_webhook, and then letters, digits, _ or -.';
	END IF;
	known := angles.webhook_knows(wanted, again);
	IF NOT known OR again THEN
		until := clock_timestamp() + period;
	END IF;
	UPDATE angles.webhook w SET secret = wanted, expected_until = until, replaces = again;
	PERFORM angles.audit('webhook_expect', wanted, jsonb_build_object('until', until, 'replace', again));
	IF until IS NULL THEN
		RETURN format('A token is there already, in file %s of angles.secrets_dir: events are checked by it. '
			'A new subscription has a new token: replace => true takes that.', wanted);
	END IF;
	RETURN format('Until %s the first token that Notion posts is kept in file %s of angles.secrets_dir. In Notion, '
		'make the webhook subscription of your connection (or let it send the token again); then read the file '
		'on the server and paste the token into Notion.', date_trunc('second', until), wanted);
END
$$;
COMMENT ON FUNCTION angles.notion_webhook_expect IS 'lets Notion''s webhooks hand over their token for some minutes; says how to go on';

/* One that a session is just about to expect is not expected yet: nobody waits here. */
CREATE FUNCTION angles.webhook_handshake(body bytea) RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	w angles.webhook;
BEGIN
	SELECT * INTO w FROM angles.webhook FOR UPDATE SKIP LOCKED;
	IF w.expected_until IS NULL OR w.expected_until < clock_timestamp()
		OR NOT angles.webhook_keep(body, w.secret, w.replaces) THEN
		RETURN 'unexpected handshake';
	END IF;
	UPDATE angles.webhook SET expected_until = NULL, replaces = false, token_at = clock_timestamp();
	PERFORM angles.audit('webhook_token', w.secret, jsonb_build_object('replaced', w.replaces));
	RETURN 'kept';
END
$$;
COMMENT ON FUNCTION angles.webhook_handshake(bytea) IS 'internal: keeps the token of a handshake, if one is expected';

/* ---- events ---- */

/* Now and then, by who brings an event; cheap however much there is. */
CREATE FUNCTION angles.webhook_prune(newest bigint) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	DELETE FROM angles.webhook_events WHERE id IN (
		SELECT e.id FROM angles.webhook_events e
		WHERE e.n <= (SELECT max(o.n) FROM (SELECT n FROM angles.webhook_events ORDER BY n LIMIT 2500) o)
			AND (e.n <= newest - 100000 OR e.received_at < clock_timestamp() - interval '7 days')
		FOR UPDATE SKIP LOCKED)
$$;
COMMENT ON FUNCTION angles.webhook_prune(bigint) IS 'internal: removes events that nobody delivers again';

/*
 * A page that was moved may have left one linked data source for another: both are asked. The letters
 * are those of src/sync/changelog.h.
 */
CREATE FUNCTION angles.webhook_note(e record) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	kind text := CASE WHEN e.type = 'page.deleted' THEN 'g'
		WHEN e.type IN ('page.undeleted', 'page.moved') THEN 'p'
		WHEN e.type IN ('page.locked', 'page.unlocked') THEN NULL
		WHEN e.type LIKE 'page.%' THEN 'e'
		WHEN e.type LIKE 'data_source.%' OR e.type LIKE 'database.%' THEN 's' END;
	targets integer[] := '{}';
	number bigint;
BEGIN
	IF kind IS NOT NULL THEN
		targets := ARRAY(SELECT l.id FROM angles.links l
			WHERE l.state <> 'unlinked' AND l.identity = angles.identity_now()
				AND (l.data_source_id = e.data_source_id OR l.database_id = e.database_id
					OR l.id = (SELECT p.link_id FROM angles.pages p WHERE p.page_id = e.entity_id)) ORDER BY 1);
	END IF;
	INSERT INTO angles.webhook_events AS w (id, sent_at, type, entity_type, entity_id, links, attempt)
	VALUES (e.id, e.sent_at, e.type, e.entity_type, e.entity_id, targets, e.attempt)
	ON CONFLICT (id) DO NOTHING RETURNING w.n INTO number;
	IF number IS NULL THEN
		-- one that somebody sends again for ever is not written for ever
		UPDATE angles.webhook_events w SET deliveries = w.deliveries + 1, attempt = GREATEST(w.attempt, e.attempt)
		WHERE w.id = e.id AND w.deliveries < 100;
		RETURN;
	END IF;
	INSERT INTO angles.change_log_0 (id, ord, link_id, op, key, new_key, at)
	SELECT nextval('angles.change_log_seq'), 0, t, 'H', kind || ':' || COALESCE(e.entity_id::text, ''), e.bot, clock_timestamp()
	FROM unnest(targets) t;
	IF FOUND THEN
		PERFORM angles.wake();
	END IF;
	IF number % 1000 = 0 THEN
		PERFORM angles.webhook_prune(number);
	END IF;
END
$$;
COMMENT ON FUNCTION angles.webhook_note IS 'internal: takes an event in, and lets the sync worker ask what has changed';

/*
 * Returns the status and raises no error, because an error would undo what is written about a request
 * that is refused, and would write each one, with its body, into the server's log.
 */
CREATE FUNCTION angles.notion_webhook(body bytea, signature text) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	got record;
	verdict text;
	to_tell bigint;
BEGIN
	SELECT r.* INTO got FROM angles.webhook w,
		LATERAL angles.webhook_read(notion_webhook.body, notion_webhook.signature, w.secret) r;
	verdict := got.verdict;
	IF verdict = 'event' THEN
		PERFORM angles.webhook_note(got);
	ELSIF verdict = 'handshake' THEN
		verdict := angles.webhook_handshake(notion_webhook.body);
	END IF;
	to_tell := angles.webhook_refused(verdict NOT IN ('event', 'kept', 'known'));
	IF to_tell > 0 THEN
		PERFORM angles.audit('webhook_refused', 'notion', jsonb_build_object('requests', to_tell, 'last', verdict));
		UPDATE angles.webhook w SET refused = w.refused + to_tell, refused_at = clock_timestamp()
		WHERE w.one IN (SELECT o.one FROM angles.webhook o FOR UPDATE SKIP LOCKED);
	END IF;
	RETURN CASE WHEN verdict IN ('event', 'kept', 'known') THEN 200
		WHEN verdict IN ('empty', 'unreadable') THEN 400 WHEN verdict = 'too large' THEN 413 ELSE 401 END;
END
$$;
COMMENT ON FUNCTION angles.notion_webhook(bytea, text) IS 'takes a request of Notion''s webhooks: the body as it came, and its X-Notion-Signature; returns the HTTP status to answer with';

CREATE VIEW angles.webhook_status AS
	SELECT 'webhook' AS item,
		CASE WHEN w.expected_until > now() OR s.troubled THEN 'warning' ELSE 'ok' END AS state,
		concat_ws('; ', CASE WHEN w.expected_until > now()
				THEN 'a token is expected until ' || date_trunc('second', w.expected_until) END,
			COALESCE('last event at ' || date_trunc('second', e.received_at), 'no event yet'),
			CASE WHEN w.refused > 0 THEN format('%s requests refused, last at %s', w.refused,
				date_trunc('second', w.refused_at)) END) AS detail,
		CASE WHEN w.expected_until > now() THEN 'Make the webhook subscription in Notion, or let it send the token again.'
			WHEN s.troubled THEN 'Is the token in angles.secrets_dir that of the subscription? Does the front end hand '
				'the body on as it came? SELECT angles.notion_webhook_expect(replace => true) takes a new token.' END AS hint
	FROM angles.webhook w
		LEFT JOIN (SELECT received_at FROM angles.webhook_events ORDER BY n DESC LIMIT 1) e ON true,
		LATERAL (SELECT COALESCE(w.refused_at > GREATEST(e.received_at, now() - interval '1 hour'), false) AS troubled) s
	WHERE w.expected_until > now() OR w.token_at IS NOT NULL OR w.refused > 0 OR e.received_at IS NOT NULL;
COMMENT ON VIEW angles.webhook_status IS 'internal: the line of angles.status about webhooks';
