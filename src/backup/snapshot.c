/*
 * snapshot.c
 *		The part of a backup that has a snapshot: which tables, and their rows. Runs in job workers,
 *		connected as the backup role.
 *
 * All tables are locked before the snapshot is taken. The other way round, a TRUNCATE or a rewrite
 * that commits between the two would leave an old snapshot with a table that looks empty.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/testhook.h"
#include "core/txn.h"
#include "backup/copytext.h"
#include "backup/run.h"
#include "backup/schema.h"

/* Tables that come while others are being locked: so often all is begun anew. */
#define ATTEMPTS 5

/* People are told of progress after so much time. */
#define TELL_US (5 * INT64CONST(1000000))

static List *list_tables(BackupRun *run);
static bool begin_snapshot(BackupRun *run, List *locked);
static void lock_tables(List *relations);
static void name_relation(void *arg);
static void note_moment(BackupRun *run);
static void check_policies(void *arg);
static void read_tables(BackupRun *run);
static void tell(const BackupTable *table, const BackupCount *count, void *arg);
static void end_snapshot(BackupRun *run);

/* ---- whose rights ---- */

void
angles_snapshot_check_role(void)
{
	const char *name = angles_guc_backup_role;
	const char *detail = NULL;
	MemoryContext caller = CurrentMemoryContext;
	Oid			role;

	StartTransactionCommand();
	role = get_role_oid(name, true);
	if (!OidIsValid(role))
		detail = "It does not exist.";
	else if (role != GetUserId())
		detail = ANGLES_ROLE_MUST_LOG_IN
			? "It may not log in, or not connect to this database."
			: "It may not connect to this database.";
	else if (superuser() && !angles_guc_backup_allow_superuser)
		detail = "It is a superuser.";
	else if (!has_privs_of_role(role, ROLE_PG_READ_ALL_DATA) && !superuser())
		detail = "It is no member of pg_read_all_data.";
	else if (!has_bypassrls_privilege(role))
		detail = "It has not BYPASSRLS: rows that policies hide from it would be missing.";
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (detail == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ANGLES_BACKUP_ROLE),
			 errmsg("role \"%s\" of angles.backup_role cannot make backups", name),
			 errdetail("%s", detail),
			 errhint("CREATE ROLE %s LOGIN BYPASSRLS; GRANT pg_read_all_data TO %s; and GRANT "
					 "CONNECT ON DATABASE to it, or set angles.backup_role to a role like that.",
					 quote_identifier(name), quote_identifier(name))));
}

/* ---- reading ---- */

void
angles_snapshot_read(BackupRun *run)
{
	int			attempt = 0;

	while (!begin_snapshot(run, list_tables(run)))
	{
		if (++attempt == ATTEMPTS)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("tables are made faster than they can be locked"),
					 errhint("Try again when they are not, or name the tables to back up.")));
	}
	read_tables(run);
	end_snapshot(run);
}

static List *
list_tables(BackupRun *run)
{
	List	   *relations;

	angles_txn_begin("angles: backup: listing tables");
	MemoryContextSwitchTo(run->cxt);
	relations = angles_scope_relations(run->named);
	angles_txn_commit();
	MemoryContextSwitchTo(run->cxt);
	return relations;
}

/* Returns false, with no transaction, when there is a table now that was not locked. */
static bool
begin_snapshot(BackupRun *run, List *locked)
{
	ListCell   *cell;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
	pgstat_report_activity(STATE_RUNNING, "angles: backup: locking tables");
	lock_tables(locked);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) angles_copytext_pin();
	MemoryContextSwitchTo(run->cxt);
	note_moment(run);
	run->facts.scope = angles_scope_read(run->named);
	foreach(cell, run->facts.scope->tables)
	{
		if (list_member_oid(locked, ((BackupTable *) lfirst(cell))->relid))
			continue;
		end_snapshot(run);
		return false;
	}
	return true;
}

static void
lock_tables(List *relations)
{
	char	   *timeout = psprintf("%dms", angles_guc_backup_lock_timeout);
	Oid			relid = InvalidOid;
	ErrorContextCallback callback = {
		.callback = name_relation, .arg = &relid, .previous = error_context_stack
	};
	ListCell   *cell;

	(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	error_context_stack = &callback;
	foreach(cell, relations)
	{
		relid = lfirst_oid(cell);
		LockRelationOid(relid, AccessShareLock);
	}
	error_context_stack = callback.previous;
}

/* By its number: its name could only be read when nobody is changing it. */
static void
name_relation(void *arg)
{
	Oid			relid = *(Oid *) arg;

	errcontext("backup of the table with oid %u", relid);
}

static void
note_moment(BackupRun *run)
{
	static SPIPlanPtr plan = NULL;

	run->facts.moment.at = angles_clock_now();
	run->facts.moment.lsn = GetXLogWriteRecPtr();
	angles_spi_exec(&plan, "SELECT pg_current_snapshot()::text, gen_random_uuid()::text",
					0, NULL, NULL, NULL, SPI_OK_SELECT);
	run->facts.moment.snapshot = angles_spi_text(0, 1, run->cxt);
	run->facts.id = angles_spi_text(0, 2, run->cxt);
}

/* Somebody relies on a policy: what backups cannot do yet must not go without a word. */
static void
check_policies(void *arg)
{
	static SPIPlanPtr plan = NULL;
	const BackupScope *scope = arg;
	ListCell   *cell;

	foreach(cell, scope->tables)
	{
		const BackupTable *table = lfirst(cell);
		Oid			types[1] = {OIDOID};
		Datum		values[1] = {ObjectIdGetDatum(table->relid)};

		/* a partition follows its parents */
		if (angles_spi_exec(&plan,
							"SELECT p.column_name, p.policy, p.relid::text"
							" FROM angles.column_policies p WHERE p.policy <> 'plain'"
							" AND (p.relid = $1 OR p.relid IN"
							"  (SELECT relid FROM pg_partition_ancestors($1)))",
							1, types, values, NULL, SPI_OK_SELECT) == 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of table %s has policy \"%s\", which backups do not "
						"follow yet", angles_spi_text(0, 1, CurrentMemoryContext),
						table->full_name, angles_spi_text(0, 2, CurrentMemoryContext)),
				 errdetail("Its values would be written as they are."),
				 errhint("Name the tables to back up without this one, or take the policy away: "
						 "SELECT angles.backup_policy(%s, %s, NULL).",
						 quote_literal_cstr(angles_spi_text(0, 3, CurrentMemoryContext)),
						 quote_literal_cstr(angles_spi_text(0, 1, CurrentMemoryContext)))));
	}
}

static void
read_tables(BackupRun *run)
{
	BackupFacts *facts = &run->facts;
	ChunkSizes	sizes = angles_chunk_sizes(facts->chunk_target);
	ListCell   *cell;
	int			i = 0;

	ANGLES_KILL_POINT("backup_snapshot");
	angles_worker_as_owner(check_policies, facts->scope);
	facts->counts = palloc0(sizeof(BackupCount) * Max(list_length(facts->scope->tables), 1));
	foreach(cell, facts->scope->tables)
	{
		BackupTable *table = lfirst(cell);
		BackupCount *count = &facts->counts[i++];

		pgstat_report_activity(STATE_RUNNING,
							   psprintf("angles: backup: %s (%d of %d)", table->full_name, i,
										list_length(facts->scope->tables)));
		*count = angles_export_table(run->tree, table, &sizes, tell, run);
		facts->chunks += count->chunks;
		if (table->config)
			continue;
		facts->rows += count->rows;
		facts->bytes += count->bytes;
	}
	angles_schema_add(run->tree, facts->scope);
	run->order = angles_scope_order(facts->scope);
	run->sequences = angles_scope_sequences(facts->scope);
}

static void
tell(const BackupTable *table, const BackupCount *count, void *arg)
{
	BackupRun  *run = arg;
	int64		now = angles_clock_mono_us();

	if (now - run->told_us < TELL_US)
		return;
	run->told_us = now;
	angles_call_notice(run->call,
					   psprintf("backup: %s: " INT64_FORMAT " rows", table->full_name,
								count->rows));
}

static void
end_snapshot(BackupRun *run)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(run->cxt);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}
