/*
 * install.c
 *		Puts the room worker into the server. Called from _PG_init while preloading.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "worker/hook.h"
#include "worker/launcher.h"
#include "worker/slots.h"
#include "worker/worker.h"

void
angles_worker_install(void)
{
	/* pg_upgrade starts servers whose databases are half made: be a mere library there */
	if (IsBinaryUpgrade)
		return;
	angles_slots_install();
	angles_launcher_install();
	angles_hook_install();
}
