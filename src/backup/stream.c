/*
 * stream.c
 *		See stream.h. Runs in job workers.
 *
 * A cursor of SPI whose rows go to a receiver of ours instead of SPI's table of rows: SPI would
 * copy a batch of them, and rows can be as large as a gigabyte each.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/portal.h"

#include "backup/stream.h"

/* Rows between two looks at interrupts: the executor looks by itself at each row it makes. */
#define FETCH_ROWS 10000

typedef struct Receiver
{
	DestReceiver pub;
	AnglesStreamRow row;
	void	   *arg;
} Receiver;

static bool receive(TupleTableSlot *slot, DestReceiver *self);
static void startup(DestReceiver *self, int operation, TupleDesc desc);
static void nothing(DestReceiver *self);

void
angles_stream(const char *query, AnglesStreamRow row, void *arg)
{
	Receiver	receiver = {
		.pub = {
			.receiveSlot = receive, .rStartup = startup, .rShutdown = nothing,
			.rDestroy = nothing, .mydest = DestTuplestore
		},
		.row = row, .arg = arg
	};
	SPIPlanPtr	plan = SPI_prepare_cursor(query, 0, NULL, CURSOR_OPT_NO_SCROLL);
	Portal		portal;

	if (plan == NULL)
		elog(ERROR, "could not prepare a query: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	while (PortalRunFetch(portal, FETCH_FORWARD, FETCH_ROWS, &receiver.pub) == FETCH_ROWS)
		CHECK_FOR_INTERRUPTS();
	SPI_cursor_close(portal);
	SPI_freeplan(plan);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Receiver   *receiver = (Receiver *) self;

	receiver->row(slot, receiver->arg);
	return true;
}

/* The executor insists on these calls; there is nothing to prepare or to clean up. */
static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
nothing(DestReceiver *self)
{
}
