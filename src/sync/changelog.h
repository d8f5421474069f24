/*
 * changelog.h
 *		The change log: what user transactions append and the sync worker folds away.
 */
#ifndef ANGLES_CHANGELOG_H
#define ANGLES_CHANGELOG_H

#include "postgres.h"

/* How many tables take turns as the log. */
#define ANGLES_LOG_TABLES 4

/* A table of the log is full, and the next one takes over, at this many blocks. */
#define ANGLES_LOG_BLOCKS 32

/* What happened to a key. The worker reads the row itself for everything else. */
#define ANGLES_OP_TOUCH		'T'
#define ANGLES_OP_DELETE	'D'
#define ANGLES_OP_REKEY		'K'
#define ANGLES_OP_TRUNCATE	'X'
#define ANGLES_OP_RECONCILE 'R'	/* what changed is not known: compare the whole table */

#define ANGLES_OP_LINK		'L' /* the link was made or altered */
#define ANGLES_OP_UNLINK	'U' /* the table is linked no more */

/* The key of an ANGLES_OP_UNLINK after which nothing is known of the pages either. */
#define ANGLES_FORGET_PAGES	"forget"

/* What a person decided about an entry of the queue, which only the worker writes (30_sync.sql). */
#define ANGLES_OP_RETRY		'Y'
#define ANGLES_OP_APPROVE	'A'
#define ANGLES_OP_REFUSE	'F'

/* What a person decided about a conflict; new_key: "number:side:who". */
#define ANGLES_OP_RESOLVE	'C'

/* A change made in Notion was dealt with: what waited for that is planned. */
#define ANGLES_OP_INBOUND	'I'

/*
 * A webhook tells that something has changed in the link's data source (37_webhook.sql); the key
 * begins with what, and names the page, if it is one, behind a colon. new_key: the bot that has
 * done it all alone.
 */
#define ANGLES_OP_HINT		'H'

#define ANGLES_HINT_EDITED	'e' /* a page was made or edited */
#define ANGLES_HINT_GONE	'g' /* a page went into the trash */
#define ANGLES_HINT_PLACE	'p' /* a page came out of the trash, or was moved from or to here */
#define ANGLES_HINT_SOURCE	's' /* the data source itself: its properties, its place, its pages */

/*
 * As angles_changelog_add(), for ANGLES_OP_TOUCH and ANGLES_OP_DELETE of a row whose key has so
 * many bytes. "often" tells that the same key may be changed again and again in this transaction,
 * so that it pays to remember it and log it once.
 */
extern void angles_changelog_row(int32 link_id, char op, const char *key, int len, bool often);

/*
 * Remembers a change of this transaction; it is written at commit, or lost with the
 * subtransaction it belongs to. new_key is for ANGLES_OP_REKEY only. Both texts are copied.
 */
extern void angles_changelog_add(int32 link_id, char op, const char *key, const char *new_key);

/* Whether the transaction under way has captured changes. */
extern bool angles_changelog_is_open(void);

/* Wakes the sync worker when this transaction commits, for changes of other things than rows. */
extern void angles_changelog_wake_at_commit(void);

/*
 * Returns the oid of the n-th table of the log, or InvalidOid when the extension is not there.
 */
extern Oid	angles_changelog_table(int n);

/*
 * Takes the links whose capture failed (the durable marks that a backend leaves when it cannot
 * write to the log) of this database: calls fn for each link id. The mark is removed by
 * angles_changelog_forget_mark() once the reconcile is durable.
 */
extern void angles_changelog_marks(void (*fn) (int32 link_id, void *arg), void *arg);
extern void angles_changelog_forget_mark(int32 link_id);

/* Returns true when marks may have been made since the last call; costs one stat(). */
extern bool angles_changelog_new_marks(void);

/* Registers the transaction callbacks. Once, from angles_sync_install(). */
extern void angles_changelog_install(void);

#endif							/* ANGLES_CHANGELOG_H */
