/*
 * snapshot.c
 *		See snapshot.h. Runs in user backends.
 *
 * A statement holds its snapshot three times: the portal has made it the active one, and the query
 * and the executor's state have registered it. All three are given back here and replaced by a new
 * one afterwards, each by the call that its owner uses. So nothing may read with the old one: the
 * nodes that scan tables keep a pointer to it, and a table read before and after would be seen at
 * two different times. Hence the conditions in may_release().
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/execdesc.h"
#include "nodes/execnodes.h"
#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "core/snapshot.h"

static bool may_release(FunctionCallInfo fcinfo, QueryDesc *query);
static bool reads_no_table(const PlannedStmt *stmt);

bool
angles_snapshot_release(FunctionCallInfo fcinfo)
{
	QueryDesc  *query = ActivePortal ? ActivePortal->queryDesc : NULL;

	if (query == NULL || !may_release(fcinfo, query))
		return false;
	PopActiveSnapshot();
	UnregisterSnapshot(query->estate->es_snapshot);
	query->estate->es_snapshot = InvalidSnapshot;
	UnregisterSnapshot(query->snapshot);
	query->snapshot = InvalidSnapshot;
	return true;
}

void
angles_snapshot_take(void)
{
	QueryDesc  *query = ActivePortal->queryDesc;

	PushActiveSnapshot(GetTransactionSnapshot());
	query->snapshot = RegisterSnapshot(GetActiveSnapshot());
	query->estate->es_snapshot = RegisterSnapshot(GetActiveSnapshot());
}

static bool
may_release(FunctionCallInfo fcinfo, QueryDesc *query)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	if (ActivePortal->strategy != PORTAL_ONE_SELECT || IsolationUsesXactSnapshot())
		return false;
	/* the query of the portal itself calls this function, not one inside of another function */
	if (result == NULL || !IsA(result, ReturnSetInfo) || query->estate == NULL ||
		result->econtext->ecxt_estate != query->estate)
		return false;
	/* what was registered with another resource owner could not be given back here */
	if (CurrentResourceOwner != ActivePortal->resowner || !ActiveSnapshotSet())
		return false;
	return GetActiveSnapshot() == query->snapshot &&
		query->estate->es_snapshot == query->snapshot && reads_no_table(query->plannedstmt);
}

static bool
reads_no_table(const PlannedStmt *stmt)
{
	ListCell   *cell;

	if (stmt->commandType != CMD_SELECT || stmt->hasModifyingCTE || stmt->subplans != NIL ||
		stmt->rowMarks != NIL)
		return false;
	foreach(cell, stmt->rtable)
		if (((RangeTblEntry *) lfirst(cell))->rtekind == RTE_RELATION)
			return false;
	return true;
}
