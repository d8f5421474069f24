/*
 * launcher.h
 *		The launcher, for the other files of the room worker.
 */
#ifndef ANGLES_LAUNCHER_H
#define ANGLES_LAUNCHER_H

/* Registers the launcher with the postmaster. While preloading only. */
extern void angles_launcher_install(void);

#endif							/* ANGLES_LAUNCHER_H */
