/*
 * breaker.c
 *		Circuit breakers of remotes, in shared memory, and the delay between attempts. Workers use
 *		them; any process may look.
 *
 *	closed --(THRESHOLD failures in a row)--> open --(its time has come)--> one probe is let through
 *	   ^                                       ^                                  |
 *	   +---------------- success --------------|------------- failure, no word ---+
 *
 * A probe whose worker died without a word needs no cleaning up: the next one is allowed later.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/spin.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/shmem.h"
#include "net/net.h"
#include "net/rate.h"

#define THRESHOLD 5
#define MAX_REMOTES 32

typedef struct Breaker
{
	uint64		fingerprint;	/* 0: free */
	int			failures;		/* in a row */
	int			probes;			/* let through since it opened */
	int64		opened_us;
	int64		probe_us;		/* when the next probe may go */
	int64		touched_us;
} Breaker;

typedef struct Breakers
{
	slock_t		lock;			/* protects the array; held for a walk over it */
	Breaker		of[MAX_REMOTES];
} Breakers;

static Breakers *breakers = NULL;

static Size breakers_size(void);
static void breakers_init(void *part);
static Breaker *find(uint64 fingerprint);
static Breaker *make(uint64 fingerprint);
static int64 ceiling_us(int attempt);
static int64 probe_delay(int probe, double jitter);

int64
angles_breaker_ask(uint64 fingerprint)
{
	int64		now = angles_clock_mono_us();
	double		jitter = angles_clock_jitter();
	Breaker    *breaker;
	int64		wait = 0;

	if (breakers == NULL)
		return 0;
	SpinLockAcquire(&breakers->lock);
	breaker = find(fingerprint);
	if (breaker != NULL && breaker->failures >= THRESHOLD)
	{
		wait = Max(0, breaker->probe_us - now);
		if (wait == 0)
			breaker->probe_us = now + probe_delay(++breaker->probes + 1, jitter);
	}
	SpinLockRelease(&breakers->lock);
	return wait;
}

void
angles_breaker_success(uint64 fingerprint)
{
	Breaker    *breaker;

	if (breakers == NULL)
		return;
	SpinLockAcquire(&breakers->lock);
	breaker = find(fingerprint);
	if (breaker != NULL)
		MemSet(breaker, 0, sizeof(Breaker));
	SpinLockRelease(&breakers->lock);
}

void
angles_breaker_failure(uint64 fingerprint)
{
	int64		now = angles_clock_mono_us();
	double		jitter = angles_clock_jitter();
	Breaker    *breaker;

	if (breakers == NULL)
		return;
	SpinLockAcquire(&breakers->lock);
	breaker = make(fingerprint);
	breaker->touched_us = now;
	breaker->failures++;
	if (breaker->failures == THRESHOLD)
	{
		breaker->opened_us = now;
		breaker->probes = 0;
	}
	/* others that were under way when it opened, or a probe that took longer than its interval */
	if (breaker->failures >= THRESHOLD && breaker->probe_us <= now)
		breaker->probe_us = now + probe_delay(breaker->probes + 1, jitter);
	SpinLockRelease(&breakers->lock);
}

bool
angles_breaker_is_open(uint64 fingerprint, int *failures, int64 *open_us)
{
	int64		now = angles_clock_mono_us();
	Breaker    *breaker;
	bool		is_open = false;

	*failures = 0;
	*open_us = 0;
	if (breakers == NULL)
		return false;
	SpinLockAcquire(&breakers->lock);
	breaker = find(fingerprint);
	if (breaker != NULL)
	{
		*failures = breaker->failures;
		is_open = breaker->failures >= THRESHOLD;
		if (is_open)
			*open_us = now - breaker->opened_us;
	}
	SpinLockRelease(&breakers->lock);
	return is_open;
}

int64
angles_backoff_us(int attempt, int retry_after_s)
{
	int64		delay = (int64) (angles_clock_jitter() * ceiling_us(attempt));

	return Max(delay, retry_after_s * USECS_PER_SEC);
}

void
angles_net_breaker_register(void)
{
	angles_shmem_register("angles breakers", breakers_size, breakers_init, (void **) &breakers);
}

static Size
breakers_size(void)
{
	return sizeof(Breakers);
}

static void
breakers_init(void *part)
{
	Breakers   *fresh = part;

	MemSet(fresh, 0, sizeof(Breakers));
	SpinLockInit(&fresh->lock);
}

static Breaker *
find(uint64 fingerprint)
{
	for (int i = 0; i < MAX_REMOTES; i++)
	{
		if (breakers->of[i].fingerprint == fingerprint)
			return &breakers->of[i];
	}
	return NULL;
}

/* Finds a breaker, or takes a free one, or that of the remote which failed the longest ago. */
static Breaker *
make(uint64 fingerprint)
{
	Breaker    *breaker = find(fingerprint);

	if (breaker != NULL)
		return breaker;
	breaker = &breakers->of[0];
	for (int i = 1; i < MAX_REMOTES; i++)
	{
		if (breakers->of[i].touched_us < breaker->touched_us)
			breaker = &breakers->of[i];
	}
	MemSet(breaker, 0, sizeof(Breaker));
	breaker->fingerprint = fingerprint;
	return breaker;
}

/* angles.retry_initial, doubled with every attempt after the first, up to angles.retry_cap. */
static int64
ceiling_us(int attempt)
{
	int64		ceiling_ms = angles_guc_retry_initial;

	while (--attempt > 0 && ceiling_ms < angles_guc_retry_cap)
		ceiling_ms *= 2;
	return Min(ceiling_ms, angles_guc_retry_cap) * 1000;
}

/* Never less than the first step: two probes shall not go at once. */
static int64
probe_delay(int probe, double jitter)
{
	int64		floor_us = ceiling_us(1);

	return floor_us + (int64) (jitter * (ceiling_us(probe) - floor_us));
}
