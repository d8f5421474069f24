/*
 * identity.h
 *		Who this server is, and whether a database belongs to it. For the room worker only.
 */
#ifndef ANGLES_IDENTITY_H
#define ANGLES_IDENTITY_H

#include "postgres.h"

#include "worker/slots.h"

/*
 * Reads the parts of the identity that are files. In the postmaster, once for each fresh shared
 * memory; a start with recovery.signal leaves a durable mark in the data directory.
 */
extern void angles_identity_read_parts(AnglesIdentityParts *parts);

/*
 * Compares this database with what it recorded (inside a transaction of the bridge): a promoted
 * standby takes its new identity, a recovery is remembered as a fence. Returns true when the
 * database is fenced. Opens or closes the alert "fenced".
 */
extern bool angles_identity_settle(void);

/* What angles_identity_settle() last found of links: some were made by another server. */
extern bool angles_identity_foreign_links;

/* ... and that somebody's open transaction held the identity, or links: to be called again. */
extern bool angles_identity_undecided;

#endif							/* ANGLES_IDENTITY_H */
