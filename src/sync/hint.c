/*
 * hint.c
 *		What webhooks tell of: which question each of them brings. Runs in the sync worker.
 *
 * Any number of events of a data source lead to one question, and what that answers is all that
 * counts: events come twice, late, in disorder, or not at all.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "core/txn.h"
#include "sync/changelog.h"
#include "sync/engine.h"
#include "sync/inbound.h"

static bool is_there(const Link *link, const char *page_id);

void
angles_hint(Engine *engine, Link *link, const char *key, const char *bot)
{
	const char *page_id = strchr(key, ':');
	bool		by_me = false;

	if (!angles_is_polled(link))
		return;
	/* what this worker has written itself comes back as an event */
	if (bot != NULL && angles_is_me(engine, link, bot, &by_me) && by_me)
		return;
	page_id = page_id != NULL ? page_id + 1 : "";
	switch (key[0])
	{
		case ANGLES_HINT_GONE:
		case ANGLES_HINT_PLACE:
			/* no question for changes shows a page that is gone, or that has come back as it was */
			if (is_there(link, page_id))
				angles_sweep_suspect(engine, link, page_id);
			else if (key[0] == ANGLES_HINT_PLACE)
				angles_sweep_hinted(engine, link);
			break;
		case ANGLES_HINT_SOURCE:
			angles_schema_ask(engine, link);
			/* one that could not be reached may be back */
			if (link->unreachable != NULL)
				angles_poll_at_once(engine, link);
			break;
		case ANGLES_HINT_EDITED:
			break;
		default:
			elog(ERROR, "a hint of an unknown kind stands in the change log");
	}
	angles_poll_hinted(engine, link);
}

/* Whether a page is one of the link's, and was where it belongs when it was seen last. */
static bool
is_there(const Link *link, const char *page_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {INT4OID, TEXTOID};
	Datum		values[2] = {Int32GetDatum(link->id), CStringGetTextDatum(page_id)};

	return angles_spi_exec(&plan,
						   "SELECT FROM angles.pages WHERE link_id = $1"
						   " AND page_id = NULLIF($2, '')::uuid"
						   " AND state IN ('live', 'new', 'restored')",
						   2, types, values, NULL, SPI_OK_SELECT) > 0;
}
