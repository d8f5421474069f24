/*
 * load.c
 *		Reads the rows that changed, as the owner of the link, in a read-only subtransaction that is
 *		always rolled back: whatever a row security policy or a filter may call cannot write, and
 *		cannot leave anything to be done at commit as the worker's own user.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"

#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/engine.h"
#include "worker/worker.h"

/* Reads of a batch that may run into angles.row_read_timeout. */
#define LONG_READS 3

typedef struct LoadJob
{
	Link	   *link;
	int			n;
	Entry	  **entries;
	MemoryContext result;
} LoadJob;

typedef struct ScanJob
{
	Link	   *link;
	const char *cursor;
	int			limit;
	bool		all;			/* without the filter, which cannot be evaluated */
	RowSet	   *keys;
	MemoryContext result;
} ScanJob;

static void load_job(void *arg);
static ErrorData *load_parts(Link *link, int n, Entry **entries, ErrorData **errors,
							 int *patience);
static bool is_about_values(const ErrorData *error);
static void find_hidden(Link *link, int n, Entry **entries);
static Datum key_array(const LoadJob *job);
static void take_reference(const SyncColumn *column, Entry *entry, int i, HeapTuple tuple,
						   TupleDesc desc);
static ErrorData *scan(ScanJob *job);
static void scan_job(void *arg);
static void apply_page_id(Entry **entries, int n, int32 link_id, const char *key,
						  const char *page_id, bool will_come);

ErrorData *
angles_load_rows(Link *link, int n, Entry **entries)
{
	ErrorData **errors = palloc0(n * sizeof(ErrorData *));
	ErrorData  *error;
	int			n_errors = 0;
	bool		about_values = true;
	int			patience = LONG_READS;

	for (int i = 0; i < n; i++)
	{
		Entry	   *entry = entries[i];

		angles_load_clear(link, entry);
	}
	error = load_parts(link, n, entries, errors, &patience);
	if (error != NULL)
		return error;
	for (int i = 0; i < n; i++)
	{
		if (errors[i] == NULL)
			continue;
		n_errors++;
		error = errors[i];
		about_values = about_values && is_about_values(error);
		entries[i]->unreadable = psprintf("the row cannot be read: %s (SQLSTATE %s)",
										  error->message,
										  angles_sqlstate_text(error->sqlerrcode));
	}
	/* where no row can be read, and values are not the reason, the table is what is wrong */
	if (n_errors == n && !about_values)
		return error;
	find_hidden(link, n, entries);
	return NULL;
}

void
angles_load_clear(const Link *link, Entry *entry)
{
	entry->found = entry->in_scope = false;
	entry->unreadable = NULL;
	entry->not_read = false;
	entry->local = palloc0(Max(link->n_columns, 1) * sizeof(char *));
	entry->problems = palloc0(Max(link->n_columns, 1) * sizeof(char *));
	entry->ref_keys = palloc0(Max(link->n_columns, 1) * sizeof(char *));
}

/*
 * Reads the rows of a part of the batch; when that fails, of its halves. Errors are kept in
 * errors[], which is parallel to the entries. Gives up at once where all that would help is time;
 * where rows take long, others than the first ones are left for later: all tables wait meanwhile.
 */
static ErrorData *
load_parts(Link *link, int n, Entry **entries, ErrorData **errors, int *patience)
{
	LoadJob		job = {link, n, entries, CurrentMemoryContext};
	ErrorData  *error;
	ErrorData  *worse;

	if (*patience == 0)
	{
		for (int i = 0; i < n; i++)
			entries[i]->not_read = true;
		return NULL;
	}
	angles_worker_reading(link->id);
	error = angles_txn_try_for(load_job, &job, true, angles_guc_row_read_timeout);
	angles_worker_reading(0);
	if (error == NULL)
		return NULL;
	if (angles_load_is_busy(error))
		return error;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		int			part = Max(1, n / 8);

		(*patience)--;
		/* the next tries shall be ones that end, or tell which row it is */
		for (int i = 0; n > 1 && i < n; i += part)
			if ((worse = load_parts(link, Min(part, n - i), entries + i, errors + i,
									patience)) != NULL)
				return worse;
		if (n > 1)
			return NULL;
	}
	if (n == 1)
	{
		errors[0] = error;
		return NULL;
	}
	worse = load_parts(link, n / 2, entries, errors, patience);
	return worse ? worse : load_parts(link, n - n / 2, entries + n / 2, errors + n / 2, patience);
}

void
angles_load_lock(const Link *link)
{
	if (!ConditionalLockRelationOid(link->relid, AccessShareLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("somebody is altering the table, or waits to do so")));
}

bool
angles_load_is_busy(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* Whether an error tells of the values of a row, and not of the table or of rights. */
static bool
is_about_values(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		category == ERRCODE_PLPGSQL_ERROR || error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/*
 * A row that row security hides from the link's owner is not sent, and it is no deleted row
 * either: it is out of scope. Unless its deletion was captured, absence proves nothing here.
 */
static void
find_hidden(Link *link, int n, Entry **entries)
{
	bool		missing = false;

	for (int i = 0; i < n; i++)
		missing = missing || (!entries[i]->found && !entries[i]->deleted);
	if (!missing || check_enable_rls(link->relid, link->owner, true) != RLS_ENABLED)
		return;
	for (int i = 0; i < n; i++)
		entries[i]->found = entries[i]->found || !entries[i]->deleted;
}

static Datum
key_array(const LoadJob *job)
{
	Datum	   *keys = palloc(job->n * sizeof(Datum));

	for (int i = 0; i < job->n; i++)
		keys[i] = CStringGetTextDatum(job->entries[i]->key);
	return PointerGetDatum(construct_array(keys, job->n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
load_job(void *arg)
{
	LoadJob    *job = (LoadJob *) arg;
	Oid			types[1] = {TEXTARRAYOID};
	Datum		values[1] = {key_array(job)};
	uint64		n;

	angles_load_lock(job->link);
	/* the end of the subtransaction gives the identity back, on error as well */
	SetUserIdAndSecContext(job->link->owner,
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	n = angles_spi_exec(&job->link->load_plan, job->link->load_sql, 1, types, values, NULL,
						SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int64		ord = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(job->result);

		angles_load_take(job->link, job->entries[ord - 1], tuple, desc);
		MemoryContextSwitchTo(old);
	}
}

void
angles_load_take(const Link *link, Entry *entry, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	entry->found = true;
	entry->in_scope = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
	for (int i = 0; i < link->n_columns; i++)
	{
		const SyncColumn *column = &link->columns[i];

		if (column->problem != NULL)
			continue;
		if (column->c.attnum == 0)
		{
			StringInfoData canon;

			initStringInfo(&canon);
			angles_json_append_string(&canon, entry->key);
			entry->local[i] = canon.data;
		}
		else if (column->c.type == ANGLES_PROP_RELATION)
			take_reference(column, entry, i, tuple, desc);
		else
		{
			Datum		value = SPI_getbinval(tuple, desc, column->first_value, &isnull);

			entry->local[i] = angles_codec_canon_local(&column->c, value, isnull,
													   &entry->problems[i]);
		}
	}
}

/* A foreign key with any column null references nothing. */
static void
take_reference(const SyncColumn *column, Entry *entry, int i, HeapTuple tuple, TupleDesc desc)
{
	char	   *texts[INDEX_MAX_KEYS];

	for (int v = 0; v < column->n_values; v++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(tuple, desc, column->first_value + v, &isnull);
		Oid			output;
		bool		varlena;

		if (isnull)
		{
			entry->local[i] = pstrdup("[]");
			return;
		}
		getTypeOutputInfo(column->key_types[v], &output, &varlena);
		texts[v] = OidOutputFunctionCall(output, value);
	}
	entry->ref_keys[i] = angles_key_text(column->n_values, texts);
}

/* ---- keys ---- */

/* A filter that fails for a row must not keep the others back: each row is then asked by itself. */
ErrorData *
angles_load_keys(Link *link, const char *cursor, int limit, RowSet *keys)
{
	ScanJob		job = {link, cursor, limit, false, keys, CurrentMemoryContext};
	ErrorData  *error = scan(&job);

	if (error == NULL || angles_load_is_busy(error) || link->scan_all_sql == NULL)
		return error;
	job.all = true;
	keys->n = 0;
	return scan(&job);
}

static ErrorData *
scan(ScanJob *job)
{
	ErrorData  *error;

	angles_worker_reading(job->link->id);
	error = angles_txn_try_for(scan_job, job, true, angles_guc_row_read_timeout);
	angles_worker_reading(0);
	return error;
}

static void
scan_job(void *arg)
{
	ScanJob    *job = (ScanJob *) arg;
	Link	   *link = job->link;
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2] = {0, Int32GetDatum(job->limit)};
	char		nulls[3] = {job->cursor ? ' ' : 'n', ' ', '\0'};
	int			n_keys = list_length(link->keys);
	uint64		n;

	if (job->cursor)
		values[0] = CStringGetTextDatum(job->cursor);
	angles_load_lock(link);
	SetUserIdAndSecContext(link->owner,
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	n = job->all
		? angles_spi_exec(&link->scan_all_plan, link->scan_all_sql, 2, types, values, nulls,
						  SPI_OK_SELECT)
		: angles_spi_exec(&link->scan_plan, link->scan_sql, 2, types, values, nulls,
						  SPI_OK_SELECT);
	for (uint64 i = 0; i < n; i++)
	{
		char	   *texts[INDEX_MAX_KEYS];
		MemoryContext old = MemoryContextSwitchTo(job->result);

		for (int k = 0; k < n_keys; k++)
			texts[k] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, k + 1);
		angles_rows_add(job->keys, link->id, angles_key_text(n_keys, texts));
		MemoryContextSwitchTo(old);
	}
}

/* ---- relations ---- */

void
angles_resolve_relations(int n, Entry **entries)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4ARRAYOID, TEXTARRAYOID};
	RowSet		wanted = {0};
	uint64		found;

	for (int e = 0; e < n; e++)
	{
		Link	   *link = angles_link_find(entries[e]->link_id);

		for (int i = 0; link && entries[e]->found && i < link->n_columns; i++)
			if (entries[e]->ref_keys[i] != NULL && link->columns[i].ref_link != 0)
				angles_rows_add(&wanted, link->columns[i].ref_link, entries[e]->ref_keys[i]);
	}
	if (wanted.n == 0)
		return;

	Datum		values[2] = {angles_rows_links(&wanted), angles_rows_keys(&wanted)};

	/*
	 * A parent comes by itself when it is in the queue and neither parked nor held. Rows that wait
	 * for each other are found when nothing else moves: angles_break_cycles().
	 */
	found = angles_spi_exec(&plan,
							"SELECT w.link_id, w.key,"
							" CASE WHEN p.state = 'live' THEN p.page_id END,"
							" q.state IN ('ready', 'claimed', 'verifying', 'waiting')"
							" OR q.state = 'retry'"
							" AND q.attempts < 3"
							" FROM (SELECT DISTINCT * FROM unnest($1, $2)"
							"  AS u (link_id, key)) w"
							" LEFT JOIN angles.pages p USING (link_id, key)"
							" LEFT JOIN angles.queue_entries q USING (link_id, key)",
							2, types, values, NULL, SPI_OK_SELECT);
	for (uint64 r = 0; r < found; r++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[r];
		bool		isnull;
		TupleDesc	desc = SPI_tuptable->tupdesc;
		int32		link_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		bool		coming = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));

		apply_page_id(entries, n, link_id, angles_spi_text(r, 2, CurrentMemoryContext),
					  angles_spi_text(r, 3, CurrentMemoryContext), !isnull && coming);
	}
}

static void
apply_page_id(Entry **entries, int n, int32 link_id, const char *key, const char *page_id,
			  bool will_come)
{
	for (int e = 0; e < n; e++)
	{
		Entry	   *entry = entries[e];
		Link	   *link = angles_link_find(entry->link_id);

		for (int i = 0; link && entry->found && i < link->n_columns; i++)
		{
			if (entry->ref_keys[i] == NULL || link->columns[i].ref_link != link_id ||
				strcmp(entry->ref_keys[i], key) != 0)
				continue;
			if (page_id != NULL)
				entry->local[i] = psprintf("[\"%s\"]", page_id);
			else if (entry->missing_key == NULL || !entry->missing_will_come)
			{
				/* a row that references itself has to be made before it can be pointed at */
				entry->missing_link = link_id;
				entry->missing_key = pstrdup(key);
				entry->missing_will_come = will_come &&
					!(link_id == entry->link_id && strcmp(key, entry->key) == 0);
			}
		}
	}
}
