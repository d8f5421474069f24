/*
 * engine.h
 *		The sync worker from the inside: entries, actions, and the steps of its loop. Used by the
 *		files of this room only. README.md draws the states of an entry.
 */
#ifndef ANGLES_ENGINE_H
#define ANGLES_ENGINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

#include "net/net.h"
#include "notion/api.h"
#include "sync/mapping.h"
#include "worker/worker.h"

/*
 * So many entries are taken at once: more while the remote takes a full batch in less than
 * ENGINE_QUICK_US, because a transaction has its price. They are taken when less than half a batch
 * is waiting to be sent, so that there is something to send meanwhile.
 */
#define ENGINE_BATCH 64
#define ENGINE_BATCH_MAX 512
#define ENGINE_QUICK_US 200000

/*
 * The latch is looked at after this time at the latest, while answers come so fast that there is
 * never a reason to wait.
 */
#define ENGINE_LONGEST_TURNS_US 1000

/*
 * What could not be sent for so long is planned again before it is: its row may have changed many
 * times, and only what it is now has to be written.
 */
#define ENGINE_STALE_US (60 * USECS_PER_SEC)

/* In a transaction the network is looked at no more often than this. */
#define ENGINE_EXCHANGE_US 100

/*
 * A commit is taken in at once after a pause, but not more often than this: each time costs a
 * transaction, which competes with those of the users for the disk and the processors.
 */
#define ENGINE_PACE_US 2000

/* Rows that wait are looked at for circles after this time, while other rows go on. */
#define ENGINE_CIRCLES_US (5 * USECS_PER_SEC)

/*
 * A statement writes no more rows than this, as nothing is sent while it runs; with fewer its own
 * price shows.
 */
#define ENGINE_PART 128

/* Message, as an SQL literal, of an entry of class "relation". */
#define OPEN_RELATION "'sent; one relation waits until the referenced row has a page'"

/* An entry whose claims died with their worker this often is set aside as poison. */
#define ENGINE_MAX_CRASHES 10

#define PRIORITY_INTERACTIVE 0
#define PRIORITY_BACKLOG 1

typedef enum PageState
{
	PAGE_NONE,
	PAGE_INTENT,				/* a create may be under way or may have happened */
	PAGE_LIVE,
	PAGE_TRASHED,				/* by this server, because its row is gone */
	PAGE_OUT_OF_SCOPE,
	PAGE_NEW,					/* a person made it; an apply worker makes its row */
	PAGE_REMOVED,				/* a person removed it */
	PAGE_RESTORED,				/* its row is gone, and a person took it out of the trash */
	PAGE_LEFT					/* its row is gone, and it stays */
} PageState;

/* A queue entry with all that planning needs. Lives for one transaction. */
typedef struct Entry
{
	int32		link_id;
	char	   *key;
	ItemPointerData tid;		/* where it is, until it is updated */
	int			version;
	int			priority;
	int			attempts;
	bool		approved;		/* a person approved its deletion */
	bool		alone;			/* goes without the row it waits for: it closes a circle */
	bool		deleted;		/* the last thing captured of the row is its deletion */
	bool		hold;			/* ... among so many that a person decides */
	bool		looked_once;	/* it was not there when it was read last */
	bool		key_in_doubt;	/* a page with this key may have been made for another row */
	bool		was_doubtful;	/* state 'verifying': its look-up is due */
	TimestampTz enqueued_at;
	PageState	page_state;
	char	   *page_id;
	Jsonb	   *base;
	Jsonb	   *base_local;
	Jsonb	   *held;			/* properties that are not to be written now, or NULL */
	bool		inbound_first;	/* a change made in Notion is merged before it is planned */
	bool		edited;			/* ... or could not be so far */
	bool		unproven;		/* the page was found by its key, and never held its row's values */
	Jsonb	   *sending;		/* what may have reached Notion already, or NULL */
	TimestampTz intent_at;
	char	   *sent_key;		/* that a create in doubt was sent with, when not "key" */
	int			lookups;

	/* filled by angles_load_rows() */
	bool		not_read;		/* reading others took all the time there was */
	char	   *unreadable;		/* why this row alone cannot be read, NULL: it can */
	bool		found;			/* the row exists, or cannot be known not to */
	bool		in_scope;		/* ... and passes the filter */
	char	  **local;			/* canonical values by column, NULL: problem or not loaded */
	char	  **problems;		/* by column, NULL: none */
	char	  **ref_keys;		/* RELATION: key text of the referenced row, NULL: none */

	/* relations that cannot be written yet, filled by angles_resolve_relations() */
	int32		missing_link;
	char	   *missing_key;
	bool		missing_will_come;	/* the referenced row is itself about to be created */
} Entry;

typedef enum PlanKind
{
	PLAN_NOTHING,				/* both sides agree */
	PLAN_CREATE,
	PLAN_PATCH,
	PLAN_TRASH,
	PLAN_RESTORE,				/* take the page out of the trash, then plan again */
	PLAN_LOOKUP,				/* a create is in doubt: look for the page by key */
	PLAN_FORGET,				/* nothing was ever sent and nothing is left to send */
	PLAN_LEAVE,					/* out of scope: keep the page, do not touch it */
	PLAN_WAIT,					/* for the referenced row */
	PLAN_HOLD,					/* a deletion that a person has to approve */
	PLAN_PARK					/* a value that Notion cannot hold */
} PlanKind;

typedef struct RowPlan
{
	PlanKind	kind;
	bool		comes_back;		/* the page was not the row's for a while */
	int			n;				/* properties to write */
	int		   *columns;		/* their columns in the link */
	char	   *message;		/* PARK: why */
	char	   *hint;
} RowPlan;

/*
 * Decides what one entry needs. A pure function: it reads its arguments only and changes nothing.
 * The same arguments always give the same plan.
 */
extern RowPlan angles_plan(const Link *link, const Entry *entry);

typedef enum ActionKind
{
	ACTION_CREATE,
	ACTION_PATCH,
	ACTION_PREFLIGHT,			/* of the page, before it is written: see poll.c */
	ACTION_TRASH,
	ACTION_RESTORE,
	ACTION_LOOKUP,				/* of several keys of one link */
	ACTION_FETCH,				/* of a page that a 503 says was made */
	ACTION_MARK,				/* of the epoch in Notion: see mark.c */
	ACTION_POLL,				/* of pages edited lately: see poll.c */
	ACTION_TARGET,				/* of a page that a relation pointed to: is it there still? */
	ACTION_SCHEMA,				/* of the data source's properties: see schema.c */
	ACTION_TELL,				/* a step in telling what was refused: see refusals.c */
	ACTION_REFS,				/* of a relation that a page shows in part: see refs.c */
	ACTION_SWEEP,				/* a step in finding what is gone: see sweep.c */
	ACTION_ME,					/* which user in Notion this connection is: see newpages.c */
	ACTION_SETUP,				/* a step in making or reading a data source */
	ACTION_CHECK,				/* a request of angles.check_notion() */
	ACTION_LIST					/* of all pages, for a session: see listing.c */
} ActionKind;

/* A request that has been decided, claimed durably, and is to be sent or under way. */
typedef struct Action
{
	dlist_node	node;
	MemoryContext context;		/* holds the action and all it points to */
	ActionKind	kind;
	int32		link_id;
	uint64		links_version;	/* angles_links_version() it was planned with */
	uint64		transaction;	/* the engine's when it was planned: not sent before its commit */
	char	   *key;			/* of the row; NULL for LOOKUP, SETUP, CHECK */
	List	   *keys;			/* LOOKUP: of char *, and what each was sent as */
	List	   *sent_keys;
	char	   *page_id;
	NotionRequest *write;		/* PREFLIGHT: what follows unless the page was changed */
	Jsonb	   *base;			/* ... since both agreed on this; TRASH: the same */
	Jsonb	   *held;
	Jsonb	   *sending;		/* ... but for what may be of this server's making */
	List	   *seen;			/* PATCH: what people typed there meanwhile: see overwrite.c */
	int64		read_us;		/* ... when the page was asked for before, 0: it was not */
	bool		was_in_doubt;	/* something may have reached Notion before this was planned */
	char	   *property_id;	/* TARGET: of the relation that is empty now; REFS */
	int			priority;
	int			attempts;
	NotionRequest *request;
	int64		planned_us;		/* when that was */
	bool		anyway;			/* it does not go by an entry: nothing plans it again */
	bool		replan;			/* it was never sent: its link changed meanwhile */
	int			n_written;
	char	  **written_ids;	/* property ids, and the local canonical values that were written */
	char	  **written_locals;
	int32		then_link;		/* a relation was left out: come back when this row has its page */
	char	   *then_key;
	int			step;			/* SETUP, CHECK, MARK, SWEEP, TELL: which */
	char	   *told;			/* TELL: the sentence */
	int64		epoch;			/* MARK: the one that is written; SETUP: pages made since then */
	uint64		call;			/* CHECK, LIST: which call asked for it */
	AnglesNetAnswer *net;		/* what has come and is not read yet */
	NotionAnswer *answer;		/* once it was read */
} Action;

/* What the running worker knows of a link's mark in Notion. Only mark.c reads and writes it. */
typedef struct MarkState
{
	bool		known;			/* it was ours in this life, or cannot be read */
	bool		recorded;		/* ... and its epoch stands in angles.links */
	bool		owed;			/* ... or is to stand there once a session lets go of the link */
	bool		flying;			/* a request about it is under way */
	int			failures;		/* in a row */
	int64		requests;		/* those of the link when it was read last */
	int64		due_us;			/* when it may be read next */
} MarkState;

/* How far a link's pages were listed to see which are gone. Only sweep.c reads and writes it. */
typedef struct SweepState
{
	MemoryContext context;		/* of what this listing has shown; NULL while there is none */
	struct pg_uuid_t *seen;
	int			n_seen;
	int			max_seen;
	char	   *cursor;			/* where it goes on, NULL: at its begin */
	TimestampTz from;			/* pages made before were listed; 0: from the first */
	bool		whole;			/* it has shown all there is */
	bool		flying;			/* a request is planned or under way */
	bool		at_once;		/* somebody waits for the next one ... */
	int64		wanted_us;		/* ... since then */
	bool		hinted;			/* a webhook told of pages come or gone since this one began */
	bool		known;			/* when the last one was is known */
	bool		listed;			/* it is through; what is missing is asked for */
	bool		source_seen;	/* the data source is there, while rows of it seem gone */
	bool		many;			/* more pages are missing than may go without a person */
	bool		one_is_there;	/* ... and one of them is not, really */
	int			asked;			/* pages that are asked for one by one, not answered yet */
	int			failures;		/* in a row */
	int			requests;		/* of this listing, then of the last one */
	List	   *suspects;		/* of char *: ids of pages to ask for */
	TimestampTz began;			/* by this server's clock */
	int64		begun_us;
	int64		due_us;			/* no request before that */
	int64		last_us;		/* when the last listing began */
	int64		seen_us;		/* when the last one began that went to its end */
} SweepState;

/* Relations of a link that pages show in part only. Only refs.c reads and writes it. */
typedef struct RefsState
{
	MemoryContext context;		/* of both lists; NULL while there were none */
	List	   *known;			/* that were read lately */
	List	   *wanted;			/* that are to be read, or are being read: the first one */
	bool		flying;			/* a request is under way */
	int64		due_us;			/* no request before that */
} RefsState;

/* What the running worker has done for a link; the results of a run are differences of these. */
typedef struct LinkCounts
{
	int32		link_id;
	int64		created;
	int64		updated;
	int64		trashed;
	int64		restored;
	int64		adopted;
	int64		unchanged;
	int64		parked;
	int64		requests;
	int64		trash_since_us;	/* begin of the window in which deletions are counted */
	int			trash_in_window;
	int			setup_failures; /* in a row */
	int64		setup_not_before_us;	/* the next step of its setup, 0: at once */
	bool		unreadable;		/* the alert about it is open */
	MarkState	mark;
	SweepState	sweep;
	RefsState	refs;
	bool		telling;		/* a page is being told what was refused */
	int			tell_failures;	/* in a row, of the property itself ... */
	int64		tell_not_before_us;	/* ... which is not asked for before */
	int64		window_us;		/* from the last look at a page to the write of it, the last one */
	int64		window_max_us;
	int64		window_saved_us;	/* when these figures were written down last */
	int64		lost_updates;	/* edits that were covered since then */
	bool		window_owed;	/* there is something to write down */
	bool		schema_flying;	/* the properties are being read */
	bool		poll_flying;	/* a question for changes is planned or under way */
	bool		poll_is_whole;	/* all that this pass showed was noted */
	int			poll_failures;	/* in a row */
	int			poll_requests;	/* of this pass */
	bool		poll_plain;		/* some property cannot be asked for by itself */
	bool		poll_no_alert;	/* none about its failures is open, surely */
	int64		poll_due_us;	/* when to ask next */
	int64		poll_begun_us;	/* when this pass began */
	int64		poll_seen_us;	/* when the last pass began that was read to its end */
	bool		poll_at_once;	/* somebody waits for the next one */
	bool		poll_hinted;	/* a webhook told of changes since this pass began */
	int64		poll_again_us;	/* ... which a question before this time may not show, 0: none */
	TimestampTz poll_began;		/* the same by Notion's clock, 0: no answer yet */
	TimestampTz poll_from;		/* the minute this pass began with */
	TimestampTz poll_watermark; /* what was edited before has been seen; 0: not read yet */
	TimestampTz poll_saved;		/* as angles.polls has it */
} LinkCounts;

typedef struct Engine
{
	MemoryContext context;		/* for the life of the worker */
	MemoryContext iteration;	/* reset at the top of the loop */
	AnglesNetClient *net;
	char	   *token;
	const char *token_source;
	uint64		fingerprint;
	bool		token_refused;	/* 401 with the token at hand: wait for another one */
	int64		generation;

	dlist_head	ready[2];		/* by priority */
	int			n_ready;		/* on both lists */
	int			n_backlog;		/* on that of the backlog */
	dlist_head	flying;
	int			n_flying;
	dlist_head	done;
	int			n_done;

	int			batch;			/* entries taken at once */
	bool		batch_was_full; /* the queue gave as many as that */
	uint64		transaction;	/* number of the one that is open, or of the next */
	int			n_claimed;		/* actions made ready in it */
	int64		waited_us;		/* when the latch was looked at last */
	int64		exchanged_us;	/* when the network was */
	int64		worked_us;		/* when work in the database began last */
	int64		claimed_us;		/* when entries were taken last */
	int64		cursor[2];		/* highest seq claimed in this life, by priority */
	bool		more[2];		/* the queue may hold more ready entries behind the cursor */
	TimestampTz next_due;		/* of the earliest 'retry' or 'verifying' entry, 0: none */
	uint64		links_version;	/* for which cursors hold */
	bool		some_wait;		/* entries wait for others: see whether they do so in a circle */
	int64		some_wait_us;	/* since then */
	bool		look;			/* look at log, queue and links at the next occasion */
	int64		poll_due_us;	/* when a question for changes, or a listing, is due */
	int64		tell_due_us;	/* when a page is to be told what was refused, 0: no such time */
	char	   *bot_id;			/* the user in Notion that this connection is; NULL: not known */
	bool		bot_asked;		/* ... a request for that is under way */
	bool		inbox_used;		/* angles.inbox may hold something */
	bool		inbox_waits;	/* ... that an apply worker could not take so far */
	bool		inbox_changed;	/* this transaction put something there */
	bool		log_is_full;	/* a table of the change log may be emptied as a whole */
	bool		fold_incomplete;	/* the log may hold more than this transaction took */
	bool		log_passed_over;	/* a table of the change log was locked by somebody */
	List	   *marks;			/* of int: links whose marks this transaction acts on */
	bool		superseded;		/* another server has taken over: leave after the commit */
	bool		setup_pending;	/* a link needs setup work ... */
	int64		setup_due_us;	/* ... not before this */
	int64		idle_since_us;
	List	   *counts;			/* of LinkCounts * */
	List	   *calls;			/* of ActiveCall * */
} Engine;

/* ---- arrays.c ---- */

/* Parallel arrays for unnest() in statements that work on many rows at once. */
typedef struct RowSet
{
	int			n;
	int			max;
	Datum	   *links;
	Datum	   *keys;
	Datum	   *extra[6];
	bool	   *extra_null[6];
} RowSet;

/* Adds a row. */
extern void angles_rows_add(RowSet *rows, int32 link_id, const char *key);
/* Sets a text of the row added last, NULL allowed. */
extern void angles_rows_text(RowSet *rows, int which, const char *text);
/* Returns the arrays as Datum: int4[] of links, text[] of keys, text[] of an extra. */
extern Datum angles_rows_links(const RowSet *rows);
extern Datum angles_rows_keys(const RowSet *rows);
extern Datum angles_rows_extra(const RowSet *rows, int which);

/* ---- main.c ---- */

/*
 * Takes answers and sends requests, without waiting, while the worker is at work in a transaction:
 * the network must not stand still for the length of it. Sends nothing that this transaction
 * claims; what is answered meanwhile is settled in the next one. Cheap to call often. Not for
 * subtransactions, which would swallow its errors.
 */
extern void angles_keep_sending(Engine *engine);

/*
 * Pauses the link whose rows the process before this one in its place was at work on when it died.
 * Once in a life, after angles_links_refresh(). Needs a transaction.
 */
extern void angles_pause_killer(void);

/* ---- fold.c ---- */

/*
 * Moves what committed transactions appended to the log into the queue. Needs a transaction.
 * Returns whether the log may hold more (a part of a large one was done). Keys that were renamed
 * are renamed in the engine's actions too.
 */
extern bool angles_fold(Engine *engine);

/* Notes that a link must be compared in full, also when it was to be already: begin anew. */
extern void angles_reconcile_wanted(int32 link_id);

/* Empties the full tables of the log whose rows are all folded. In a transaction of its own. */
extern void angles_fold_rotate(void);

/* ---- load.c ---- */

/*
 * Fills the local half of the entries, all of one link, by reading the rows as the link's owner,
 * read-only, in at most angles.row_read_timeout. A row that cannot be read says so in "unreadable".
 * Returns NULL, or the error that kept it from reading any.
 */
extern ErrorData *angles_load_rows(Link *link, int n, Entry **entries);

/*
 * Locks the link's table for reading, or raises lock_not_available at once: a transaction that
 * alters one table must not hold up the others.
 */
extern void angles_load_lock(const Link *link);

/* Whether an error of angles_load_rows() means that somebody is at work on the table. */
extern bool angles_load_is_busy(const ErrorData *error);

/*
 * Takes the values of a row, in the columns of the link's load statement, into the local half of
 * an entry whose arrays are there.
 */
extern void angles_load_take(const Link *link, Entry *entry, HeapTuple tuple, TupleDesc desc);

/* Makes the arrays of an entry's local half, all empty. */
extern void angles_load_clear(const Link *link, Entry *entry);

/*
 * Adds the keys of the next rows, in the order of the key, as the link's owner, read-only: those
 * behind "cursor" (NULL: from the first), at most "limit". Only rows that pass the filter, unless
 * it cannot be evaluated. Returns NULL, or the error that kept it from reading any.
 */
extern ErrorData *angles_load_keys(Link *link, const char *cursor, int limit, RowSet *keys);

/* Turns referenced keys into page ids, for all entries of a batch at once. */
extern void angles_resolve_relations(int n, Entry **entries);

/* ---- pick.c ---- */

/* Class of an entry whose row was not found at the last look. */
#define ENTRY_LOOKED_ONCE "absent"

/* Class of an entry whose property Notion did not know. */
#define ENTRY_SCHEMA "schema"

/*
 * Takes at most so many entries that are due, of links that may send, for whose priority there is
 * room; returns how many.
 */
extern int	angles_pick(Engine *engine, Entry **entries, int max);

/* Reads when the next entry is due that waits for its time. */
extern void angles_pick_next_due(Engine *engine);

/* Reads the state of a page as the table angles.pages names it; NULL or empty: PAGE_NONE. */
extern PageState angles_page_state(const char *state);

/* Whether the ready list of this priority wants more. */
extern bool angles_claim_has_room(const Engine *engine, int priority);

/* ---- claim.c ---- */

/*
 * So many deletions of a link's rows or pages may go through at once without a person. Needs a
 * transaction.
 */
extern int	angles_mass_limit(const Link *link);

/*
 * Whether a person has let the next mass delete of the link through: that is used up with it. Needs
 * a transaction.
 */
extern bool angles_mass_bypass(Link *link);

/*
 * Takes entries that are due, plans them, marks them durably and puts actions on the ready lists.
 */
extern void angles_claim(Engine *engine);

/*
 * Whether a value of a property may have been sent with an outcome that is not known. "sending" is
 * that of an entry; canon NULL: any value.
 */
extern bool angles_claim_was_sent(const Jsonb *sending, const char *property_id,
								  const char *canon);

/* Takes over what former workers of this database left claimed. Once, at the start. */
extern void angles_claim_take_over(Engine *engine);

/* ---- actions.c ---- */

/* Makes an action in a memory context of its own. */
extern Action *angles_action_make(Engine *engine, ActionKind kind, int32 link_id);

/* Puts an action on the ready list of its priority: behind the others, or before them. */
extern void angles_action_ready(Engine *engine, Action *action);
extern void angles_action_ready_first(Engine *engine, Action *action);

/* Takes an action off its ready list. */
extern void angles_action_unready(Engine *engine, Action *action);

/* Frees an action that is on no list. */
extern void angles_action_free(Action *action);

/* Returns the counts of a link in this worker's life. */
extern LinkCounts *angles_counts(Engine *engine, int32 link_id);

/* ---- cycles.c ---- */

/* Notes that an entry waits for another one. */
extern void angles_some_wait(Engine *engine);

/* Lets one of each circle of waiting entries go. When nothing else moves. Needs a transaction. */
extern void angles_break_cycles(Engine *engine);

/* ---- settle.c ---- */

/* Writes what the answers mean that are on the done list by now. Needs a transaction. */
extern void angles_settle(Engine *engine);

/* Makes a page that a listing shows the page of the row whose key it carries, if it has one. */
extern void angles_settle_known_page(Engine *engine, Link *link, JsonbContainer *page);

/* ---- setup.c ---- */

/*
 * Does what links need before rows can flow, as far as it can be done now: plans the next request
 * of each link that is being made or bound, queues the next part of a first push. Needs a
 * transaction.
 */
extern void angles_setup_step(Engine *engine);

/* Writes what the answer of a SETUP action means. Needs a transaction. */
extern void angles_setup_settle(Engine *engine, Action *action);

/*
 * Locks the link's row unless a session has it, and sees whether it is still as it was planned
 * with: an unlink() or a pause() that is not committed yet must neither be waited for nor undone.
 */
extern bool angles_link_lock(const Link *link);

/* ---- mark.c ---- */

/* Returns the text that marks a link's database in Notion as this server's. */
extern char *angles_mark_text(const Link *link, int64 epoch);

/* Returns the epoch of this server: angles.identity. Needs a transaction. */
extern int64 angles_mark_own_epoch(void);

/* Whether rows of the link may be sent as far as its mark in Notion is concerned. */
extern bool angles_mark_allows(Engine *engine, const Link *link);

/* Forgets what is known of a link's mark: it is looked at before anything more is sent. */
extern void angles_mark_forget(Engine *engine, int32 link_id);

/* Asks for the marks that are due. After angles_setup_step(). Needs a transaction. */
extern void angles_mark_step(Engine *engine);

/* Writes what the answer of a MARK action means. Needs a transaction. */
extern void angles_mark_settle(Engine *engine, Action *action);

/* ---- waitsync.c ---- */

/*
 * Tells sessions in angles.wait_synced() what it is like with sending; wakes them when that is
 * news, or after a commit. Looks at a few words of shared memory while nobody waits.
 */
extern void angles_tell_waiters(Engine *engine, bool committed);

/*
 * Notes, a few times a second, how far the numbers of the change log have come by this position of
 * the WAL. Needs a transaction.
 */
extern void angles_note_position(void);

/* ---- calls.c ---- */

/* Takes new calls, answers those that are finished. Needs a transaction. */
extern void angles_calls_step(Engine *engine);

/* Sends the answers of calls that were finished; after the commit. */
extern void angles_calls_reply(Engine *engine);

/* Whether somebody waits for a run of this worker. */
extern bool angles_calls_waiting(Engine *engine);

/*
 * Whether angles_calls_step() has something to do that no answer and no change in the database
 * announces: a call was cancelled, its waiter is gone, or its end can be written at last. Reads
 * shared memory only.
 */
extern bool angles_calls_cancelled(Engine *engine);

/* Notes the answer of an ACTION_CHECK. */
extern void angles_calls_settle_check(Engine *engine, Action *action);

/* Hands the answer of an ACTION_LIST to the call that it belongs to. */
extern void angles_calls_settle_list(Engine *engine, Action *action);

/* ---- listing.c ---- */

typedef struct Listing Listing;

/*
 * Begins to read all pages of these links (of int) for the session that waits for the call; their
 * actions carry "serial". Lives in the current memory context.
 */
extern Listing *angles_listing_begin(AnglesCall *call, List *links, uint64 serial);

/* Asks for the next pages when that can be done now. Returns true when the listing is over. */
extern bool angles_listing_step(Engine *engine, Listing *listing);

/* Whether angles_listing_step() has something to do that no answer announces. */
extern bool angles_listing_due(Listing *listing);

/* Hands on what the answer of a LIST action shows. */
extern void angles_listing_settle(Engine *engine, Listing *listing, Action *action);

/* Returns why a listing that is over has failed, or NULL; *hint: what to do. */
extern const char *angles_listing_problem(const Listing *listing, const char **hint);

#endif							/* ANGLES_ENGINE_H */
