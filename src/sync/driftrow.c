/*
 * driftrow.c
 *		In what a row and its page differ, who changed it, and what will become of it. Reads its
 *		arguments only: what a change is, is decided by merge.c, as everywhere. Runs in the session
 *		that calls angles.drift_notion().
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "core/json.h"
#include "sync/drift.h"
#include "sync/merge.h"

static void compare_present(DriftResult *result, DriftRow *row);
static void compare_field(DriftResult *result, DriftRow *row, int column);
static void unreadable_field(DriftResult *result, const DriftRow *row, int column,
							 const char *problem);
static Jsonb *remote_value(const DriftRow *row, const SyncColumn *column, DriftLine *line,
						   bool *news);
static void note_row(DriftResult *result, const DriftRow *row, const char *class,
					 DriftLine *line);
static void field_fate(const DriftRow *row, const SyncColumn *column, bool here, bool there,
					   DriftLine *line);
static void compare_parted(DriftResult *result, DriftRow *row);
static void outbound_fate(const DriftRow *row, DriftLine *line);
static void inbound_fate(const DriftRow *row, const SyncColumn *column, DriftLine *line);
static bool stands_still(const Link *link, DriftLine *line);
static char *listed_text(const JsonbContainer *members, const SyncColumn *column);
static char *json_text(const Jsonb *value);
static char *known_values(const DriftRow *row);
static char *local_values(const DriftRow *row);
static char *listed_values(const Link *link, const ListedPage *page);
static void append_value(StringInfo to, const SyncColumn *column, const char *value);

void
angles_drift_compare(DriftResult *result, DriftRow *row)
{
	const Entry *entry = &row->entry;
	DriftLine	line = {0};

	result->compared++;
	line.since = row->changed_at;
	if (entry->unreadable != NULL || entry->not_read)
	{
		line.remark = entry->unreadable ? entry->unreadable
			: "reading other rows took all the time there was";
		outbound_fate(row, &line);
		note_row(result, row, "unreadable", &line);
	}
	else if (row->page_state == NULL)
	{
		/* it may have gone since its key was read */
		if (!entry->found || !entry->in_scope)
			return;
		line.local = local_values(row);
		outbound_fate(row, &line);
		note_row(result, row, "missing_page", &line);
	}
	else if (strcmp(row->page_state, "out_of_scope") == 0)
	{
		line.state = "none";
		line.remark = entry->found ? "the page is left alone while the row does not pass the filter"
			: "the page is left alone; its row is gone";
		note_row(result, row, "out_of_scope", &line);
	}
	else if (strcmp(row->page_state, "intent") == 0)
	{
		line.local = entry->found ? local_values(row) : NULL;
		line.state = "queued";
		line.remark = "the page is being made";
		note_row(result, row, "missing_page", &line);
	}
	else if (strcmp(row->page_state, "trashed") == 0)
	{
		/* both sides are gone */
		if (!entry->found || !entry->in_scope)
			return;
		line.local = local_values(row);
		outbound_fate(row, &line);
		if (line.remark == NULL)
			line.remark = "the page is in the trash";
		note_row(result, row, "missing_page", &line);
	}
	else if (strcmp(row->page_state, "live") != 0)
		compare_parted(result, row);
	else
		compare_present(result, row);
}

/* A person has made, removed or put back the page, or it is nobody's. */
static void
compare_parted(DriftResult *result, DriftRow *row)
{
	bool		here = row->entry.found && row->entry.in_scope;
	DriftLine	line = {.since = row->removed_at, .remark = row->note};

	line.state = row->pending == NULL ? "none"
		: strcmp(row->pending, "held") == 0 ? "held" : "queued";
	if (strcmp(row->page_state, "new") == 0)
	{
		line.since = row->noted_at;
		line.remote = known_values(row);
		line.remark = row->noted_message ? row->noted_message : "its row is being made";
		line.state = row->noted_state != NULL && strcmp(row->noted_state, "parked") == 0
			? "parked" : "queued";
		note_row(result, row, "missing_row", &line);
	}
	else if (strcmp(row->page_state, "removed") == 0)
	{
		/* both sides are gone */
		if (!here)
			return;
		line.local = local_values(row);
		note_row(result, row, "missing_page", &line);
	}
	else if (strcmp(row->page_state, "restored") == 0)
	{
		line.remote = known_values(row);
		note_row(result, row, "missing_row", &line);
	}
	else if (strcmp(row->page_state, "left") != 0 || here)
	{
		line.since = row->changed_at;
		outbound_fate(row, &line);
		note_row(result, row, psprintf("page_%s", row->page_state), &line);
	}
}

/* The page is there as far as is known. */
static void
compare_present(DriftResult *result, DriftRow *row)
{
	const Entry *entry = &row->entry;
	DriftLine	line = {0};

	line.since = row->changed_at;
	if (row->not_listed)
	{
		/* both sides are gone */
		if (!entry->found || !entry->in_scope)
			return;
		line.since = 0;
		line.state = "unseen";
		line.remark = "Notion does not show the page: it is in the trash, was moved, or is not "
			"shared with the connection";
		line.local = local_values(row);
		note_row(result, row, "missing_page", &line);
	}
	else if (!entry->found)
	{
		line.remote = known_values(row);
		outbound_fate(row, &line);
		if (strcmp(row->link->on_local_delete, "ignore") == 0 && !entry->approved)
		{
			line.state = "none";
			line.remark = "on_local_delete is ignore";
		}
		note_row(result, row, "missing_row", &line);
	}
	else if (!entry->in_scope)
	{
		outbound_fate(row, &line);
		note_row(result, row, "out_of_scope", &line);
	}
	else
		for (int i = 0; i < row->link->n_columns; i++)
			if (row->link->columns[i].problem == NULL &&
				row->link->columns[i].c.property_id != NULL)
				compare_field(result, row, i);
}

void
angles_drift_columns(DriftResult *result)
{
	Link	   *link = result->link;

	for (int i = 0; i < link->n_columns; i++)
	{
		const SyncColumn *column = &link->columns[i];
		DriftLine	line = {.column = column, .class = "unreadable", .state = "none"};

		line.remark = column->problem;
		/* while a link is being set up its properties are on their way */
		if (column->problem == NULL && column->c.property_id == NULL &&
			link->state == LINK_ACTIVE)
			line.remark = "Notion has no such property yet";
		if (line.remark != NULL)
			angles_drift_note(result, &line);
	}
}

void
angles_drift_page_alone(DriftResult *result, const ListedPage *page, const char *remark)
{
	DriftLine	line = {
		.page_id = page->id, .class = "missing_row", .state = "unseen",
		.since = page->edited_at, .remote_by = page->edited_by, .remote_at = page->asked_at,
		.remark = remark ? remark : "no row is known to be its own"
	};

	result->compared++;
	if (result->link->state == LINK_CREATING || result->link->state == LINK_BINDING)
	{
		line.state = "queued";
		line.remark = "the link is being set up: pages that carry the key of a row will be its own";
	}
	line.remote = listed_values(result->link, page);
	angles_drift_note(result, &line);
}

/* Notes a difference of the row as a whole. */
static void
note_row(DriftResult *result, const DriftRow *row, const char *class, DriftLine *line)
{
	line->key = row->entry.key;
	line->page_id = row->entry.page_id;
	line->class = class;
	if (line->remote_at == 0)
		line->remote_at = row->listed ? row->listed->asked_at : row->agreed_at;
	angles_drift_note(result, line);
}

/* ---- one field ---- */

static void
compare_field(DriftResult *result, DriftRow *row, int i)
{
	const SyncColumn *column = &row->link->columns[i];
	DriftLine	line = {.key = row->entry.key, .page_id = row->entry.page_id, .column = column};
	MergeField	field = {0};
	bool		here;
	bool		there;
	char	   *problem = row->entry.problems[i];

	if (problem == NULL && row->listed != NULL)
		problem = listed_text(row->listed->problems, column);
	if (problem != NULL)
	{
		unreadable_field(result, row, i, problem);
		return;
	}
	field.base = angles_json_member(row->entry.base, column->c.property_id);
	field.base_local = angles_json_member(row->entry.base_local, column->c.property_id);
	field.remote = remote_value(row, column, &line, &there);
	if (row->entry.local[i] != NULL)
	{
		field.local = angles_codec_parse(row->entry.local[i]);
		/* a property that was never written holds nothing */
		if (field.remote == NULL ? angles_merge_is_nothing(field.local)
			: angles_merge_equal(field.local, field.remote))
			return;
		here = angles_merge_local_changed(&field);
		line.local = row->entry.local[i];
	}
	else
		/* it references a row without a page, which is something else than any page */
		here = true;
	line.base = field.base ? json_text(field.base) : NULL;
	line.remote = field.remote ? json_text(field.remote) : NULL;
	line.class = here && there ? "both_changed" : here ? "changed_here"
		: there ? "changed_in_notion" : "representation";
	field_fate(row, column, here, there, &line);
	angles_drift_note(result, &line);
}

/* A value that Notion cannot hold, or that Notion shows in a form that cannot be read. */
static void
unreadable_field(DriftResult *result, const DriftRow *row, int i, const char *problem)
{
	const SyncColumn *column = &row->link->columns[i];
	Jsonb	   *base = angles_json_member(row->entry.base, column->c.property_id);
	DriftLine	line = {
		.key = row->entry.key, .page_id = row->entry.page_id, .column = column,
		.class = "unreadable", .since = row->changed_at
	};

	line.base = base ? json_text(base) : NULL;
	line.local = row->entry.local[i];
	line.remote_at = row->listed ? row->listed->asked_at : row->agreed_at;
	outbound_fate(row, &line);
	line.remark = problem;
	angles_drift_note(result, &line);
}

/*
 * Returns what Notion holds as far as is known, NULL where nothing was ever there; *news: a person
 * put it there since both agreed. Fills the line's times and who it was.
 */
static Jsonb *
remote_value(const DriftRow *row, const SyncColumn *column, DriftLine *line, bool *news)
{
	const char *id = column->c.property_id;
	Jsonb	   *base = angles_json_member(row->entry.base, id);
	char	   *canon = row->listed ? listed_text(row->listed->values, column) : NULL;
	Jsonb	   *remote = canon ? angles_codec_parse(canon) : NULL;

	if (remote != NULL)
	{
		line->since = row->listed->edited_at;
		line->remote_by = row->listed->edited_by;
		line->remote_at = row->listed->asked_at;
	}
	else if (row->noted != NULL && (remote = angles_json_member(row->noted, id)) != NULL)
	{
		line->since = row->edited_at;
		line->remote_by = row->edited_by;
		line->remote_at = row->noted_at;
	}
	else
	{
		if (row->entry.held != NULL)
			remote = angles_json_member(row->entry.held, id);
		line->remote_at = row->agreed_at;
	}
	*news = remote != NULL &&
		!(base ? angles_merge_equal(remote, base) : angles_merge_is_nothing(remote)) &&
		/* a write of ours that was not acknowledged may have arrived all the same */
		!(canon != NULL && angles_claim_was_sent(row->entry.sending, id, canon));
	if (!*news)
		line->remote_by = NULL;
	return remote ? remote : base;
}

/* ---- what will become of it ---- */

static void
field_fate(const DriftRow *row, const SyncColumn *column, bool here, bool there, DriftLine *line)
{
	const char *id = column->c.property_id;
	Jsonb	   *conflict = row->conflicts ? angles_json_member(row->conflicts, id) : NULL;

	if (!here && !there)
	{
		line->since = row->agreed_at;
		line->state = "none";
		line->remark = "Notion keeps the value in another form";
		return;
	}
	if (!there)
		line->since = row->changed_at;
	else if (here && row->changed_at != 0 && (line->since == 0 || row->changed_at < line->since))
		line->since = row->changed_at;

	if (row->decided != NULL && angles_json_member(row->decided, id) != NULL)
	{
		line->state = "queued";
		line->remark = "a person has decided; the decision is being carried out";
	}
	else if (conflict != NULL)
	{
		line->state = "conflict";
		line->since = (TimestampTz) strtoll(json_text(conflict), NULL, 10);
		line->remark = "angles.conflicts has it; angles.resolve() decides";
	}
	else if (there)
	{
		inbound_fate(row, column, line);
		if (here && line->remark == NULL)
			line->remark = column->c.type == ANGLES_PROP_MULTI_SELECT ? "both changes are merged"
				: column->additive && column->writable ? "both changes are added up"
				: psprintf("policy \"%s\" decides", !column->writable ? "postgres"
						   : column->conflict ? column->conflict : row->link->conflict);
	}
	else
	{
		outbound_fate(row, line);
		if (line->local == NULL)
		{
			line->state = "waiting";
			line->remark = "the row that it references has no page";
		}
	}
}

/* Of a change of the row. */
static void
outbound_fate(const DriftRow *row, DriftLine *line)
{
	const Link *link = row->link;

	if (row->queue_state != NULL && (strcmp(row->queue_state, "parked") == 0 ||
									 strcmp(row->queue_state, "held") == 0))
	{
		line->state = row->queue_state;
		if (line->remark == NULL)
			line->remark = row->queue_message;
	}
	else if (stands_still(link, line))
		;
	else if (row->queue_state != NULL || row->captured)
	{
		line->state = row->queue_state != NULL && strcmp(row->queue_state, "waiting") == 0
			? "waiting" : "queued";
		if (line->remark == NULL)
			line->remark = row->queue_message;
	}
	else if (link->state != LINK_ACTIVE || link->reconcile)
	{
		line->state = "queued";
		if (line->remark == NULL)
			line->remark = "the table is being compared in full";
	}
	else
	{
		line->state = "unseen";
		if (line->remark == NULL)
			line->remark = psprintf("no change was captured; SELECT angles.reconcile(%s) sends it",
									quote_literal_cstr(angles_link_name(link)));
	}
}

/* Of a change made in Notion, also where the row was changed as well. */
static void
inbound_fate(const DriftRow *row, const SyncColumn *column, DriftLine *line)
{
	const Link *link = row->link;
	bool		noted = row->noted != NULL &&
		angles_json_member(row->noted, column->c.property_id) != NULL;

	if (noted && strcmp(row->noted_state, "parked") == 0)
	{
		line->state = "parked";
		line->remark = row->noted_message;
	}
	else if (!noted && row->entry.held != NULL &&
			 angles_json_member(row->entry.held, column->c.property_id) != NULL)
	{
		line->state = "held";
		line->remark = "the page that the relation points to cannot be seen";
	}
	else if (!link->inbound)
	{
		line->state = "none";
		line->remark = "changes in Notion are not taken: the link's direction is out";
	}
	else if (stands_still(link, line))
		;
	else if (link->no_login)
	{
		line->state = "waiting";
		line->remark = "the table's owner may not log in";
	}
	else if (noted)
	{
		line->state = "queued";
		line->remark = row->noted_message;
	}
	else
	{
		line->state = "unseen";
		line->remark = "no question for changes has shown it yet";
	}
}

static bool
stands_still(const Link *link, DriftLine *line)
{
	if (!link->paused && !link->fenced)
		return false;
	line->state = link->fenced ? "fenced" : "paused";
	if (link->fenced && line->remark == NULL)
		line->remark = "this server sends nothing before angles.adopt()";
	return true;
}

/* ---- values ---- */

static char *
listed_text(const JsonbContainer *members, const SyncColumn *column)
{
	return angles_json_get_text(unconstify(JsonbContainer *, members), column->c.property_id);
}

static char *
json_text(const Jsonb *value)
{
	return JsonbToCString(NULL, unconstify(JsonbContainer *, &value->root), VARSIZE(value));
}

/* Returns what Notion holds of a row's page as far as is known: an object by property name. */
static char *
known_values(const DriftRow *row)
{
	StringInfoData values;

	initStringInfo(&values);
	for (int i = 0; i < row->link->n_columns; i++)
	{
		const SyncColumn *column = &row->link->columns[i];
		DriftLine	unused = {0};
		bool		news;
		Jsonb	   *value = column->c.property_id == NULL ? NULL
			: remote_value(row, column, &unused, &news);

		if (value != NULL)
			append_value(&values, column, json_text(value));
	}
	return psprintf("{%s}", values.data);
}

static char *
local_values(const DriftRow *row)
{
	StringInfoData values;

	initStringInfo(&values);
	for (int i = 0; i < row->link->n_columns; i++)
		if (row->entry.local[i] != NULL)
			append_value(&values, &row->link->columns[i], row->entry.local[i]);
	return psprintf("{%s}", values.data);
}

static char *
listed_values(const Link *link, const ListedPage *page)
{
	StringInfoData values;

	initStringInfo(&values);
	for (int i = 0; i < link->n_columns; i++)
	{
		char	   *value = link->columns[i].c.property_id == NULL ? NULL
			: listed_text(page->values, &link->columns[i]);

		if (value != NULL)
			append_value(&values, &link->columns[i], value);
	}
	return psprintf("{%s}", values.data);
}

static void
append_value(StringInfo to, const SyncColumn *column, const char *value)
{
	if (to->len > 0)
		appendStringInfoChar(to, ',');
	angles_json_append_string(to, column->c.property_name);
	appendStringInfo(to, ":%s", value);
}
