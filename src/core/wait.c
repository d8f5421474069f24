/*
 * wait.c
 *		See wait.h. Runs in background workers and in user backends that wait for a run.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"

#include "core/compat.h"
#include "core/wait.h"

/* Of libpq/libpq.h, which needs headers of Kerberos where PostgreSQL was built with it. */
extern bool pq_check_connection(void);

static uint64 reloads = 0;

#if PG_VERSION_NUM >= 170000
static uint32
angles_wait_event(const char *name)
{
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew(name);
	return event;
}
#endif

int
angles_wait(pgsocket fd, long timeout_ms)
{
	int			wake = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	int			result;

	/* a user who waits in a SELECT has his own transaction; a worker never has one here */
	Assert(MyBackendType != B_BG_WORKER || !IsTransactionState());

	if (fd != PGINVALID_SOCKET)
		wake |= WL_SOCKET_READABLE;
	if (timeout_ms >= 0)
		wake |= WL_TIMEOUT;
	if (!angles_wait_serve())
	{
		result = WaitLatchOrSocket(MyLatch, wake, fd, timeout_ms,
								   ANGLES_WAIT_EVENT("AnglesMain"));
		if (result & WL_LATCH_SET)
			ResetLatch(MyLatch);
		angles_wait_serve();
	}
	else
		result = WL_LATCH_SET;
	return result;
}

bool
angles_wait_serve(void)
{
	CHECK_FOR_INTERRUPTS();

	/* a user's backend reloads between statements by itself, never in the middle of one */
	if (MyBackendType == B_BG_WORKER && ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		reloads++;
		return true;
	}
	return false;
}

void
angles_wait_check_client(void)
{
	if (MyProcPort == NULL || pq_check_connection())
		return;
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

uint64
angles_wait_reloads(void)
{
	return reloads;
}
