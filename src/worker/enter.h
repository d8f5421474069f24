/*
 * enter.h
 *		Coming in and leaving, for the other files of the room worker.
 */
#ifndef ANGLES_ENTER_H
#define ANGLES_ENTER_H

#include "postgres.h"

#include "core/compat.h"

/*
 * Signal handlers, the place in the slot, the connection to its database (an apply worker's as the
 * role it was started for), pinned settings. "kind" is an AnglesKind, "name" goes to
 * application_name.
 */
extern void angles_enter_database(int kind, Datum main_arg, const char *name);

/* Ends this process: whoever started it shall look at the extension and decide anew. */
ANGLES_NORETURN extern void angles_leave_to_look_again(void);

#endif							/* ANGLES_ENTER_H */
