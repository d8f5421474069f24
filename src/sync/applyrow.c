/*
 * applyrow.c
 *		Puts changes made in Notion into rows: locks the row unless somebody has it, merges what
 *		both sides changed, updates it. Runs in apply workers, as the owner of the table: his
 *		triggers, constraints and policies do what they do for any session of his.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "sync/apply.h"
#include "sync/inbound.h"
#include "sync/merge.h"
#include "worker/worker.h"

/* A transaction that holds locks on users' rows takes no more of them after this time. */
#define APPLY_LONGEST_US 50000

typedef struct Batch
{
	Link	   *link;
	int			n;
	Change	  **changes;
	int64		give_up_us;
	MemoryContext result;
} Batch;

static void batch_job(void *arg);
static void clear(Change *change);
static void apply_one(Change *change);
static void take_values(Change *change);
static void resolve_job(void *arg);
static void merge_property(Change *change, int column, RowUpdate *update);
static void carry_out(Change *change, int column, Jsonb *decided, Jsonb *known,
					  RowUpdate *update);
static void set_field(MergeField *field, Change *change, int column, Jsonb *remote);
static void note_held(Change *change, const SyncColumn *column, Jsonb *value);
static void note_left(Change *change, const SyncColumn *column, Jsonb *value, const char *problem);
static void note_conflict(Change *change, const MergeField *field, const SyncColumn *column,
						  const char *policy, const char *winner);
static bool assign_reference(Change *change, const SyncColumn *column, Jsonb *pages, Jsonb *remote,
							 RowUpdate *update);
static void find_parent_job(void *arg);
static void input_value(Assignment *to, Oid relid, const char *name, const char *text);
static bool row_is_there(Change *change, Datum keys);
static void set_constraints_immediate(void);
static bool is_passing(const ErrorData *error);

void
angles_apply_rows(Link *link, int n, Change **changes)
{
	Batch		batch = {link, n, changes, angles_clock_mono_us() + APPLY_LONGEST_US,
	CurrentMemoryContext};
	ErrorData  *error;
	bool		enough = false;

	for (int i = 0; i < n; i++)
	{
		changes[i]->mates = changes;
		changes[i]->n_mates = n;
	}
	/* a trigger that no cancel ends will end this process: its successor shall know */
	angles_worker_reading(link->id);
	error = angles_txn_try_for(batch_job, &batch, false, angles_guc_apply_timeout);
	if (error == NULL)
	{
		angles_worker_reading(0);
		return;
	}
	/* one of them is the reason: each by itself, so that it alone stays behind */
	batch.give_up_us = angles_clock_mono_us() + APPLY_LONGEST_US;
	for (int i = 0; i < n; i++)
	{
		Batch		one = {link, 1, &changes[i], INT64_MAX, CurrentMemoryContext};

		/*
		 * The locks of those before are kept: nobody shall wait for them while this one waits for
		 * others, again and again.
		 */
		if (enough || (i > 0 && angles_clock_mono_us() > batch.give_up_us))
		{
			clear(changes[i]);
			changes[i]->not_reached = true;
			continue;
		}
		error = angles_txn_try_for(batch_job, &one, false, angles_guc_apply_timeout);
		if (error == NULL)
			continue;
		clear(changes[i]);
		if (is_passing(error))
			changes[i]->busy = enough = true;
		else
			changes[i]->refused = error;
	}
	angles_worker_reading(0);
}

/* Somebody else was in the way, or it took too long: that may pass. */
static bool
is_passing(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

static void
batch_job(void *arg)
{
	Batch	   *batch = (Batch *) arg;
	bool		written = false;

	for (int i = 0; i < batch->n; i++)
	{
		Change	   *change = batch->changes[i];
		MemoryContext old = MemoryContextSwitchTo(batch->result);

		clear(change);
		if (i > 0 && angles_clock_mono_us() > batch->give_up_us)
			change->not_reached = true;
		else
			apply_one(change);
		written = written || change->written;
		MemoryContextSwitchTo(old);
	}
	/* what is deferred shall fail here, where it is known whose fault it is */
	if (written)
		set_constraints_immediate();
}

static void
clear(Change *change)
{
	initStringInfo(&change->base);
	initStringInfo(&change->held);
	initStringInfo(&change->left);
	initStringInfo(&change->columns);
	initStringInfo(&change->added);
	change->not_reached = change->busy = change->written = change->to_send = false;
	change->absent = change->waits = change->row_is_gone = false;
	change->is_copy = change->inserting = change->merged = false;
	change->hold = change->new_key = NULL;
	change->refused = NULL;
	change->problem = NULL;
	change->conflicts = change->settled = NIL;
}

static void
set_constraints_immediate(void)
{
	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not check constraints");
}

/* ---- one row ---- */

static void
apply_one(Change *change)
{
	RowAt		at;
	RowUpdate  *flag;

	switch (change->kind)
	{
		case CHANGE_NEW:
		case CHANGE_MAKE:
			angles_apply_make(change);
			return;
		case CHANGE_DELETE:
			angles_apply_delete(change);
			return;
		default:
			break;
	}
	at = angles_apply_lock(change);
	if (at == ROW_ABSENT && change->kind == CHANGE_FLAG)
		change->row_is_gone = true;
	else if (at == ROW_BUSY || at == ROW_ABSENT ||
			 (at == ROW_OUT_OF_SCOPE && change->kind == CHANGE_EDIT))
	{
		/* out of scope its page is being left alone: see the planner */
		change->busy = true;
		change->absent = at == ROW_ABSENT;
	}
	else
	{
		if (change->kind != CHANGE_FLAG && at == ROW_LOCKED)
			angles_apply_merge(change);
		if (change->kind == CHANGE_EDIT)
			return;
		flag = angles_apply_update(change->link);
		angles_apply_flag(change, flag, change->kind == CHANGE_FLAG);
		if (flag->n > 0)
			angles_apply_row_update(change, flag);
	}
}

void
angles_apply_merge(Change *change)
{
	Link	   *link = change->link;
	RowUpdate  *update = angles_apply_update(link);

	for (int i = 0; i < link->n_columns; i++)
		if (link->columns[i].c.property_id != NULL && link->columns[i].problem == NULL)
			merge_property(change, i, update);
	if (update->n > 0)
		angles_apply_row_update(change, update);
}

RowUpdate *
angles_apply_update(const Link *link)
{
	RowUpdate  *update = palloc0(sizeof(RowUpdate));

	/* a relation takes as many columns as its key has; the key and a flag may come to that */
	update->columns = palloc((link->n_columns + 2) * INDEX_MAX_KEYS * sizeof(Assignment));
	return update;
}

RowAt
angles_apply_lock(Change *change)
{
	Link	   *link = change->link;
	Oid			types[1] = {TEXTARRAYOID};
	Datum		key = CStringGetTextDatum(change->entry.key);
	Datum		values[1] = {PointerGetDatum(construct_array(&key, 1, TEXTOID, -1, false,
															 TYPALIGN_INT))};
	uint64		found;
	int			level;

	angles_load_clear(link, &change->entry);
	/* the filter means here what it means in the sync worker */
	level = angles_txn_pin_values();
	found = angles_spi_exec(&link->lock_plan, link->lock_sql, 1, types, values, NULL,
							SPI_OK_SELECT);
	AtEOXact_GUC(true, level);
	if (found == 0)
		return row_is_there(change, values[0]) ? ROW_BUSY : ROW_ABSENT;
	take_values(change);
	return change->entry.in_scope ? ROW_LOCKED : ROW_OUT_OF_SCOPE;
}

/* Whether the row that could not be locked is there for others to see. */
static bool
row_is_there(Change *change, Datum keys)
{
	Oid			types[1] = {TEXTARRAYOID};
	Datum		values[1] = {keys};
	int			level = angles_txn_pin_values();
	uint64		found = angles_spi_exec(&change->link->load_plan, change->link->load_sql, 1, types,
										values, NULL, SPI_OK_SELECT);

	AtEOXact_GUC(true, level);
	return found > 0;
}

/* Takes the values of the row that the last statement gave. */
static void
take_values(Change *change)
{
	Entry	   *entry = &change->entry;
	int			level = angles_txn_pin_values();
	bool		references = false;

	angles_load_take(change->link, entry, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	AtEOXact_GUC(true, level);
	for (int i = 0; i < change->link->n_columns; i++)
		references = references || entry->ref_keys[i] != NULL;
	if (references)
		angles_worker_as_owner(resolve_job, entry);
	/* it references a row that has no page: that is something else than any page */
	for (int i = 0; i < change->link->n_columns; i++)
		if (entry->ref_keys[i] != NULL && entry->local[i] == NULL)
			entry->local[i] = psprintf("[\"a row without a page\"]");
}

static void
resolve_job(void *arg)
{
	Entry	   *entry = (Entry *) arg;

	angles_resolve_relations(1, &entry);
}

/* ---- one field ---- */

static void
merge_property(Change *change, int i, RowUpdate *update)
{
	const SyncColumn *column = &change->link->columns[i];
	Jsonb	   *remote = angles_json_member(change->remote, column->c.property_id);
	Jsonb	   *held = change->entry.held == NULL ? NULL
		: angles_json_member(change->entry.held, column->c.property_id);
	const char *policy = !column->writable ? "postgres"
		: column->conflict ? column->conflict : change->link->conflict;
	Jsonb	   *decided = change->decided == NULL ? NULL
		: angles_json_member(change->decided, column->c.property_id);
	MergeField	field;
	MergeResult merged;

	if (decided != NULL)
	{
		carry_out(change, i, decided, held ? held : remote, update);
		return;
	}
	if (remote == NULL)
	{
		/* not read this time: what waits goes on waiting */
		if (held != NULL)
			note_held(change, column, held);
		return;
	}
	/* a value that this server cannot send stays what it is, and Notion's beside it */
	if (change->entry.local[i] == NULL)
	{
		note_left(change, column, remote, psprintf("column \"%s\": %s", column->c.name,
												   change->entry.problems[i]
												   ? change->entry.problems[i] : "no value"));
		return;
	}
	set_field(&field, change, i, remote);
	/* what was in doubt once stays so while it waits for a person */
	field.in_doubt = held != NULL || angles_claim_was_sent(change->entry.sending,
														   column->c.property_id, NULL);
	field.policy = angles_merge_policy(policy);
	merged = angles_merge_field(&field);
	/* who changes what only the server computes, or the key, gets the row's value back */
	if ((merged.outcome == MERGE_TAKE || merged.outcome == MERGE_JOIN) && !column->writable)
	{
		merged.outcome = MERGE_KEEP;
		merged.conflict = true;
	}
	if ((merged.outcome == MERGE_TAKE || merged.outcome == MERGE_JOIN) &&
		!angles_apply_assign(change, i,
							 merged.value ? angles_codec_parse(merged.value) : remote, remote,
							 update))
		return;
	if (field.is_sum && merged.outcome == MERGE_JOIN)
		appendStringInfo(&change->added, "%s%s", change->added.len ? ", " : "", column->c.name);
	if (held != NULL && merged.outcome != MERGE_HOLD)
	{
		change->settled = lappend(change->settled, column->c.property_id);
		change->to_send = true;
	}
	if (merged.outcome == MERGE_HOLD)
		note_held(change, column, remote);
	else if (merged.outcome != MERGE_SAME)
		angles_apply_note_base(change, column, remote);
	if (merged.conflict)
		note_conflict(change, &field, column,
					  field.is_sum && field.in_doubt && merged.outcome == MERGE_HOLD
					  ? "additive" : policy,
					  merged.outcome == MERGE_HOLD ? NULL
					  : merged.outcome == MERGE_KEEP ? "postgres" : "notion");
	if (merged.outcome == MERGE_KEEP || merged.outcome == MERGE_JOIN)
		change->to_send = true;
}

/*
 * A person chose a value: the row gets it, and Notion is known to hold "known" (NULL: what both
 * last agreed on), so what differs is sent.
 */
static void
carry_out(Change *change, int i, Jsonb *decided, Jsonb *known, RowUpdate *update)
{
	const SyncColumn *column = &change->link->columns[i];

	/* { "row": true }: what the row holds, whatever that is by now */
	if (angles_json_member(decided, "row") == NULL &&
		(change->entry.local[i] == NULL ||
		 !angles_merge_equal(decided, angles_codec_parse(change->entry.local[i]))) &&
		!angles_apply_assign(change, i, decided, known ? known : decided, update))
	{
		if (known != NULL)
			note_held(change, column, known);
		return;
	}
	if (known != NULL)
		angles_apply_note_base(change, column, known);
	change->to_send = true;
}

static void
set_field(MergeField *field, Change *change, int i, Jsonb *remote)
{
	const SyncColumn *column = &change->link->columns[i];

	MemSet(field, 0, sizeof(*field));
	field->is_set = column->c.type == ANGLES_PROP_MULTI_SELECT;
	field->is_sum = column->additive && column->writable;
	field->base = angles_json_member(change->entry.base, column->c.property_id);
	field->base_local = angles_json_member(change->entry.base_local, column->c.property_id);
	field->local = angles_codec_parse(change->entry.local[i]);
	field->remote = remote;
	field->local_at = change->local_at;
	field->remote_at = change->edited_at;
}

static void
append_member(StringInfo members, const SyncColumn *column, Jsonb *value)
{
	if (members->len > 0)
		appendStringInfoChar(members, ',');
	angles_json_append_string(members, column->c.property_id);
	appendStringInfo(members, ":%s", JsonbToCString(NULL, &value->root, VARSIZE(value)));
}

void
angles_apply_note_base(Change *change, const SyncColumn *column, Jsonb *value)
{
	append_member(&change->base, column, value);
}

static void
note_held(Change *change, const SyncColumn *column, Jsonb *value)
{
	append_member(&change->held, column, value);
}

/* The first problem is told: when it is gone, the next one is. */
static void
note_left(Change *change, const SyncColumn *column, Jsonb *value, const char *problem)
{
	append_member(&change->left, column, value);
	if (change->problem == NULL)
		change->problem = pstrdup(problem);
}

static void
note_conflict(Change *change, const MergeField *field, const SyncColumn *column,
			  const char *policy, const char *winner)
{
	Conflict   *conflict = palloc0(sizeof(Conflict));

	conflict->column = column;
	if (field->base != NULL)
		conflict->base = JsonbToCString(NULL, unconstify(JsonbContainer *, &field->base->root),
										VARSIZE(field->base));
	conflict->local = JsonbToCString(NULL, unconstify(JsonbContainer *, &field->local->root),
									 VARSIZE(field->local));
	conflict->remote = JsonbToCString(NULL, unconstify(JsonbContainer *, &field->remote->root),
									  VARSIZE(field->remote));
	conflict->policy = policy;
	conflict->winner = winner;
	change->conflicts = lappend(change->conflicts, conflict);
}

/* ---- values for columns ---- */

bool
angles_apply_assign(Change *change, int i, Jsonb *value, Jsonb *remote, RowUpdate *update)
{
	const SyncColumn *column = &change->link->columns[i];
	Assignment *to = &update->columns[update->n];
	char	   *canon = JsonbToCString(NULL, &value->root, VARSIZE(value));
	char	   *problem = NULL;
	char	   *text;
	char	   *back;
	int			level;

	if (column->c.type == ANGLES_PROP_RELATION)
		return assign_reference(change, column, value, remote, update);
	level = angles_txn_pin_values();
	text = angles_codec_to_sql(&column->c, canon, &problem);
	if (problem == NULL)
	{
		input_value(to, change->link->relid, column->c.name, text);
		back = angles_codec_canon_local(&column->c, to->value, to->isnull, &problem);
		if (back != NULL && !angles_merge_equal(angles_codec_parse(back), value))
			problem = psprintf("type %s would keep another value than the one in Notion",
							   format_type_with_typemod(column->c.typid, column->c.typmod));
	}
	AtEOXact_GUC(true, level);
	if (problem != NULL)
	{
		note_left(change, column, remote, psprintf("column \"%s\": %s", column->c.name, problem));
		return false;
	}
	update->n++;
	appendStringInfo(&change->columns, "%s%s", change->columns.len ? ", " : "", column->c.name);
	return true;
}

static void
input_value(Assignment *to, Oid relid, const char *name, const char *text)
{
	AttrNumber	attnum = get_attnum(relid, name);
	int32		typmod;
	Oid			collation;
	Oid			input;
	Oid			param;

	get_atttypetypmodcoll(relid, attnum, &to->type, &typmod, &collation);
	getTypeInputInfo(to->type, &input, &param);
	to->name = name;
	to->isnull = text == NULL;
	to->value = OidInputFunctionCall(input, unconstify(char *, text), param, typmod);
}

void
angles_apply_input(RowUpdate *update, Oid relid, const char *name, const char *text)
{
	input_value(&update->columns[update->n++], relid, name, text);
}

typedef struct Parent
{
	const SyncColumn *column;
	const char *page_id;
	char	   *key;			/* of the row that has this page, NULL: none */
	MemoryContext result;
} Parent;

static bool
assign_reference(Change *change, const SyncColumn *column, Jsonb *pages, Jsonb *remote,
				 RowUpdate *update)
{
	int			n = JB_ROOT_IS_ARRAY(pages) && !JB_ROOT_IS_SCALAR(pages) ? JB_ROOT_COUNT(pages) : 0;
	Parent		parent = {column, NULL, NULL, CurrentMemoryContext};
	ListCell   *lc;
	int			k = 0;

	if (n > 1)
	{
		note_left(change, column, remote,
				  psprintf("property \"%s\" points to %d pages; the table's foreign key holds one",
						   column->c.property_name, n));
		return false;
	}
	if (n == 1)
	{
		JsonbValue *page = getIthJsonbValueFromContainer(&pages->root, 0);

		parent.page_id = pnstrdup(page->val.string.val, page->val.string.len);
		angles_worker_as_owner(find_parent_job, &parent);
		if (parent.key == NULL)
		{
			note_left(change, column, remote,
					  psprintf("property \"%s\" points to a page that belongs to no row of the "
							   "referenced table", column->c.property_name));
			change->waits = change->inserting;
			return false;
		}
	}
	foreach(lc, column->ref_names)
	{
		char	   *text = parent.key == NULL ? NULL
			: angles_apply_key_part(parent.key, column->n_values, k);

		input_value(&update->columns[update->n], change->link->relid, (char *) lfirst(lc), text);
		update->n++;
		k++;
		appendStringInfo(&change->columns, "%s%s", change->columns.len ? ", " : "",
						 (char *) lfirst(lc));
	}
	return true;
}

static void
find_parent_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Parent	   *parent = (Parent *) arg;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(parent->column->ref_link),
	CStringGetTextDatum(parent->page_id)};

	if (angles_spi_exec(&plan,
						"SELECT key FROM angles.pages WHERE link_id = $1 AND page_id = $2::uuid"
						" AND state = 'live'", 2, types, values, NULL, SPI_OK_SELECT) > 0)
		parent->key = angles_spi_text(0, 1, parent->result);
}

/* ---- the update ---- */

void
angles_apply_row_update(Change *change, RowUpdate *update)
{
	Link	   *link = change->link;
	StringInfoData sql;
	Oid		   *types = palloc((update->n + 1) * sizeof(Oid));
	Datum	   *values = palloc((update->n + 1) * sizeof(Datum));
	char	   *nulls = palloc(update->n + 2);
	MemoryContext caller = CurrentMemoryContext;
	int			rc;

	types[0] = TEXTOID;
	values[0] = CStringGetTextDatum(change->entry.key);
	nulls[0] = ' ';
	initStringInfo(&sql);
	appendStringInfoString(&sql, link->update_before);
	for (int i = 0; i < update->n; i++)
	{
		appendStringInfo(&sql, "%s%s = $%d", i > 0 ? ", " : "",
						 quote_identifier(update->columns[i].name), i + 2);
		types[i + 1] = update->columns[i].type;
		values[i + 1] = update->columns[i].value;
		nulls[i + 1] = update->columns[i].isnull ? 'n' : ' ';
	}
	nulls[update->n + 1] = '\0';
	appendStringInfoString(&sql, link->update_after);
	rc = SPI_execute_with_args(sql.data, update->n + 1, types, values, nulls, false, 0);
	MemoryContextSwitchTo(caller);
	if (rc != SPI_OK_UPDATE)
		elog(ERROR, "an update returned %s", SPI_result_code_string(rc));
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger or a rule of the table kept the change out")));
	change->written = true;
}
