/*
 * clock.c
 *		See clock.h. Builds with -DANGLES_TEST add the offset of angles.test_clock_offset to both
 *		clocks; no other build has a way to move them.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"

TimestampTz
angles_clock_now(void)
{
	TimestampTz now = GetCurrentTimestamp();

#ifdef ANGLES_TEST
	now += (TimestampTz) angles_guc_test_clock_offset * USECS_PER_SEC;
#endif
	return now;
}

int64
angles_clock_mono_us(void)
{
	struct timespec ts;
	int64		us;

	/* CLOCK_MONOTONIC is one clock for the whole machine (clock_gettime(2)) */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	us = (int64) ts.tv_sec * USECS_PER_SEC + ts.tv_nsec / 1000;
#ifdef ANGLES_TEST
	us += (int64) angles_guc_test_clock_offset * USECS_PER_SEC;
#endif
	return us;
}

double
angles_clock_jitter(void)
{
	/* PostgreSQL seeds the global generator in every child it starts (InitProcessGlobals) */
	return pg_prng_double(&pg_global_prng_state);
}
