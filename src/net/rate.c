/*
 * rate.c
 *		Rate windows of all tokens in shared memory, for all workers of the cluster. Workers take
 *		and save, any process may look. See window.c for the arithmetic, ratefile.c for the file.
 *
 * After a crash nobody knows what was sent: all windows count as full. A clean shutdown is only
 * trusted when every worker that sent has saved afterwards, which each does when it ends. Before
 * the first grant a mark is put where the file will be, and a server that finds the mark at its
 * start counts the windows as full, too: one that could not save does no harm.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/shmem.h"
#include "net/net.h"
#include "net/rate.h"

/* When all windows are in use, a further token is told to ask again after this time. */
#define NO_WINDOW_US INT64CONST(1000000)

typedef struct NetRates
{
	LWLock		lock;			/* protects everything below */
	LWLock		file_lock;		/* protects the file; taken before "lock" */
	int			tranche;
	int64		full_until_us;	/* until then all windows count as full */
	bool		mark_is_set;	/* the mark stands in the file's place */
	NetWindow	windows[NET_RATE_TOKENS];
} NetRates;

static NetRates *rates = NULL;
static bool will_save = false;	/* when this process ends */

static Size rates_size(void);
static void rates_init(void *part);
static bool attach(void);
static void save_at_exit(int code, Datum arg);
static void lock_marked(void);
static void set_mark(void);
static NetWindow *find_window(uint64 fingerprint);
static NetWindow *make_window(uint64 fingerprint, int64 now);

void
angles_net_install(void)
{
	angles_shmem_register("angles rates", rates_size, rates_init, (void **) &rates);
	angles_net_breaker_register();
}

int64
angles_rate_take(uint64 fingerprint, int limit, AnglesRateClass class)
{
	NetWindow  *window;
	int64		now;
	int64		wait = NO_WINDOW_US;

	if (!attach())
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_NOT_PRELOADED),
				 errmsg("angles is not in shared_preload_libraries")));
	if (MyBackendType == B_BG_WORKER && !will_save)
	{
		before_shmem_exit(save_at_exit, (Datum) 0);
		will_save = true;
	}
	lock_marked();
	/* read under the lock: times in a window must not go back */
	now = angles_clock_mono_us();
	window = make_window(fingerprint, now);
	if (limit > 0 && rates->full_until_us > now)
		wait = rates->full_until_us - now;
	else if (window != NULL)
		wait = angles_net_window_take(window, limit, class, now);
	LWLockRelease(&rates->lock);
	return wait;
}

void
angles_rate_pause(uint64 fingerprint, int seconds, const char *reason)
{
	NetWindow  *window;
	int64		now;

	if (!attach())
		return;
	lock_marked();
	now = angles_clock_mono_us();
	window = make_window(fingerprint, now);
	if (window != NULL && window->paused_until_us < now + seconds * USECS_PER_SEC)
	{
		window->paused_until_us = now + seconds * USECS_PER_SEC;
		strlcpy(window->reason, reason, sizeof(window->reason));
	}
	LWLockRelease(&rates->lock);
}

void
angles_rate_resume(uint64 fingerprint)
{
	NetWindow  *window;

	if (!attach())
		return;
	LWLockAcquire(&rates->lock, LW_EXCLUSIVE);
	window = find_window(fingerprint);
	if (window != NULL)
		window->paused_until_us = 0;
	LWLockRelease(&rates->lock);
}

bool
angles_rate_get(uint64 fingerprint, AnglesRateState *state)
{
	NetWindow  *window;
	int64		now;

	MemSet(state, 0, sizeof(*state));
	if (!attach())
		return false;
	LWLockAcquire(&rates->lock, LW_SHARED);
	now = angles_clock_mono_us();
	window = find_window(fingerprint);
	state->full_us = Max(0, rates->full_until_us - now);
	if (window != NULL)
	{
		state->used = angles_net_window_used(window, now);
		state->paused_us = Max(0, window->paused_until_us - now);
		if (state->paused_us > 0)
			strlcpy(state->reason, window->reason, sizeof(state->reason));
	}
	LWLockRelease(&rates->lock);
	return window != NULL;
}

void
angles_rate_save(void)
{
	NetWindow  *copy;
	bool		was_set;

	if (!attach())
		return;
	copy = MemoryContextAlloc(TopMemoryContext, sizeof(rates->windows));
	LWLockAcquire(&rates->file_lock, LW_EXCLUSIVE);
	LWLockAcquire(&rates->lock, LW_EXCLUSIVE);
	memcpy(copy, rates->windows, sizeof(rates->windows));
	/* whoever is granted something from now on must set the mark anew, after this file */
	was_set = rates->mark_is_set;
	rates->mark_is_set = false;
	LWLockRelease(&rates->lock);
	/* when it fails the old mark stays, and the next start counts the windows as full: safe */
	if (was_set)
		angles_net_ratefile_write(copy);
	LWLockRelease(&rates->file_lock);
	pfree(copy);
}

static Size
rates_size(void)
{
	return sizeof(NetRates);
}

static void
rates_init(void *part)
{
	NetRates   *fresh = part;
	NetRateFileState state = NET_RATE_FILE_USELESS;

	MemSet(fresh, 0, sizeof(NetRates));
	fresh->tranche = LWLockNewTrancheId();
	LWLockInitialize(&fresh->lock, fresh->tranche);
	LWLockInitialize(&fresh->file_lock, fresh->tranche);
	if (!angles_shmem_after_crash())
		state = angles_net_ratefile_read(fresh->windows);
	if (state == NET_RATE_FILE_USELESS)
		fresh->full_until_us = angles_clock_mono_us() + NET_WINDOW_US;
	/* what cannot be removed would be read again, and is the mark as long as it is there */
	fresh->mark_is_set = !angles_net_ratefile_remove();
}

/* Returns false when there is no shared memory. Gives the locks their name in this process. */
static bool
attach(void)
{
	static bool named = false;

	if (rates == NULL)
		return false;
	if (!named)
		LWLockRegisterTranche(rates->tranche, "AnglesRates");
	named = true;
	return true;
}

static void
save_at_exit(int code, Datum arg)
{
	(void) arg;
	/* after a crash, and so after this kind of exit, the windows count as full anyhow */
	if (code <= 1)
		angles_rate_save();
}

/* Takes the lock while the mark stands in the file's place. */
static void
lock_marked(void)
{
	for (;;)
	{
		LWLockAcquire(&rates->lock, LW_EXCLUSIVE);
		if (rates->mark_is_set)
			return;
		LWLockRelease(&rates->lock);
		set_mark();
	}
}

static void
set_mark(void)
{
	LWLockAcquire(&rates->file_lock, LW_EXCLUSIVE);
	/*
	 * a full disk must not end the sync; it is in the log, and costs the memory of a restart only
	 */
	angles_net_ratefile_write(NULL);
	LWLockAcquire(&rates->lock, LW_EXCLUSIVE);
	rates->mark_is_set = true;
	LWLockRelease(&rates->lock);
	LWLockRelease(&rates->file_lock);
}

static NetWindow *
find_window(uint64 fingerprint)
{
	for (int i = 0; i < NET_RATE_TOKENS; i++)
	{
		if (rates->windows[i].fingerprint == fingerprint)
			return &rates->windows[i];
	}
	return NULL;
}

/* Finds a token's window, or gives it one that is free or idle; NULL when there is none. */
static NetWindow *
make_window(uint64 fingerprint, int64 now)
{
	NetWindow  *window = find_window(fingerprint);

	if (window != NULL)
		return window;
	for (int i = 0; i < NET_RATE_TOKENS; i++)
	{
		NetWindow  *other = &rates->windows[i];

		if (angles_net_window_is_idle(other, now) &&
			(window == NULL || other->asked_us < window->asked_us))
			window = other;
	}
	if (window == NULL)
		return NULL;
	MemSet(window, 0, sizeof(NetWindow));
	window->fingerprint = fingerprint;
	window->asked_us = now;
	return window;
}
