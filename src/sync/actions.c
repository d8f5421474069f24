/*
 * actions.c
 *		Actions and counts: what the sync worker keeps in memory about requests and links.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "core/clock.h"
#include "sync/engine.h"
#include "sync/inbound.h"

Action *
angles_action_make(Engine *engine, ActionKind kind, int32 link_id)
{
	MemoryContext context = AllocSetContextCreate(engine->context, "angles action",
												  ALLOCSET_SMALL_SIZES);
	Action	   *action = MemoryContextAllocZero(context, sizeof(Action));

	action->context = context;
	action->kind = kind;
	action->link_id = link_id;
	action->links_version = angles_links_version();
	action->planned_us = angles_clock_mono_us();
	action->transaction = engine->transaction;
	return action;
}

void
angles_action_ready(Engine *engine, Action *action)
{
	dlist_push_tail(&engine->ready[action->priority], &action->node);
	engine->n_claimed++;
	engine->n_ready++;
	engine->n_backlog += action->priority == PRIORITY_BACKLOG;
}

void
angles_action_ready_first(Engine *engine, Action *action)
{
	dlist_push_head(&engine->ready[action->priority], &action->node);
	engine->n_ready++;
	engine->n_backlog += action->priority == PRIORITY_BACKLOG;
}

void
angles_action_unready(Engine *engine, Action *action)
{
	dlist_delete(&action->node);
	engine->n_ready--;
	engine->n_backlog -= action->priority == PRIORITY_BACKLOG;
}

void
angles_action_free(Action *action)
{
	MemoryContextDelete(action->context);
}

LinkCounts *
angles_counts(Engine *engine, int32 link_id)
{
	ListCell   *lc;
	LinkCounts *counts;
	MemoryContext old;

	foreach(lc, engine->counts)
	{
		counts = (LinkCounts *) lfirst(lc);
		if (counts->link_id == link_id)
			return counts;
	}
	old = MemoryContextSwitchTo(engine->context);
	counts = palloc0(sizeof(LinkCounts));
	counts->link_id = link_id;
	engine->counts = lappend(engine->counts, counts);
	MemoryContextSwitchTo(old);
	return counts;
}
