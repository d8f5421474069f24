/*
 * plan.c
 *		The planner: what does one changed row need? A pure function of the row as it is, the values
 *		both sides last agreed on, and the link's policies. No database, no clock, no network.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "core/json.h"
#include "sync/engine.h"

static RowPlan plan_absent(const Link *link, const Entry *entry);
static RowPlan plan_present(const Link *link, const Entry *entry);
static bool column_changed(const SyncColumn *column, const Entry *entry, const char *local);
static bool same_as(const Jsonb *object, const char *property_id, const char *canon, bool *known);

RowPlan
angles_plan(const Link *link, const Entry *entry)
{
	RowPlan		plan = {.kind = PLAN_LOOKUP};

	/* until it is known whether the page exists, nothing else about the row can be decided */
	if (entry->page_state == PAGE_INTENT)
		return plan;
	/* a page that a person removed is not written; when it is back, all of the row is compared */
	if (entry->page_state == PAGE_REMOVED || entry->page_state == PAGE_NEW)
	{
		plan.kind = PLAN_FORGET;
		return plan;
	}
	if (entry->unreadable != NULL)
	{
		plan.kind = PLAN_PARK;
		plan.message = entry->unreadable;
		plan.hint = "Correct the row with UPDATE, and it is sent by itself; or correct the filter "
			"with angles.alter_link(), then call angles.retry().";
		return plan;
	}
	if (!entry->found)
		return plan_absent(link, entry);
	if (!entry->in_scope)
	{
		plan.kind = entry->page_state == PAGE_LIVE ? PLAN_LEAVE : PLAN_FORGET;
		return plan;
	}
	return plan_present(link, entry);
}

static RowPlan
plan_absent(const Link *link, const Entry *entry)
{
	RowPlan		plan = {.kind = PLAN_FORGET};

	/*
	 * a page out of scope is the row's no more, and a row that is gone changes nothing about that
	 */
	if (entry->page_state != PAGE_LIVE)
		return plan;
	if (entry->approved)
		plan.kind = PLAN_TRASH;
	else if (entry->edited || (entry->unproven && !entry->deleted))
		plan.kind = PLAN_HOLD;
	else if (strcmp(link->on_local_delete, "trash") == 0)
		plan.kind = PLAN_TRASH;
	else if (strcmp(link->on_local_delete, "hold") == 0)
		plan.kind = PLAN_HOLD;
	return plan;
}

static RowPlan
plan_present(const Link *link, const Entry *entry)
{
	RowPlan		plan = {.kind = PLAN_NOTHING};
	bool		creating = entry->page_state == PAGE_NONE;

	if (entry->page_state == PAGE_TRASHED)
	{
		plan.kind = PLAN_RESTORE;
		return plan;
	}
	plan.columns = palloc(Max(link->n_columns, 1) * sizeof(int));
	for (int i = 0; i < link->n_columns; i++)
	{
		const SyncColumn *column = &link->columns[i];

		/*
		 * What pauses one property pauses that property alone. One that Notion has not made yet
		 * is sent by the full compare that follows on its making.
		 */
		if (column->problem != NULL || column->c.property_id == NULL)
			continue;
		/* what a person changed in Notion, and is not merged, is not written over */
		if (entry->held != NULL && angles_json_member(entry->held, column->c.property_id) != NULL)
			continue;
		if (entry->problems[i] != NULL)
		{
			plan.kind = PLAN_PARK;
			plan.message = psprintf("column \"%s\": %s", column->c.name, entry->problems[i]);
			plan.hint = "Correct the value with UPDATE, or change the mapping with "
				"angles.alter_link(); the row is then sent by itself.";
			return plan;
		}
		/* a relation whose page is not there yet */
		if (entry->local[i] == NULL)
			continue;
		/* nothing is gained by writing an empty property into a new page */
		if (creating ? column->is_key || !angles_codec_is_empty(entry->local[i])
			: column_changed(column, entry, entry->local[i]) ||
			/* Notion may hold another value than the last one it acknowledged */
			angles_claim_was_sent(entry->sending, column->c.property_id, NULL))
			plan.columns[plan.n++] = i;
	}
	/* nobody looked at the page while it was not the row's: a person may have changed it */
	plan.comes_back = !creating && entry->page_state != PAGE_LIVE;
	if (entry->missing_key != NULL && entry->missing_will_come)
		plan.kind = PLAN_WAIT;
	else if (creating)
		plan.kind = PLAN_CREATE;
	else if (plan.n > 0)
		plan.kind = PLAN_PATCH;
	return plan;
}

/*
 * A value has changed here when it is neither what Notion was last known to hold nor what was
 * written to lead there: Notion may keep another form of a value than the one it was given, and
 * that difference must not be sent again and again.
 */
static bool
column_changed(const SyncColumn *column, const Entry *entry, const char *local)
{
	bool		known;

	if (same_as(entry->base_local, column->c.property_id, local, &known))
		return false;
	if (known)
		return true;
	if (same_as(entry->base, column->c.property_id, local, &known))
		return false;
	/* a property that the base does not know was never written: empty there */
	return known || !angles_codec_is_empty(local);
}

/* Returns whether object's member is the canonical value; *known: whether it has that member. */
static bool
same_as(const Jsonb *object, const char *property_id, const char *canon, bool *known)
{
	JsonbValue	value;
	Jsonb	   *theirs;
	Jsonb	   *ours;

	*known = object != NULL &&
		angles_json_get(unconstify(JsonbContainer *, &object->root), property_id, &value);
	if (!*known)
		return false;
	theirs = JsonbValueToJsonb(&value);
	ours = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(canon)));
	return compareJsonbContainers(&theirs->root, &ours->root) == 0;
}
