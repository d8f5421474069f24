/*
 * filter.c
 *		What may be the filter of a link. Runs in the session that calls link() or alter_link(),
 *		with the rights of the caller.
 *
 * The filter is put between parentheses wherever rows are read, so the text must be a whole
 * expression by itself: "a) OR (b" would close them.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"

#include "core/errors.h"
#include "sync/filter.h"
#include "sync/mapping.h"

#define FILTER_HINT \
	"Give one condition on columns of the table, as after WHERE: filter => 'NOT confidential'."

static bool is_one_expression(const char *text);
static void error_callback(void *arg);

char *
angles_filter_check(Oid relid, char *filter)
{
	ErrorContextCallback callback = {.callback = error_callback};
	char	   *sql;

	/* a comment at the end of it must not go on over what comes next */
	if (strstr(filter, "--") != NULL && filter[strlen(filter) - 1] != '\n')
		filter = psprintf("%s\n", filter);
	callback.arg = filter;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (!is_one_expression(filter))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("the filter is not one condition"),
				 errhint(FILTER_HINT)));
	error_context_stack = callback.previous;

	sql = psprintf("SELECT FROM %s WHERE (%s) LIMIT 0", angles_link_from(relid), filter);
	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BAD_MAPPING),
				 errmsg("the filter is not one condition"),
				 errhint(FILTER_HINT)));
	return filter;
}

/* Whether the text is one expression and nothing after it: no list, no alias, no ORDER BY. */
static bool
is_one_expression(const char *text)
{
	List	   *parsed = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, parsed)->stmt);
	ResTarget  *target;

	if (list_length(select->targetList) != 1 || select->distinctClause != NIL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	return target->name == NULL;
}

/* What does not parse is shown as the filter that it is, not as a place in the caller's query. */
static void
error_callback(void *arg)
{
	int			position = geterrposition();

	if (geterrcode() != ERRCODE_SYNTAX_ERROR)
		return;
	errcode(ERRCODE_ANGLES_BAD_MAPPING);
	errhint(FILTER_HINT);
	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
	errcontext("filter of angles.link()");
}
