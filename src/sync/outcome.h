/*
 * outcome.h
 *		What answers mean for pages and entries, collected to be written together.
 */
#ifndef ANGLES_OUTCOME_H
#define ANGLES_OUTCOME_H

#include "postgres.h"

#include "sync/engine.h"

/*
 * A transient failure of one row is reported in its entry from the first time, as an alert never.
 */
typedef struct Outcome
{
	RowSet		pages;			/* extras: page id, base, base_local or null, last edited, state */
	RowSet		done;			/* entries whose work is finished; extras: then link, then key */
	RowSet		again;			/* entries to plan again at once */
	RowSet		later;			/* extras: state, next_at, class, code, message, hint */
	RowSet		unsent;			/* entries of which surely nothing has reached Notion */
	RowSet		looked;			/* pages that a look-up did not find; they stay in doubt */
	RowSet		absent;			/* pages that surely do not exist: may be created again */
	RowSet		purged;			/* pages that were in the trash and are gone from there */
} Outcome;

/* Writes it. Needs a transaction. */
extern void angles_outcome_write(Engine *engine, Outcome *out);

#endif							/* ANGLES_OUTCOME_H */
