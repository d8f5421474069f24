/*
 * testhook.c
 *		See testhook.h. Empty but for builds with -DANGLES_TEST.
 */
#include "postgres.h"

#include "core/testhook.h"

#ifdef ANGLES_TEST
#include <signal.h>
#include <unistd.h>

#include "core/guc.h"

void
angles_testhook_kill(const char *name)
{
	if (angles_guc_test_kill_point == NULL || strcmp(angles_guc_test_kill_point, name) != 0)
		return;
	/* the working directory of every server process is the data directory */
	if (unlink("angles_kill_once") != 0)
		return;
	ereport(LOG, (errmsg("kill point \"%s\" reached", name)));
	kill(getpid(), SIGKILL);
}
#endif
