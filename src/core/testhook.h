/*
 * testhook.h
 *		Kill points. Only builds with -DANGLES_TEST have them; elsewhere the macro is nothing.
 *
 * ANGLES_KILL_POINT("name") sends SIGKILL to this very process when angles.test_kill_point is that
 * name and the file angles_kill_once stands in the data directory. The file is removed first, so a
 * point strikes once.
 */
#ifndef ANGLES_TESTHOOK_H
#define ANGLES_TESTHOOK_H

#include "postgres.h"

#ifdef ANGLES_TEST
/* What ANGLES_KILL_POINT() calls. */
extern void angles_testhook_kill(const char *name);
#define ANGLES_KILL_POINT(name) angles_testhook_kill(name)
#else
#define ANGLES_KILL_POINT(name) ((void) 0)
#endif

#endif							/* ANGLES_TESTHOOK_H */
