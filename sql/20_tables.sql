/*
 * 20_tables.sql
 *		What the room sync keeps. Only workers and the functions of angles write here.
 */

CREATE TABLE angles.links (
	id				integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	relid			regclass NOT NULL UNIQUE,
	owner			regrole NOT NULL,
	identity		text NOT NULL,
	marker			uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	title			text NOT NULL,
	parent_id		uuid,
	database_id		uuid,
	data_source_id	uuid,
	direction		text NOT NULL,
	filter			text,
	conflict		text NOT NULL,
	on_local_delete	text NOT NULL,
	on_notion_delete text NOT NULL,
	flag_column		name,
	settle			interval NOT NULL,
	preflight		text NOT NULL,
	wishes			jsonb,
	title_column	name,
	key_columns		name[] NOT NULL,
	attrelid		oid,
	attnames		name[],
	state			text NOT NULL CHECK (state IN ('creating', 'binding', 'pushing', 'active', 'unlinked')),
	paused			boolean NOT NULL DEFAULT false,
	pause_reason	text,
	problem			text,
	unreachable		text,
	create_intent_at timestamptz,
	create_lookups	integer NOT NULL DEFAULT 0,
	push_cursor		text,
	push_total		bigint,
	push_done		bigint NOT NULL DEFAULT 0,
	push_started_at	timestamptz,
	mass_limit		integer NOT NULL DEFAULT 100,
	bypass_until	timestamptz,
	mark_epoch		bigint,
	created_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	created_by		text NOT NULL DEFAULT session_user,
	changed_at		timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE angles.links IS 'one row for each table that is or was linked';
COMMENT ON COLUMN angles.links.mark_epoch IS 'the epoch that this server wrote into the description in Notion, or could not write; null, or lower than angles.identity.since_epoch: to be taken over';
COMMENT ON COLUMN angles.links.flag_column IS 'what on_notion_delete => ''flag'' sets in the row of a page that was removed';
COMMENT ON COLUMN angles.links.unreachable IS 'why Notion does not show the data source just now: nothing is sent meanwhile; written by the sync worker';
COMMENT ON COLUMN angles.links.mass_limit IS 'more deletions than this, or than half of the pages, wait for a person';
COMMENT ON COLUMN angles.links.bypass_until IS 'the next mass delete before this time goes through; see angles.allow_mass_delete()';
COMMENT ON COLUMN angles.links.attnames IS 'what the table''s columns were called, by number, when the link was made or altered last';
COMMENT ON COLUMN angles.links.attrelid IS 'the oid the table had then; in a restored dump it has another one, and the numbers do not hold';
SELECT pg_catalog.pg_extension_config_dump('angles.links', '');
SELECT pg_catalog.pg_extension_config_dump('angles.links_id_seq', '');

CREATE TABLE angles.link_columns (
	link_id			integer NOT NULL REFERENCES angles.links (id) ON DELETE CASCADE,
	attnum			smallint NOT NULL,
	attname			name NOT NULL,
	type_name		text NOT NULL,
	property_id		text,
	property_name	text NOT NULL,
	property_type	text NOT NULL,
	is_key			boolean NOT NULL DEFAULT false,
	options			text[],
	ref_relid		regclass,
	ref_attnames	name[],
	conflict		text,
	additive		boolean NOT NULL DEFAULT false,
	problem			text,
	notion_problem	text,
	PRIMARY KEY (link_id, property_name)
);
COMMENT ON TABLE angles.link_columns IS 'which column stands for which property; attnum 0 is the row''s key';
COMMENT ON COLUMN angles.link_columns.additive IS 'what both sides add to the number is added up';
COMMENT ON COLUMN angles.link_columns.notion_problem IS 'what a person did to the property: the column is paused until it is as it was, or the link is altered';
SELECT pg_catalog.pg_extension_config_dump('angles.link_columns', '');

/*
 * No foreign keys on the two tables that change with every row: only the sync worker writes here, and
 * the check would cost as much as the write. What a deleted link leaves is cleared by links_deleted().
 */
CREATE TABLE angles.pages (
	link_id			integer NOT NULL,
	key				text NOT NULL,
	page_id			uuid,
	state			text NOT NULL CHECK (state IN
		('intent', 'live', 'trashed', 'out_of_scope', 'new', 'removed', 'restored', 'left')),
	base			jsonb NOT NULL DEFAULT '{}',
	base_local		jsonb NOT NULL DEFAULT '{}',
	held			jsonb,
	intent_at		timestamptz,
	sent_key		text,
	lookups			integer NOT NULL DEFAULT 0,
	last_edited		timestamptz,
	synced_at		timestamptz,
	applied_at		timestamptz,
	removed_as		text CHECK (removed_as IN ('trashed', 'moved', 'gone', 'absent')),
	removed_at		timestamptz,
	pending			text CHECK (pending IN ('held', 'apply')),
	note			text,
	PRIMARY KEY (link_id, key)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX pages_page_id ON angles.pages (page_id);
CREATE INDEX pages_sent_key ON angles.pages (link_id, sent_key) WHERE sent_key IS NOT NULL;
COMMENT ON TABLE angles.pages IS 'row and page: the last values both sides agreed on, by property id';
CREATE INDEX pages_pending ON angles.pages (link_id) WHERE pending IS NOT NULL;
COMMENT ON COLUMN angles.pages.state IS 'src/sync/README.md draws the states';
COMMENT ON COLUMN angles.pages.removed_as IS 'what a person did with the page in Notion';
COMMENT ON COLUMN angles.pages.pending IS 'held: a person decides about its row; apply: its row is about to be deleted or flagged';
COMMENT ON COLUMN angles.pages.note IS 'why it is held';
COMMENT ON COLUMN angles.pages.held IS 'what Notion holds of properties that wait for angles.resolve(), by property id';
COMMENT ON COLUMN angles.pages.sent_key IS 'the key that a create in doubt was sent with, where the row has another one by now';
SELECT pg_catalog.pg_extension_config_dump('angles.pages', '');

CREATE TABLE angles.queue_entries (
	link_id			integer NOT NULL,
	key				text NOT NULL,
	seq				bigint NOT NULL,
	priority		smallint NOT NULL,
	state			text NOT NULL CHECK (state IN ('ready', 'claimed', 'retry', 'verifying', 'waiting', 'held', 'parked')),
	version			integer NOT NULL DEFAULT 1,
	claimed_version	integer,
	first_id		bigint NOT NULL DEFAULT 0,
	last_id			bigint NOT NULL DEFAULT 0,
	claimed_id		bigint,
	generation		bigint,
	enqueued_at		timestamptz NOT NULL,
	changed_at		timestamptz NOT NULL DEFAULT pg_catalog.now(),
	attempts		integer NOT NULL DEFAULT 0,
	crashes			integer NOT NULL DEFAULT 0,
	next_at			timestamptz,
	deleted			boolean NOT NULL DEFAULT false,
	decision		text CHECK (decision IN ('approved', 'hold', 'cycle')),
	sending			jsonb,
	waits_for_link	integer,
	waits_for_key	text,
	class			text,
	code			text,
	message			text,
	hint			text,
	parked_at		timestamptz,
	PRIMARY KEY (link_id, key)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX queue_ready ON angles.queue_entries (priority, seq) WHERE state = 'ready';
CREATE INDEX queue_later ON angles.queue_entries (next_at) WHERE state IN ('retry', 'verifying');
CREATE INDEX queue_waiting ON angles.queue_entries (waits_for_link, waits_for_key) WHERE state = 'waiting';
CREATE SEQUENCE angles.queue_seq;
COMMENT ON COLUMN angles.queue_entries.first_id IS 'number in the change log of the first change that Notion has not acknowledged; 0: not of the log';
COMMENT ON COLUMN angles.queue_entries.last_id IS 'that of the last one; lower than first_id: none is left, but the row is looked at once more';
COMMENT ON COLUMN angles.queue_entries.claimed_id IS 'what last_id was when the entry was claimed: so far an acknowledgement reaches';
COMMENT ON COLUMN angles.queue_entries.changed_at IS 'the row''s last change that was captured';
COMMENT ON COLUMN angles.queue_entries.sending IS 'hashes of values that may have reached Notion, by property id, until it acknowledges them';
COMMENT ON COLUMN angles.queue_entries.deleted IS 'the last thing that was captured of the row is its deletion';
COMMENT ON COLUMN angles.queue_entries.decision IS 'approved: a person let its deletion go; hold: a person has to; cycle: it goes without the row that it waited for';
CREATE FUNCTION angles.links_deleted() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $body$
BEGIN
	DELETE FROM angles.queue_entries q USING old_links l WHERE q.link_id = l.id;
	DELETE FROM angles.pages p USING old_links l WHERE p.link_id = l.id;
	DELETE FROM angles.reconciles r USING old_links l WHERE r.link_id = l.id;
	DELETE FROM angles.polls o USING old_links l WHERE o.link_id = l.id;
	DELETE FROM angles.inbox i USING old_links l WHERE i.link_id = l.id;
	DELETE FROM angles.conflict_log c USING old_links l WHERE c.link_id = l.id;
	DELETE FROM angles.overwrites o USING old_links l WHERE o.link_id = l.id;
	DELETE FROM angles.refusals_told t USING old_links l WHERE t.link_id = l.id;
	RETURN NULL;
END
$body$;
COMMENT ON FUNCTION angles.links_deleted() IS 'internal: a link that is deleted takes along what is known of its pages';
CREATE TRIGGER links_deleted AFTER DELETE ON angles.links REFERENCING OLD TABLE AS old_links
	FOR EACH STATEMENT EXECUTE FUNCTION angles.links_deleted();
COMMENT ON TRIGGER links_deleted ON angles.links IS 'takes along what is known of the pages';

COMMENT ON TABLE angles.queue_entries IS 'one row for each changed row that Notion has not acknowledged; only workers write it';
COMMENT ON SEQUENCE angles.queue_seq IS 'order in which entries became ready; drawn by the sync worker alone';

CREATE TABLE angles.reconciles (
	link_id			integer PRIMARY KEY,
	begins_after	xid8
);
COMMENT ON TABLE angles.reconciles IS 'links that are to be compared in full; only the sync worker writes it';
COMMENT ON COLUMN angles.reconciles.begins_after IS 'transactions below this one end first: null while the worker has not looked';

/*
 * The log that user transactions append to. There are several of the same shape so that a full one
 * can be emptied with TRUNCATE while others take the writes; see src/sync/README.md. Changes of one
 * kind that follow each other in a transaction share a row: then "keys" has their keys, numbered from
 * "ord" on, and "key" is empty. The worker empties them: vacuum would lock users out for that.
 */
CREATE TABLE angles.change_log_0 (
	id			bigint NOT NULL,
	ord			integer NOT NULL,
	link_id		integer NOT NULL,
	op			"char" NOT NULL,
	key			text NOT NULL,
	new_key		text,
	at			timestamptz NOT NULL,
	keys		text[]
) WITH (autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
CREATE TABLE angles.change_log_1 (LIKE angles.change_log_0)
	WITH (autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
CREATE TABLE angles.change_log_2 (LIKE angles.change_log_0)
	WITH (autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
CREATE TABLE angles.change_log_3 (LIKE angles.change_log_0)
	WITH (autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
CREATE SEQUENCE angles.change_log_seq;
COMMENT ON TABLE angles.change_log_0 IS 'keys of changed rows, appended by user transactions, emptied by the sync worker';
COMMENT ON TABLE angles.change_log_1 IS 'as change_log_0';
COMMENT ON TABLE angles.change_log_2 IS 'as change_log_0';
COMMENT ON TABLE angles.change_log_3 IS 'as change_log_0';
COMMENT ON SEQUENCE angles.change_log_seq IS 'orders the appends of dependent transactions';

CREATE VIEW angles.change_log AS
	SELECT l.id, (l.ord + k.n - 1)::integer AS ord, l.link_id, l.op, k.key, l.new_key, l.at
	FROM (SELECT * FROM angles.change_log_0
		UNION ALL SELECT * FROM angles.change_log_1
		UNION ALL SELECT * FROM angles.change_log_2
		UNION ALL SELECT * FROM angles.change_log_3) l,
		unnest(COALESCE(l.keys, ARRAY[l.key])) WITH ORDINALITY AS k (key, n);
COMMENT ON VIEW angles.change_log IS 'captured changes that the sync worker has not taken into the queue yet';

REVOKE ALL ON angles.links, angles.link_columns, angles.pages, angles.queue_entries, angles.reconciles,
	angles.change_log_0, angles.change_log_1, angles.change_log_2, angles.change_log_3 FROM PUBLIC;
