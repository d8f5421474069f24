/*
 * inbound.h
 *		The inbound half of the sync worker: what it asks Notion, and what becomes of the answers.
 *		Used by the files of this room only. README.md draws the way.
 */
#ifndef ANGLES_INBOUND_H
#define ANGLES_INBOUND_H

#include "postgres.h"

#include "sync/engine.h"

/* ---- schema.c ---- */

/* Asks what has become of the properties of a link's data source. Needs no transaction. */
extern void angles_schema_ask(Engine *engine, Link *link);

/* Writes what the answer of a SCHEMA action means. Needs a transaction. */
extern void angles_schema_settle(Engine *engine, Action *action);

/*
 * Returns what is wrong with the property of a column as the schema shows it (NULL: not at all),
 * for people, or NULL.
 */
extern char *angles_schema_problem(const AnglesColumn *column, JsonbContainer *property);

/* ---- inbox.c ---- */

/* What an answer shows about pages of a link. */
typedef struct News
{
	RowSet		changed;		/* keys: page ids; extras: remote, edited at, by whom, kind */
	RowSet		gone;			/* keys: page ids whose news were taken back; extras: row's key */
	bool		in_part;		/* a relation is shown in part, and the rest is not known */
} News;

/*
 * Notes changes. Returns false when some could not be noted, because an apply worker has them in
 * hand: the next answer shows them again. Needs a transaction, as the others.
 */
extern bool angles_inbox_note(Engine *engine, const Link *link, News *news);

/*
 * A relation of a row's page is empty now: really (gone: it is a change), or because the page it
 * pointed to cannot be seen any more (then the property is left alone until it shows something).
 */
extern void angles_inbox_emptied(Engine *engine, const Link *link, const char *key,
								 const char *property_id, bool really);

/*
 * One property of a page holds this value (canonical) since "edited", besides what was noted of
 * others. Returns false when an apply worker has the page in hand: the next pass shows it again.
 */
extern bool angles_inbox_add(Engine *engine, const Link *link, const char *key,
							 const char *property_id, const char *canon, TimestampTz edited);

/* Nothing is in the inbox: no entry has to wait for anything there. */
extern void angles_inbox_free_all(Engine *engine);

/* A change of this row's page was dealt with at that time: the row may differ from it now. */
extern void angles_inbox_done(Engine *engine, int32 link_id, const char *key, TimestampTz at);

/* What is parked, or waits for another try, is tried again. */
extern void angles_inbox_retry(Engine *engine, int32 link_id, const char *key);

/* Hands a person's decision about a conflict on: "number:side:who". */
extern void angles_inbox_resolve(Engine *engine, int32 link_id, const char *key,
								 const char *decision);

/* ---- newpages.c ---- */

/*
 * Notes pages that an answer shows and that belong to no row so far: those of "ids" for which
 * "unknown" says so, unless that is what was noted of them before. binding: the link is being set
 * up. Returns false when some could not be told yet: the next answer shows them again. Needs a
 * transaction.
 */
extern bool angles_new_pages(Engine *engine, Link *link, JsonbContainer *results, char **ids,
							 const bool *unknown, Jsonb **noted, bool binding, News *news);

/*
 * Tells in *is_me whether a user of Notion (NULL: nobody) is this connection. Returns false, and
 * true in *is_me, while that is not known; it is asked then.
 */
extern bool angles_is_me(Engine *engine, Link *link, const char *user_id, bool *is_me);

/* Notes the answer of an ACTION_ME. */
extern void angles_new_pages_settle_me(Engine *engine, Action *action);

/* ---- sweep.c ---- */

/*
 * Lists a link's pages where it is time, one request at a time, to see which are gone. Returns when
 * it wants to be called again at the latest (angles_clock_mono_us()). Needs no transaction.
 */
extern int64 angles_sweep_step(Engine *engine, Link *link);

/* Lets the link's pages be listed at once. */
extern void angles_sweep_at_once(Engine *engine, const Link *link);

/* Lets the link's pages be listed as soon as the listings' share of the limit allows it. */
extern void angles_sweep_hinted(Engine *engine, const Link *link);

/*
 * A write, or a webhook, says that this page is not there, or in the trash: it is asked for.
 */
extern void angles_sweep_suspect(Engine *engine, const Link *link, const char *page_id);

/* Asks whether the data source can be seen again; the answer ends counts->poll_flying. */
extern void angles_sweep_look_at_source(Engine *engine, Link *link);

/* Lets the next listing be due as of the time of the last one. */
extern void angles_sweep_read(Engine *engine, const Link *link, TimestampTz swept_at);

/* Whether a listing that began at that time or later has not come to its end yet. */
extern bool angles_sweep_moves(Engine *engine, const Link *link, int64 since_us);

/* Writes what the answer of a SWEEP action means. Needs a transaction. */
extern void angles_sweep_settle(Engine *engine, Action *action);

/*
 * Notes that the data source cannot be seen (why, for people) or, NULL, that it can again. Returns
 * false when a session has the link: later. Needs a transaction.
 */
extern bool angles_sweep_reachable(Engine *engine, Link *link, const char *why);

/* ---- removed.c ---- */

/* Pages of a link, and for each how it was removed: see the column angles.pages.removed_as. */
typedef struct Removals
{
	RowSet		pages;			/* keys: page ids; extras: removed_as */
	bool		many;			/* so many that a person decides */
} Removals;

/*
 * Notes that people removed pages, and what becomes of their rows. What an apply worker has in hand
 * is left for the next listing.
 */
extern void angles_removed(Engine *engine, const Link *link, Removals *removals);

/* Pages that were removed, or trashed by this server, are shown again. */
extern void angles_reappeared(Engine *engine, const Link *link, RowSet *page_ids);

/* A person lets a held removal go through (approved), or takes it back. */
extern void angles_removed_decided(Engine *engine, int32 link_id, const char *key, bool approved);

/* Opens or closes the alert about removals that wait for a person. */
extern void angles_removed_alert(const Link *link);

/* ---- compare.c ---- */

/*
 * Notes what pages in the answer of an action, of a link with both directions, hold that is news.
 * Needs a transaction.
 */
extern void angles_compare_pages(Engine *engine, Link *link, Action *action,
								JsonbContainer *results);

/*
 * Looks at the page that a PREFLIGHT action has read. Returns true, and makes it a PATCH to be
 * sent, when nobody changed it; else it is to be settled.
 */
extern bool angles_preflight(Engine *engine, Action *action);

/*
 * Notes what a PREFLIGHT action found; its row is planned again. Returns false when a relation has
 * to be read in full before. Needs a transaction.
 */
extern bool angles_preflight_settle(Engine *engine, Action *action);

/*
 * Notes what all of a relation is that a page shows in part, asked for so long ago. Returns false
 * when that is to be asked again: the page was written since, or is in an apply worker's hands.
 * Needs a transaction.
 */
extern bool angles_compare_refs(Engine *engine, Link *link, const char *page_id,
								const char *property_id, const char *canon, TimestampTz edited,
								int64 age_us);

/* Writes what the answer of a TARGET action means. Needs a transaction. */
extern void angles_compare_settle_target(Engine *engine, Action *action);

/*
 * Whether an answer shows something else of a page than both sides agreed on, in a property that
 * the link knows. Changes nothing.
 */
extern bool angles_compare_was_edited(Link *link, JsonbContainer *page, Jsonb *base);

/* ---- hint.c ---- */

/*
 * Lets Notion be asked for what a webhook told of: key and bot are those of an ANGLES_OP_HINT
 * (changelog.h). Needs a transaction.
 */
extern void angles_hint(Engine *engine, Link *link, const char *key, const char *bot);

/* ---- refusals.c ---- */

/* Tells pages what the table did not take, one request of a link at a time. Needs a transaction. */
extern void angles_refusals_step(Engine *engine);

/* Notes what came of a TELL action. Needs a transaction. */
extern void angles_refusals_settle(Engine *engine, Action *action);

/* ---- refs.c ---- */

/*
 * A page shows a relation in part only ("shown", canonical). Returns whether the rest has still to
 * be read, which is then done; false: it was, since that edit.
 */
extern bool angles_refs_missing(Engine *engine, const Link *link, const char *page_id,
								const AnglesColumn *column, const char *shown, TimestampTz edited);

/*
 * Reads on where it is time. Returns when it wants to be called again at the latest
 * (angles_clock_mono_us()). Needs no transaction.
 */
extern int64 angles_refs_step(Engine *engine, Link *link);

/* Takes the answer of a REFS action. Needs a transaction. */
extern void angles_refs_settle(Engine *engine, Action *action);

/* ---- overwrite.c ---- */

/*
 * An answer shows what a person has typed into a property that a write under way is about to cover,
 * or just has.
 */
extern void angles_overwrite_seen(Engine *engine, int32 link_id, const char *key,
								  const char *property_id, const char *canon);

/*
 * Keeps what was seen of such values, and notes how long ago the page was read, for a PATCH that
 * was done. Before its page is written. Needs a transaction.
 */
extern void angles_overwrite_settle(Engine *engine, const Link *link, const Action *action);

/* Writes the figures of links down. Needs a transaction. */
extern void angles_overwrite_save(Engine *engine);

/* ---- poll.c ---- */

/* Asks for changes where it is time. Needs no transaction. */
extern void angles_poll_step(Engine *engine);

/* Lets the link be asked at once, or as soon as the question under way is answered. */
extern void angles_poll_at_once(Engine *engine, const Link *link);

/*
 * Whether what was changed in Notion before that time (angles_clock_mono_us()) may still be on its
 * way into the link's table. Needs a transaction.
 */
extern bool angles_poll_moves(Engine *engine, const Link *link, int64 since_us);

/*
 * Lets the link be asked soon: as soon as the share of the limit that questions may take allows
 * it, and once more when queries have caught up.
 */
extern void angles_poll_hinted(Engine *engine, const Link *link);

/* Settings were read anew: intervals may be others. */
extern void angles_poll_reloaded(Engine *engine);

/* Whether any link is asked for changes: the worker stays. */
extern bool angles_poll_wanted(void);

/* Whether the link's data source is asked for changes. */
extern bool angles_is_polled(const Link *link);

/*
 * At most this part of the limit is for questions that nobody waits for: 1 in so many. Returns the
 * time that so many requests take of it.
 */
extern int64 angles_poll_share_us(int requests, int share);

/* Returns the ids (of char *) of the properties to ask for, NIL: of all. */
extern List *angles_poll_properties(Engine *engine, const Link *link);

/*
 * Takes an answer that shows nothing at all, without the database. Returns false when it has to be
 * settled.
 */
extern bool angles_poll_take(Engine *engine, Action *action);

/* Notes what the answer of a POLL action shows. Needs a transaction. */
extern void angles_poll_settle(Engine *engine, Action *action);

/*
 * From now on what is edited in the link's data source counts as change, if that was not so
 * before. server_date: Notion's clock before its pages are listed, 0: not told.
 */
extern void angles_poll_begin(const Link *link, TimestampTz server_date);

/* Reads how far the data sources were read, and whether anything waits. Needs a transaction. */
extern void angles_poll_read(Engine *engine);

#endif							/* ANGLES_INBOUND_H */
