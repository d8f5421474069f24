/*
 * module.c
 *		Entry point of the library: puts the rooms together. Knows all of them; none knows it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "backup/backup.h"
#include "core/guc.h"
#include "core/shmem.h"
#include "net/net.h"
#include "sync/sync.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	angles_guc_define();
	angles_sync_install();
	angles_backup_install();

	/* everything below needs shared memory; without it capture still queues */
	if (!process_shared_preload_libraries_in_progress)
		return;
	angles_net_install();
	angles_worker_install();
	angles_shmem_install();
}
