/*
 * clock.h
 *		The only place where angles reads a clock, so that tests can replace it.
 */
#ifndef ANGLES_CLOCK_H
#define ANGLES_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Returns the wall clock, for what people read and what outlives the server. */
extern TimestampTz angles_clock_now(void);

/*
 * Returns microseconds since an arbitrary start that all processes of this machine share. It never
 * goes back: for intervals, rate windows and time limits.
 */
extern int64 angles_clock_mono_us(void);

/*
 * Returns a random number in [0, 1) from a generator seeded for each process; for jitter only.
 */
extern double angles_clock_jitter(void);

#endif							/* ANGLES_CLOCK_H */
