/*
 * compat.h
 *		The one place for API differences between PostgreSQL 15 and 18.
 *
 * Source of the facts: the headers and release notes of each version. 15 is what CI runs; what
 * stands here for 16 is by reading.
 */
#ifndef ANGLES_COMPAT_H
#define ANGLES_COMPAT_H

#include "postgres.h"

#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "angles needs PostgreSQL 15, 16, 17 or 18"
#endif

/* For functions that do not return, before "extern" or "static"; 18 has a new word for it. */
#if PG_VERSION_NUM >= 180000
#define ANGLES_NORETURN pg_noreturn
#else
#define ANGLES_NORETURN pg_attribute_noreturn()
#endif

/*
 * The index of this process in ProcGlobal->allProcs: what another process needs to set its latch.
 */
#if PG_VERSION_NUM >= 170000
#define ANGLES_MY_PROC_NUMBER ((int) MyProcNumber)
#else
#define ANGLES_MY_PROC_NUMBER ((int) MyProc->pgprocno)
#endif

/*
 * The wait event shown in pg_stat_activity while angles waits: named from 17 on, "Extension"
 * before.
 */
#if PG_VERSION_NUM >= 170000
#define ANGLES_WAIT_EVENT(name) angles_wait_event(name)
#else
#define ANGLES_WAIT_EVENT(name) ((uint32) PG_WAIT_EXTENSION)
#endif

/*
 * Before 17 a background worker can only connect as a role that may log in. The owner of linked
 * tables need not.
 */
#if PG_VERSION_NUM >= 170000
#define ANGLES_CONNECT_AS_ROLE BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define ANGLES_CONNECT_AS_ROLE 0
#endif
#define ANGLES_ROLE_MUST_LOG_IN (ANGLES_CONNECT_AS_ROLE == 0)

/* 16 replaced pg_database_ownercheck(), pg_database_aclcheck() and their kin. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_database.h"
#include "catalog/pg_class.h"
#define ANGLES_CONNECT_ACL(dboid, role) \
	object_aclcheck(DatabaseRelationId, (dboid), (role), ACL_CONNECT)
#define ANGLES_OWNS_DATABASE(dboid, role) object_ownercheck(DatabaseRelationId, (dboid), (role))
#define ANGLES_OWNS_TABLE(relid, role) object_ownercheck(RelationRelationId, (relid), (role))
#else
#define ANGLES_CONNECT_ACL(dboid, role) pg_database_aclcheck((dboid), (role), ACL_CONNECT)
#define ANGLES_OWNS_DATABASE(dboid, role) pg_database_ownercheck((dboid), (role))
#define ANGLES_OWNS_TABLE(relid, role) pg_class_ownercheck((relid), (role))
#endif

/*
 * What a check hook hands over is freed by PostgreSQL: with free() before 16, in a context since.
 */
#if PG_VERSION_NUM >= 160000
#define ANGLES_GUC_MALLOC(size) guc_malloc(LOG, (size))
#else
#define ANGLES_GUC_MALLOC(size) malloc(size)
#endif

/* 18 takes bytes where text was taken before. */
#if PG_VERSION_NUM >= 180000
#define ANGLES_B64_ENCODE(from, len, into, room) \
	pg_b64_encode((const uint8 *) (from), (len), (into), (room))
#define ANGLES_B64_DECODE(from, len, into, room) \
	pg_b64_decode((from), (len), (uint8 *) (into), (room))
#else
#define ANGLES_B64_ENCODE(from, len, into, room) pg_b64_encode((from), (len), (into), (room))
#define ANGLES_B64_DECODE(from, len, into, room) pg_b64_decode((from), (len), (into), (room))
#endif

#endif							/* ANGLES_COMPAT_H */
