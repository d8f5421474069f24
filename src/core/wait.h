/*
 * wait.h
 *		The only place of angles that waits. Nobody else calls WaitLatch, pg_usleep, poll or
 *		epoll_wait.
 */
#ifndef ANGLES_WAIT_H
#define ANGLES_WAIT_H

#include "postgres.h"

#include "storage/latch.h"

/*
 * Waits on MyLatch, on postmaster death (exits) and, when fd is not PGINVALID_SOCKET, on that file
 * descriptor (readable), at most timeout_ms (-1: for ever). Resets the latch, serves interrupts
 * and, in a background worker, reloads settings after SIGHUP. Returns the WL_* bits that ended the
 * wait. Asserts that no transaction is open in a background worker.
 */
extern int	angles_wait(pgsocket fd, long timeout_ms);

/*
 * Ends this session when its client is gone: nobody else would notice while it waits. To be called
 * about once a second.
 */
extern void angles_wait_check_client(void);

/*
 * Serves interrupts and a pending reload of settings without waiting. Returns true when the
 * settings were reloaded.
 */
extern bool angles_wait_serve(void);

/*
 * Counts reloads of settings in this process, so that a loop can notice one that happened in any
 * of its waits.
 */
extern uint64 angles_wait_reloads(void);

#endif							/* ANGLES_WAIT_H */
