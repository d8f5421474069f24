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
#include "commands/extension.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/txn.h"
#include "sync/changelog.h"
#include "worker/worker.h"

/* More changes than this are written before the commit, to bound the backend's memory. */
#define EARLY_WRITE 10000

/* Rows given to the table access method at a time. */
#define BATCH 500

#define LOG_COLUMNS 7

/* Marks of failed captures stand here, below the data directory. */
#define MARK_DIR "angles"
#define MARK_PATH MARK_DIR "/%s_%u_%d"

typedef struct Change
{
	int32		link_id;
	char		op;
	SubTransactionId subid;
	char	   *key;
	char	   *new_key;
} Change;

/* The newest change of each key, so that a row changed often is logged once. */
typedef struct KnownKey
{
	const char *key;
	int32		link_id;
} KnownKey;

typedef struct KnownEntry
{
	KnownKey	key;
	int32		index;			/* in changes[] */
	uint32		hash;
	char		status;
} KnownEntry;

static inline uint32
known_hash_key(KnownKey key)
{
	return hash_bytes_extended((const unsigned char *) key.key, strlen(key.key), key.link_id);
}

#define SH_PREFIX known
#define SH_ELEMENT_TYPE KnownEntry
#define SH_KEY_TYPE KnownKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) known_hash_key(k)
#define SH_EQUAL(tb, a, b) ((a).link_id == (b).link_id && strcmp((a).key, (b).key) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, e) (e)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Changes to be written, from an index on; nothing is, when the extension has gone. */
typedef struct WriteJob
{
	int			first;
	bool		written;
} WriteJob;

/* All of it lives in "memory", a child of TopTransactionContext, and dies with the transaction. */
static MemoryContext memory = NULL;
static Change *changes = NULL;
static int	n_changes = 0;
static int	max_changes = 0;
static known_hash *known = NULL;
static bool wrote = false;		/* this transaction appended to the log */
static bool tell_late = false;	/* the wake must wait for this transaction's invalidations */
static bool warned = false;		/* this transaction warned of a failed capture */

static bool wake_at_release = false;

static void forget_before_truncate(int32 link_id);
static void forget_transaction(void);
static void drop_changes_from(int first);
static void write_changes_from(int first);
static void write_job(void *arg);
static Relation open_log(void);
static void append(Relation log, int first, int64 id);
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
angles_changelog_add(int32 link_id, char op, const char *key, const char *new_key)
{
	KnownKey	probe = {key, link_id};
	KnownEntry *entry;
	MemoryContext old;
	Change	   *change;
	bool		found;

	if (memory == NULL)
	{
		memory = AllocSetContextCreate(TopTransactionContext, "angles changes",
									   ALLOCSET_DEFAULT_SIZES);
		max_changes = 64;
		changes = MemoryContextAlloc(memory, max_changes * sizeof(Change));
		n_changes = 0;
		known = known_create(memory, 64, NULL);
	}
	if (op == ANGLES_OP_TRUNCATE)
		forget_before_truncate(link_id);
	entry = known_lookup(known, probe);
	if (entry != NULL && changes[entry->index].op == op && op != ANGLES_OP_REKEY)
		return;

	old = MemoryContextSwitchTo(memory);
	if (n_changes == max_changes)
	{
		max_changes *= 2;
		changes = repalloc_huge(changes, max_changes * sizeof(Change));
	}
	change = &changes[n_changes];
	change->link_id = link_id;
	change->op = op;
	change->subid = GetCurrentSubTransactionId();
	change->key = pstrdup(key);
	change->new_key = new_key ? pstrdup(new_key) : NULL;
	n_changes++;
	if (op == ANGLES_OP_REKEY)
	{
		/* from here on both keys may stand for other rows than before */
		KnownKey	other = {new_key, link_id};

		known_delete(known, probe);
		known_delete(known, other);
	}
	else
	{
		KnownKey	kept = {change->key, link_id};

		entry = known_insert(known, kept, &found);
		entry->key = kept;
		entry->index = n_changes - 1;
	}
	MemoryContextSwitchTo(old);

	if (n_changes % EARLY_WRITE == 0)
	{
		int			first = n_changes;

		/* what an outer subtransaction added must survive the rollback of this one: it stays */
		while (first > 0 && changes[first - 1].subid >= GetCurrentSubTransactionId())
			first--;
		if (n_changes - first >= EARLY_WRITE)
			write_changes_from(first);
	}
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
	int			first = n_changes;
	int			kept;

	known_reset(known);
	while (first > 0 && changes[first - 1].subid >= GetCurrentSubTransactionId())
		first--;
	kept = first;
	for (int i = first; i < n_changes; i++)
		if (changes[i].link_id != link_id || changes[i].op != ANGLES_OP_RECONCILE)
			changes[kept++] = changes[i];
	n_changes = kept;
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
				write_changes_from(0);
			if (wrote)
				angles_wake_prepare();
			break;
		case XACT_EVENT_COMMIT:
			if (wrote)
				angles_wake_fire();
			wake_at_release = tell_late;
			forget_transaction();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* whoever runs COMMIT PREPARED wakes the worker: see the utility hook */
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
	int			first = n_changes;

	if (event != SUBXACT_EVENT_ABORT_SUB || n_changes == 0)
		return;
	while (first > 0 && changes[first - 1].subid >= mine)
		first--;
	drop_changes_from(first);
}

static void
forget_transaction(void)
{
	/* the memory itself goes with TopTransactionContext */
	memory = NULL;
	changes = NULL;
	known = NULL;
	n_changes = max_changes = 0;
	wrote = warned = tell_late = false;
}

/*
 * Takes the tail of the array away. A key that an earlier change names too is not found in the hash
 * afterwards; its next change is then logged a second time, which is harmless.
 */
static void
drop_changes_from(int first)
{
	for (int i = first; i < n_changes; i++)
	{
		KnownKey	key = {changes[i].key, changes[i].link_id};

		known_delete(known, key);
	}
	n_changes = first;
}

/* ---- writing ---- */

/*
 * Appends changes[first..] to the log and forgets them. Whatever goes wrong there stays there: the
 * subtransaction is rolled back, the links are marked for a full compare, and the user's
 * transaction goes on. Only a cancel or a termination gets through.
 */
static void
write_changes_from(int first)
{
	ErrorData  *error;
	WriteJob	job = {first, false};

	error = angles_txn_try(write_job, &job, false);
	if (error != NULL)
		mark_failed_capture(first, error);
	else if (job.written)
		wrote = true;
	drop_changes_from(first);
}

static void
write_job(void *arg)
{
	WriteJob   *job = (WriteJob *) arg;
	Relation	log = open_log();
	Oid			sequence;

	if (log == NULL)
		return;
	sequence = get_relname_relid("change_log_seq", RelationGetNamespace(log));
	append(log, job->first, nextval_internal(sequence, false));
	job->written = true;

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
append(Relation log, int first, int64 id)
{
	TupleDesc	desc = RelationGetDescr(log);
	/* a ring of buffers pays only for many rows */
	BulkInsertState bulk = n_changes - first > BATCH ? GetBulkInsertState() : NULL;
	CommandId	cid = GetCurrentCommandId(true);
	int			n_slots = Min(BATCH, n_changes - first);
	TupleTableSlot **slots = palloc(n_slots * sizeof(TupleTableSlot *));
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "angles log batch",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	Datum		now = TimestampTzGetDatum(angles_clock_now());
	int			filled = 0;

	for (int i = 0; i < n_slots; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, table_slot_callbacks(log));
	for (int i = first; i < n_changes; i++)
	{
		TupleTableSlot *slot = slots[filled++];

		MemoryContextSwitchTo(batch);
		ExecClearTuple(slot);
		memset(slot->tts_isnull, false, LOG_COLUMNS * sizeof(bool));
		slot->tts_values[0] = Int64GetDatum(id);
		slot->tts_values[1] = Int32GetDatum(i);
		slot->tts_values[2] = Int32GetDatum(changes[i].link_id);
		slot->tts_values[3] = CharGetDatum(changes[i].op);
		slot->tts_values[4] = CStringGetTextDatum(changes[i].key);
		slot->tts_isnull[5] = changes[i].new_key == NULL;
		if (changes[i].new_key)
			slot->tts_values[5] = CStringGetTextDatum(changes[i].new_key);
		slot->tts_values[6] = now;
		ExecStoreVirtualTuple(slot);
		if (filled == n_slots || i == n_changes - 1)
		{
			MemoryContextSwitchTo(old);
			table_multi_insert(log, slots, filled, cid, 0, bulk);
			for (int s = 0; s < filled; s++)
				ExecClearTuple(slots[s]);
			MemoryContextReset(batch);
			filled = 0;
			CHECK_FOR_INTERRUPTS();
		}
	}
	for (int i = 0; i < n_slots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	if (bulk)
		FreeBulkInsertState(bulk);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
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
