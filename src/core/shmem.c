/*
 * shmem.c
 *		See shmem.h. Runs in the postmaster (and, for pointers, is inherited by its children).
 */
#include "postgres.h"

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "core/shmem.h"

#define MAX_PARTS 8

typedef struct Part
{
	const char *name;
	Size		(*size) (void);
	void		(*init) (void *part);
	void	  **where;
} Part;

static Part parts[MAX_PARTS];
static int	n_parts = 0;
static bool installed = false;
static bool after_crash = false;
static int	startups = 0;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void shmem_request(void);
static void shmem_startup(void);
static bool last_shutdown_was_clean(void);

void
angles_shmem_register(const char *name, Size (*size) (void), void (*init) (void *part),
					  void **where)
{
	if (n_parts == MAX_PARTS)
		elog(ERROR, "too many parts of shared memory");
	parts[n_parts++] = (Part) {
		.name = name, .size = size, .init = init, .where = where
	};
}

void
angles_shmem_install(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	installed = true;
}

bool
angles_preloaded(void)
{
	return installed;
}

bool
angles_shmem_after_crash(void)
{
	return after_crash;
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	for (int i = 0; i < n_parts; i++)
		RequestAddinShmemSpace(MAXALIGN(parts[i].size()));
}

static void
shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	/* a second segment in the life of one postmaster is always the consequence of a crash */
	if (!IsUnderPostmaster)
		after_crash = ++startups > 1 || !last_shutdown_was_clean();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < n_parts; i++)
	{
		bool		found;

		*parts[i].where = ShmemInitStruct(parts[i].name, parts[i].size(), &found);
		if (!found)
			parts[i].init(*parts[i].where);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The control file still says how the last server ended: recovery has not begun yet. */
static bool
last_shutdown_was_clean(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		clean = crc_ok && (control->state == DB_SHUTDOWNED ||
								   control->state == DB_SHUTDOWNED_IN_RECOVERY);

	pfree(control);
	return clean;
}
