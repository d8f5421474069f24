/*
 * changelog.c
 *		Collects the changes of one transaction in memory and appends them to the log at commit.
 *
 * Runs in user backends. It must never make a user's transaction fail, wait behind a worker, or
 * write anything but appends. See README.md in this folder for why it is a log and not a queue.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/owncommit.h"
#include "worker/worker.h"

/*
 * When the changes in memory have grown by this many bytes (about 10,000 keys), they are written
 * before the commit, to bound the backend's memory.
 */
#define EARLY_WRITE (128 * 1024)

/* Bytes of the keys that share a row of the log: four rows fill a page, and none is toasted. */
#define PACK_BYTES 1920

/* Bytes of a key as an element of a text[]. */
#define ELEMENT_SIZE(len) ((int) INTALIGN(VARHDRSZ + (len)))

/* Rows given to the table access method at a time. */
#define BATCH 500

#define LOG_COLUMNS 8

/* Marks of failed captures stand here, below the data directory. */
#define MARK_DIR "angles"
#define MARK_PATH MARK_DIR "/%s_%u_%d"

/*
 * A row of the log to be: the keys of changes of one kind that followed each other. They are kept
 * as elements of a text[], which is written as it is; a single one is written as a text.
 */
typedef struct Change
{
	int32		link_id;
	char		op;
	SubTransactionId subid;		/* the one that it is lost with, or a child that has committed */
	SubTransactionId written_in;	/* see write_changes(); 0: not written */
	int			n_keys;			/* for ANGLES_OP_REKEY two: the old and the new one */
	int			used;
	int			size;
	ArrayType  *keys;			/* its size and number are set when it is written */
} Change;

/*
 * The newest change of keys that may be changed often, so that this is logged once. Keys that are
 * not here are logged whenever they change.
 */
typedef struct KnownKey
{
	const char *data;			/* inside of a Change */
	int			len;
	int32		link_id;
} KnownKey;

typedef struct KnownEntry
{
	KnownKey	key;
	uint32		hash;
	char		op;
	char		status;
} KnownEntry;

static inline uint32
known_hash_key(KnownKey key)
{
	return hash_combine(hash_bytes((const unsigned char *) key.data, key.len), key.link_id);
}

#define SH_PREFIX known
#define SH_ELEMENT_TYPE KnownEntry
#define SH_KEY_TYPE KnownKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) known_hash_key(k)
#define SH_EQUAL(tb, a, b) ((a).link_id == (b).link_id && (a).len == (b).len && \
							memcmp((a).data, (b).data, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, e) (e)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* All of it lives in "memory", a child of TopTransactionContext, and dies with the transaction. */
static MemoryContext memory = NULL;
static Change *changes = NULL;
static int	n_changes = 0;
static int	max_changes = 0;
static int	n_written = 0;		/* the first ones wait for the end of a subtransaction */
static Size n_bytes = 0;		/* of all changes */
static Size next_write = EARLY_WRITE;	/* at so many bytes */
static known_hash *known = NULL;
static bool wrote = false;		/* this transaction appended to the log */
static bool tell_late = false;	/* the wake must wait for this transaction's invalidations */
static bool warned = false;		/* this transaction warned of a failed capture */

static bool wake_at_release = false;

static void start_collecting(void);
static char *add_key(int32 link_id, char op, const char *key, int len);
static Change *new_change(int32 link_id, char op, int room);
static bool make_room(Change *change, int len);
static char *append_key(Change *change, const char *key, int len);
static void forget_before_truncate(int32 link_id);
static void subtransaction_aborted(SubTransactionId mine);
static void subtransaction_committed(SubTransactionId mine, SubTransactionId parent);
static void forget_transaction(void);
static void drop_changes(int from, int to);
static void write_changes(void);
static void write_job(void *arg);
static Relation open_log(void);
static void append(Relation log, int64 id);
static void fill_slot(TupleTableSlot *slot, const Change *change, int64 id, int ord, Datum now);
static void remember(const Change *change);
static void mark_failed_capture(int first, const ErrorData *error);
static bool write_mark(int32 link_id);
static bool flush_path(const char *path, int flags);
static char *mark_path(const char *kind, int32 link_id);
static void xact_callback(XactEvent event, void *arg);
static void release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
							 void *arg);

void
angles_changelog_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
}

void
angles_changelog_row(int32 link_id, char op, const char *key, int len, bool often)
{
	KnownKey	probe = {key, len, link_id};
	KnownEntry *entry;
	bool		found;

	if (memory == NULL)
		start_collecting();
	entry = known->members > 0 ? known_lookup(known, probe) : NULL;
	if (entry != NULL && entry->op == op)
		return;
	probe.data = add_key(link_id, op, key, len);
	if (entry == NULL && often)
		entry = known_insert(known, probe, &found);
	if (entry != NULL)
	{
		entry->key = probe;
		entry->op = op;
	}
	if (n_bytes >= next_write)
		write_changes();
}

void
angles_changelog_add(int32 link_id, char op, const char *key, const char *new_key)
{
	int			len = strlen(key);

	if (memory == NULL)
		start_collecting();
	if (op == ANGLES_OP_REKEY)
	{
		int			new_len = strlen(new_key);
		Change	   *change = new_change(link_id, op, ELEMENT_SIZE(len) + ELEMENT_SIZE(new_len));
		KnownKey	old = {append_key(change, key, len), len, link_id};
		KnownKey	new = {append_key(change, new_key, new_len), new_len, link_id};

		/* from here on both keys may stand for other rows than before */
		known_delete(known, old);
		known_delete(known, new);
	}
	else if (op == ANGLES_OP_TRUNCATE)
	{
		forget_before_truncate(link_id);
		if (memory == NULL)
			start_collecting();
		(void) add_key(link_id, op, key, len);
	}
	else
		angles_changelog_row(link_id, op, key, len, true);
	if (n_bytes >= next_write)
		write_changes();
}

/* An error here must not leave half of it: the transaction may go on after it. */
static void
start_collecting(void)
{
	MemoryContext fresh = AllocSetContextCreate(TopTransactionContext, "angles changes",
												ALLOCSET_DEFAULT_SIZES);

	max_changes = 16;
	changes = MemoryContextAlloc(fresh, max_changes * sizeof(Change));
	known = known_create(fresh, 16, NULL);
	n_changes = n_written = 0;
	n_bytes = 0;
	next_write = EARLY_WRITE;
	memory = fresh;
}

/* Returns the key's new home. It joins the last change when that is of the same kind. */
static char *
add_key(int32 link_id, char op, const char *key, int len)
{
	Change	   *last = n_changes > 0 ? &changes[n_changes - 1] : NULL;

	if (last != NULL && last->link_id == link_id && last->op == op &&
		(op == ANGLES_OP_TOUCH || op == ANGLES_OP_DELETE) &&
		last->subid == GetCurrentSubTransactionId() && make_room(last, len))
		return append_key(last, key, len);
	return append_key(new_change(link_id, op, ELEMENT_SIZE(len)), key, len);
}

/* Returns a new change with room for so many bytes of elements. */
static Change *
new_change(int32 link_id, char op, int room)
{
	int			size = ARR_OVERHEAD_NONULLS(1) + room;
	Change	   *change;

	if (n_changes == max_changes)
	{
		changes = repalloc_huge(changes, (Size) max_changes * 2 * sizeof(Change));
		max_changes *= 2;
	}
	change = &changes[n_changes];
	change->keys = MemoryContextAllocHuge(memory, size);
	change->keys->ndim = 1;
	change->keys->dataoffset = 0;
	change->keys->elemtype = TEXTOID;
	ARR_LBOUND(change->keys)[0] = 1;
	change->link_id = link_id;
	change->op = op;
	change->subid = GetCurrentSubTransactionId();
	change->written_in = InvalidSubTransactionId;
	change->n_keys = 0;
	change->used = ARR_OVERHEAD_NONULLS(1);
	change->size = size;
	n_bytes += sizeof(Change) + size;
	n_changes++;
	return change;
}

/*
 * Returns whether another key fits into a change. One that was made for a single key gets the room
 * for many, once; the hash may point to that key.
 */
static bool
make_room(Change *change, int len)
{
	KnownKey	first;
	KnownEntry *entry;
	ArrayType  *keys;

	if (change->used + ELEMENT_SIZE(len) <= change->size)
		return true;
	if (change->n_keys != 1 || change->used + ELEMENT_SIZE(len) > PACK_BYTES)
		return false;
	keys = MemoryContextAlloc(memory, PACK_BYTES);
	memcpy(keys, change->keys, change->used);
	first.data = VARDATA(ARR_DATA_PTR(keys));
	first.len = VARSIZE(ARR_DATA_PTR(keys)) - VARHDRSZ;
	first.link_id = change->link_id;
	entry = known->members > 0 ? known_lookup(known, first) : NULL;
	if (entry != NULL)
		entry->key = first;
	pfree(change->keys);
	change->keys = keys;
	n_bytes += PACK_BYTES - change->size;
	change->size = PACK_BYTES;
	return true;
}

static char *
append_key(Change *change, const char *key, int len)
{
	char	   *element = (char *) change->keys + change->used;
	int			size = ELEMENT_SIZE(len);

	/* what stands behind the key up to the next one goes to disk, too */
	memset(element + size - ALIGNOF_INT, 0, ALIGNOF_INT);
	SET_VARSIZE(element, VARHDRSZ + len);
	memcpy(VARDATA(element), key, len);
	change->used += size;
	change->n_keys++;
	return VARDATA(element);
}

void
angles_changelog_wake_at_commit(void)
{
	wrote = true;
	tell_late = true;
}

Oid
angles_changelog_table(int n)
{
	Oid			schema = get_namespace_oid("angles", true);
	char		name[NAMEDATALEN];

	if (!OidIsValid(schema))
		return InvalidOid;
	snprintf(name, sizeof(name), "change_log_%d", n);
	return get_relname_relid(name, schema);
}

/*
 * What is known of keys is of before, so that their next changes are logged again. A compare that
 * this subtransaction asked for is needed no more: its TRUNCATE told of each partition, too.
 */
static void
forget_before_truncate(int32 link_id)
{
	SubTransactionId mine = GetCurrentSubTransactionId();

	known_reset(known);
	for (int i = n_changes - 1; i >= 0 && changes[i].subid >= mine; i--)
		if (changes[i].link_id == link_id && changes[i].op == ANGLES_OP_RECONCILE)
			drop_changes(i, i + 1);
}

/* ---- transaction ends ---- */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (n_changes > 0)
				write_changes();
			if (wrote)
				angles_wake_prepare();
			break;
		case XACT_EVENT_COMMIT:
			if (wrote)
				angles_wake_fire();
			wake_at_release = tell_late;
			angles_own_committed();
			forget_transaction();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* whoever runs COMMIT PREPARED wakes the worker: see the utility hook */
			angles_own_forget();
			forget_transaction();
			break;
		default:
			break;
	}
}

/*
 * The commit callback comes before the transaction's invalidation messages are sent. A worker that
 * is to see a changed link must be woken after them: the locks are released last of all.
 */
static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg)
{
	if (!wake_at_release || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top)
		return;
	wake_at_release = false;
	if (is_commit)
		angles_wake_fire();
}

/*
 * Subtransaction ids grow: all changes made since a subtransaction began, by itself or by a
 * child, carry an id not below its own, and they are the tail of the array.
 */
static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	(void) arg;
	if (n_changes == 0)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		subtransaction_aborted(mine);
	else if (event == SUBXACT_EVENT_COMMIT_SUB && n_written > 0)
		subtransaction_committed(mine, parent);
}

/* Its changes are lost, and so is what it wrote for others: that has to be written again. */
static void
subtransaction_aborted(SubTransactionId mine)
{
	int			first = n_changes;

	while (n_written > 0 && changes[n_written - 1].written_in >= mine)
		changes[--n_written].written_in = InvalidSubTransactionId;
	while (first > 0 && changes[first - 1].subid >= mine)
		first--;
	drop_changes(first, n_changes);
}

/* What it wrote is its parent's now; what the parent, too, would lose together with it is done. */
static void
subtransaction_committed(SubTransactionId mine, SubTransactionId parent)
{
	int			done = n_written;

	for (int i = n_written - 1; i >= 0 && changes[i].written_in == mine; i--)
	{
		changes[i].written_in = parent;
		if (changes[i].subid >= parent)
			done = i;
	}
	drop_changes(done, n_written);
}

static void
forget_transaction(void)
{
	/* the memory itself goes with TopTransactionContext */
	memory = NULL;
	changes = NULL;
	known = NULL;
	n_changes = max_changes = n_written = 0;
	wrote = warned = tell_late = false;
}

/*
 * Takes changes out of the array; allocates nothing. A key that another change names too is not
 * found in the hash afterwards; its next change is then logged a second time, which is harmless.
 */
static void
drop_changes(int from, int to)
{
	if (from == to)
		return;
	if (from == 0 && to == n_changes)
	{
		MemoryContextDelete(memory);
		memory = NULL;
		changes = NULL;
		known = NULL;
		n_changes = max_changes = n_written = 0;
		n_bytes = 0;
		return;
	}
	for (int i = from; i < to; i++)
	{
		char	   *element = ARR_DATA_PTR(changes[i].keys);

		for (int k = 0; k < changes[i].n_keys && known->members > 0; k++)
		{
			KnownKey	key = {VARDATA(element), VARSIZE(element) - VARHDRSZ, changes[i].link_id};

			known_delete(known, key);
			element += INTALIGN(VARSIZE(element));
		}
		n_bytes -= sizeof(Change) + changes[i].size;
		pfree(changes[i].keys);
	}
	memmove(&changes[from], &changes[to], (n_changes - to) * sizeof(Change));
	n_written -= Max(0, Min(to, n_written) - from);
	n_changes -= to - from;
	next_write = Min(next_write, n_bytes + EARLY_WRITE);
}

/* ---- writing ---- */

/*
 * Appends the changes that are not written yet to the log. Whatever goes wrong there stays there:
 * the subtransaction is rolled back, the links are marked for a full compare, and the user's
 * transaction goes on. Only a cancel or a termination gets through.
 *
 * Before the commit this happens in the subtransaction that made the last change, with whose
 * rollback the rows of the log are lost. Changes of the ones around it must not be lost then: they
 * stay in memory, marked, until it has ended. So a loop that changes each row in a subtransaction
 * of its own needs no more memory than one that does not.
 */
static void
write_changes(void)
{
	SubTransactionId mine = GetCurrentSubTransactionId();
	int			kept = n_changes;
	bool		written = false;
	ErrorData  *error;

	if (n_written == n_changes)
		return;
	error = angles_txn_try(write_job, &written, false);
	if (error != NULL)
	{
		/* a mark is not lost with a subtransaction */
		mark_failed_capture(n_written, error);
		kept = n_written;
	}
	wrote = wrote || written;
	while (kept > n_written && changes[kept - 1].subid >= mine)
		kept--;
	for (int i = n_written; i < kept; i++)
		changes[i].written_in = mine;
	n_written = kept;
	drop_changes(kept, n_changes);
	next_write = n_bytes + EARLY_WRITE;
}

/* Sets *arg when rows were written: none are, when the extension has gone. */
static void
write_job(void *arg)
{
	Relation	log = open_log();
	Oid			sequence;
	int64		id;

	if (log == NULL)
		return;
	sequence = get_relname_relid("change_log_seq", RelationGetNamespace(log));
	id = nextval_internal(sequence, false);
	angles_own_number(sequence, id);
	append(log, id);
	*(bool *) arg = true;

	/* the lock is kept to the end of the transaction, as for any table that was written */
	table_close(log, NoLock);
}

/*
 * Returns the first table of the log that is not full. A table that the worker is just emptying
 * is passed over, so nobody waits for it; the last one takes what no other can. Returns NULL when
 * this very transaction has dropped the extension, and the links with it.
 */
static Relation
open_log(void)
{
	for (int n = 0; n < ANGLES_LOG_TABLES; n++)
	{
		bool		last = n == ANGLES_LOG_TABLES - 1;
		Oid			relid = angles_changelog_table(n);
		Relation	log;

		if (!OidIsValid(relid) && !OidIsValid(get_extension_oid("angles", true)))
			return NULL;
		if (!OidIsValid(relid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("table \"angles.change_log_%d\" does not exist", n)));
		if (last)
			LockRelationOid(relid, RowExclusiveLock);
		else if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
			continue;
		log = table_open(relid, NoLock);
		if (last || RelationGetNumberOfBlocks(log) < ANGLES_LOG_BLOCKS)
			return log;
		table_close(log, RowExclusiveLock);
	}
	pg_unreachable();
}

static void
append(Relation log, int64 id)
{
	TupleDesc	desc = RelationGetDescr(log);
	/* a ring of buffers pays only for many rows */
	BulkInsertState bulk = n_changes - n_written > BATCH ? GetBulkInsertState() : NULL;
	CommandId	cid = GetCurrentCommandId(true);
	int			n_slots = Min(BATCH, n_changes - n_written);
	TupleTableSlot **slots = palloc(n_slots * sizeof(TupleTableSlot *));
	Datum		now = TimestampTzGetDatum(angles_clock_now());
	int			filled = 0;
	int			ord = 0;

	for (int i = 0; i < n_slots; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, table_slot_callbacks(log));
	for (int i = n_written; i < n_changes; i++)
	{
		fill_slot(slots[filled++], &changes[i], id, ord, now);
		remember(&changes[i]);
		ord += changes[i].n_keys;
		if (filled == n_slots || i == n_changes - 1)
		{
			table_multi_insert(log, slots, filled, cid, 0, bulk);
			for (int s = 0; s < filled; s++)
				ExecClearTuple(slots[s]);
			filled = 0;
			CHECK_FOR_INTERRUPTS();
		}
	}
	for (int i = 0; i < n_slots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
	if (bulk)
		FreeBulkInsertState(bulk);
}

/* A row of one key is written without the array, which only several pay for. */
static void
fill_slot(TupleTableSlot *slot, const Change *change, int64 id, int ord, Datum now)
{
	char	   *first = ARR_DATA_PTR(change->keys);
	bool		rekey = change->op == ANGLES_OP_REKEY;
	bool		packed = change->n_keys > 1 && !rekey;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, LOG_COLUMNS * sizeof(bool));
	slot->tts_values[0] = Int64GetDatum(id);
	slot->tts_values[1] = Int32GetDatum(ord);
	slot->tts_values[2] = Int32GetDatum(change->link_id);
	slot->tts_values[3] = CharGetDatum(change->op);
	slot->tts_values[4] = packed ? CStringGetTextDatum("") : PointerGetDatum(first);
	slot->tts_isnull[5] = !rekey;
	if (rekey)
		slot->tts_values[5] = PointerGetDatum(first + INTALIGN(VARSIZE(first)));
	slot->tts_values[6] = now;
	slot->tts_isnull[7] = !packed;
	if (packed)
	{
		SET_VARSIZE(change->keys, change->used);
		ARR_DIMS(change->keys)[0] = change->n_keys;
		slot->tts_values[7] = PointerGetDatum(change->keys);
	}
	ExecStoreVirtualTuple(slot);
}

/* Notes what angles.wait_synced() will have to look at. */
static void
remember(const Change *change)
{
	char	   *element = ARR_DATA_PTR(change->keys);

	/* only whoever looks at the link as a whole finds these again */
	if (change->op == ANGLES_OP_LINK || change->op == ANGLES_OP_RECONCILE)
		angles_own_link(change->link_id);
	else
		for (int k = 0; k < change->n_keys; k++, element += INTALIGN(VARSIZE(element)))
			angles_own_key(change->link_id, VARDATA(element), VARSIZE(element) - VARHDRSZ);
}

bool
angles_changelog_is_open(void)
{
	return n_changes > 0 || angles_own_is_open();
}

/* ---- when the log cannot be written ---- */

static void
mark_failed_capture(int first, const ErrorData *error)
{
	int32		last_link = 0;
	bool		durable = true;

	for (int i = first; i < n_changes; i++)
	{
		if (changes[i].link_id == last_link)
			continue;
		last_link = changes[i].link_id;
		angles_own_link(last_link);
		durable = write_mark(last_link) && durable;
	}
	/* the worker shall look at the marks after the commit */
	wrote = true;
	if (warned)
		return;
	warned = true;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("angles could not capture the changes of this transaction: %s",
					error->message),
			 errdetail(durable
					   ? "The linked tables are marked and will be compared with Notion in full."
					   : "The linked tables could not even be marked for a full compare."),
			 errhint("Look at angles.status; SELECT angles.reconcile(table) starts a full "
					 "compare.")));
}

/*
 * Returns whether the mark of a link is on disk. A file, because the database cannot be written.
 * Here is nobody left to catch an error: all that is called returns failures instead.
 */
static bool
write_mark(int32 link_id)
{
	char		path[MAXPGPATH];
	bool		made = MakePGDirectory(MARK_DIR) == 0;

	if (!made && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), MARK_PATH, "reconcile", MyDatabaseId, link_id);
	return flush_path(path, O_WRONLY | O_CREAT) && flush_path(MARK_DIR, O_RDONLY) &&
		(!made || flush_path(".", O_RDONLY));
}

static bool
flush_path(const char *path, int flags)
{
	int			fd = BasicOpenFile(path, flags | PG_BINARY);
	bool		done;

	if (fd < 0)
		return false;
	done = pg_fsync(fd) == 0;
	return close(fd) == 0 && done;
}

static char *
mark_path(const char *kind, int32 link_id)
{
	return psprintf(MARK_PATH, kind, MyDatabaseId, link_id);
}

bool
angles_changelog_new_marks(void)
{
	static struct timespec seen = {0, 0};
	struct stat st;

	if (stat(MARK_DIR, &st) != 0 ||
		(st.st_mtim.tv_sec == seen.tv_sec && st.st_mtim.tv_nsec == seen.tv_nsec))
		return false;
	seen = st.st_mtim;
	return true;
}

/*
 * A mark is renamed before it is acted on, so that one that is made meanwhile is a new file and is
 * not removed together with it.
 */
void
angles_changelog_marks(void (*fn) (int32 link_id, void *arg), void *arg)
{
	DIR		   *dir;
	struct dirent *de;

	if (access(MARK_DIR, F_OK) != 0)
		return;
	dir = AllocateDir(MARK_DIR);
	while ((de = ReadDirExtended(dir, MARK_DIR, LOG)) != NULL)
	{
		unsigned int dboid;
		int			link_id;
		char	   *made;

		if (sscanf(de->d_name, "taken_%u_%d", &dboid, &link_id) == 2 && dboid == MyDatabaseId)
			fn(link_id, arg);
		if (sscanf(de->d_name, "reconcile_%u_%d", &dboid, &link_id) != 2 || dboid != MyDatabaseId)
			continue;
		made = mark_path("reconcile", link_id);
		if (durable_rename(made, mark_path("taken", link_id), LOG) == 0)
			fn(link_id, arg);
	}
	FreeDir(dir);
}

void
angles_changelog_forget_mark(int32 link_id)
{
	char	   *path = mark_path("taken", link_id);

	if (unlink(path) != 0 && errno != ENOENT)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	pfree(path);
}
