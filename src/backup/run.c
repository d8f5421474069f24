/*
 * run.c
 *		A backup from its call to its end: angles.backup(). Runs in job workers.
 *
 * The order of the steps is what makes a crash harmless: the pack is complete and on disk before a
 * commit is spoken of, the commit was read back before the branch moves, and the branch is the only
 * thing that says which backup is the last. What a dead run left is a pack that nothing points to.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/errors.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/testhook.h"
#include "core/txn.h"
#include "backup/backup.h"
#include "backup/copytext.h"
#include "backup/run.h"
#include "backup/verify.h"

/*
 * Fields of the advisory lock that lets one backup at a time run in a database. SQL functions use 1
 * and 2 as the last one, so no user can take or hold it.
 */
#define BACKUP_LOCK_FIELD 0x4E42

/* An author for git: there is no person, and nobody to write to. */
#define AUTHOR_NAME "angles"
#define AUTHOR_EMAIL "angles@localhost"

static void backup_task(AnglesCall *call);
static void verify_task(AnglesCall *call);
static void read_args(BackupRun *run, const char *args);
static void take_lock(BackupRun *run);
static void open_repository(BackupRun *run);
static void catch_up(BackupRun *run);
static void write_content(BackupRun *run);
static bool is_equal(BackupRun *run);
static void write_commit(BackupRun *run);
static char *commit_message(BackupRun *run);
static void move_branch(BackupRun *run);
static void answer(BackupRun *run);
static char *remark(BackupRun *run);
static void print_card(BackupRun *run);
static char *repository_path(void);
static char *branch_name(BackupRun *run);
static void begin(MemoryContext cxt);
static void end(MemoryContext cxt);

void
angles_backup_install(void)
{
	angles_job_register("backup", backup_task);
	angles_job_register("verify_backup", verify_task);
}

static void
backup_task(AnglesCall *call)
{
	BackupRun  *run = palloc0(sizeof(BackupRun));

	run->call = call;
	run->cxt = CurrentMemoryContext;
	run->started_us = run->told_us = angles_clock_mono_us();
	run->facts.chunk_target = (uint32) angles_guc_backup_chunk_size * 1024;
	angles_snapshot_check_role();
	begin(run->cxt);
	read_args(run, angles_call_args(call));
	run->branch = branch_name(run);
	end(run->cxt);
	take_lock(run);
	run->key = angles_key_open();
	open_repository(run);
	run->pack = angles_git_pack_begin(run->repo, angles_guc_backup_compression);
	run->tree = angles_tree_begin(run->pack);
	angles_snapshot_read(run);
	ANGLES_KILL_POINT("backup_read");
	write_content(run);
	if (is_equal(run))
		angles_git_pack_abort(run->pack);
	else
	{
		write_commit(run);
		move_branch(run);
	}
	ANGLES_KILL_POINT("backup_before_books");
	angles_books_note(run, false);
	answer(run);
	if (!run->has_parent)
		print_card(run);
}

/* ---- before ---- */

static void
read_args(BackupRun *run, const char *args)
{
	char	   *utf8 = angles_json_to_utf8(args);
	char	   *problem;
	Jsonb	   *json = angles_json_parse(utf8, strlen(utf8), &problem);
	JsonbContainer *tables;

	if (json == NULL || !JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the arguments of task \"backup\" are no object"),
				 errhint("Call angles.backup() instead.")));
	run->message = angles_json_get_text(&json->root, "message");
	tables = angles_json_get_container(&json->root, "tables");
	for (uint32 i = 0; tables != NULL && i < JsonContainerSize(tables); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(tables, i);
		int64		oid = 0;

		if (value != NULL && value->type == jbvNumeric)
			oid = DatumGetInt64(DirectFunctionCall1(numeric_int8,
													NumericGetDatum(value->val.numeric)));
		if (oid <= 0 || oid > PG_UINT32_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a table of task \"backup\" is no oid"),
					 errhint("Call angles.backup() instead.")));
		run->named = list_append_unique_oid(run->named, (Oid) oid);
	}
	if (tables != NULL && run->named == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the list of tables is empty"),
				 errhint("Leave it out to back up all tables.")));
}

/* For the life of this process, which is that of the run. */
static void
take_lock(BackupRun *run)
{
	LOCKTAG		tag;
	bool		taken;

	StartTransactionCommand();
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, BACKUP_LOCK_FIELD);
	taken = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	MemoryContextSwitchTo(run->cxt);
	if (!taken)
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_BUSY),
				 errmsg("another backup of this database is under way"),
				 errhint("SELECT * FROM angles.runs WHERE task = 'backup' AND state = 'running' "
						 "shows it; angles.cancel(id) ends it.")));
}

static void
open_repository(BackupRun *run)
{
	MemoryContextSwitchTo(run->cxt);
	run->repo = angles_git_open(repository_path(), true);
	run->has_parent = angles_git_ref_read(run->repo, run->branch, &run->parent);
	if (!run->has_parent)
		return;
	angles_git_hex(&run->parent, run->parent_hex);
	run->facts.parent = run->parent_hex;
	if (!angles_books_have(run->parent_hex))
		catch_up(run);
}

/* Notes a backup whose run died after it had moved the branch. */
static void
catch_up(BackupRun *run)
{
	BackupRun	late = {.call = run->call, .cxt = run->cxt, .branch = run->branch};
	BackupVerified *verified = angles_verify(run->repo, &run->parent, NULL);

	late.commit = run->parent;
	memcpy(late.hex, run->parent_hex, sizeof(late.hex));
	late.manifest = verified->manifest;
	late.signed_by = verified->signed_by;
	angles_books_note(&late, true);
}

static char *
repository_path(void)
{
	if (mkdir(angles_guc_backup_directory, S_IRWXU) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not make folder \"%s\" of angles.backup_directory: %m",
						angles_guc_backup_directory),
				 errhint("The folder above must be there and be the server's user's.")));
	return psprintf("%s/%u.git", angles_guc_backup_directory, MyDatabaseId);
}

static char *
branch_name(BackupRun *run)
{
	return psprintf("refs/heads/angles/%s/%s",
					angles_scope_file_name(get_database_name(MyDatabaseId)),
					run->named == NIL ? "all" : "chosen");
}

/* A transaction for what needs one, such as converting text; what it makes stays in "cxt". */
static void
begin(MemoryContext cxt)
{
	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

static void
end(MemoryContext cxt)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/* ---- writing ---- */

/* Everything that does not hang on when and where this backup was made. */
static void
write_content(BackupRun *run)
{
	pgstat_report_activity(STATE_RUNNING, "angles: backup: writing");
	angles_manifest_files(run->tree, run->order, run->sequences, run->key);
	angles_tree_sums(run->tree, run->facts.sums);
}

/* Whether the last backup has the same sums, that is, the same of all that is in it. */
static bool
is_equal(BackupRun *run)
{
	Size		len;
	char	   *sums;
	char		hex[ANGLES_SHA256_HEX];

	if (!run->has_parent)
		return false;
	sums = angles_verify_read(run->repo, &run->parent, "SHA256SUMS", &len);
	if (sums == NULL)
		return false;
	angles_sha256_hex(sums, len, hex);
	run->equal = strcmp(hex, run->facts.sums) == 0;
	if (run->equal)
	{
		run->commit = run->parent;
		memcpy(run->hex, run->parent_hex, sizeof(run->hex));
		run->manifest = angles_verify_read(run->repo, &run->parent, "angles.json", &len);
	}
	return run->equal;
}

static void
write_commit(BackupRun *run)
{
	GitCommitSpec spec = {0};
	BackupVerified *verified;

	angles_txn_begin("angles: backup: writing");
	MemoryContextSwitchTo(run->cxt);
	run->manifest = angles_manifest_json(&run->facts, run->key);
	spec.message = commit_message(run);
	angles_txn_commit();
	MemoryContextSwitchTo(run->cxt);
	angles_tree_loose_file(run->tree, "angles.json", run->manifest, strlen(run->manifest));
	if (run->key != NULL)
	{
		unsigned char signature[ANGLES_SIGNATURE_BYTES];

		angles_key_sign(run->key, run->manifest, strlen(run->manifest), signature);
		angles_tree_loose_file(run->tree, "angles.sig", signature, sizeof(signature));
		run->signed_by = angles_key_fingerprint(run->key);
	}
	spec.tree = angles_tree_end(run->tree);
	spec.parents = &run->parent;
	spec.n_parents = run->has_parent ? 1 : 0;
	spec.author.name = AUTHOR_NAME;
	spec.author.email = AUTHOR_EMAIL;
	spec.author.when = timestamptz_to_time_t(run->facts.moment.at);
	spec.committer = spec.author;
	angles_git_pack_commit(run->pack, &spec, &run->commit);
	angles_git_hex(&run->commit, run->hex);
	ANGLES_KILL_POINT("backup_before_pack");
	angles_git_pack_finish(run->pack, &run->stats);
	ANGLES_KILL_POINT("backup_after_pack");
	pgstat_report_activity(STATE_RUNNING, "angles: backup: reading back");
	verified = angles_verify(run->repo, &run->commit, run->has_parent ? &run->parent : NULL);
	Assert(strcmp(verified->manifest, run->manifest) == 0);
	(void) verified;
}

static char *
commit_message(BackupRun *run)
{
	const char *what = run->message && *run->message ? run->message
		: run->facts.scope->whole ? "Backup of all tables" : "Backup of chosen tables";

	return psprintf("%s\n\n" INT64_FORMAT " rows, " INT64_FORMAT " bytes\nBackup-Id: %s\n",
					angles_copytext_encode(what), run->facts.rows, run->facts.bytes,
					run->facts.id);
}

static void
move_branch(BackupRun *run)
{
	GitOid		none = {{0}};

	ANGLES_KILL_POINT("backup_before_branch");
	if (!angles_git_ref_update(run->repo, run->branch, &run->commit,
							   run->has_parent ? &run->parent : &none))
		ereport(ERROR,
				(errcode(ERRCODE_ANGLES_BACKUP_BUSY),
				 errmsg("somebody else has moved branch \"%s\" during the backup", run->branch),
				 errhint("Let nothing but angles write to the repository, and call "
						 "angles.backup() again.")));
	if (run->named == NIL)
		angles_git_head_set(run->repo, run->branch);
	ANGLES_KILL_POINT("backup_after_branch");
}

/* ---- after ---- */

static void
answer(BackupRun *run)
{
	BackupTreeStats chunks = angles_tree_stats(run->tree);
	StringInfoData row;

	initStringInfo(&row);
	appendStringInfo(&row, "{\"commit\": \"%s\", \"rows\": " INT64_FORMAT ", \"bytes\": "
					 INT64_FORMAT ", \"written\": " INT64_FORMAT ", \"reused\": " INT64_FORMAT
					 ", \"seconds\": %.3f, \"equal\": %s, \"remark\": ",
					 run->hex, run->facts.rows, run->facts.bytes, chunks.written, chunks.reused,
					 (angles_clock_mono_us() - run->started_us) / 1e6,
					 run->equal ? "true" : "false");
	angles_json_append_string(&row, remark(run));
	appendStringInfoChar(&row, '}');
	angles_call_row(run->call, row.data);
}

static char *
remark(BackupRun *run)
{
	StringInfoData text;
	int			left_out = list_length(run->facts.scope->left_out);

	initStringInfo(&text);
	if (run->equal)
		appendStringInfo(&text, "equal to %.12s; ", run->hex);
	if (left_out > 0)
		appendStringInfo(&text, "%d relations are left out, see angles.json; ", left_out);
	if (run->key == NULL)
		appendStringInfoString(&text, "not signed: SELECT angles.create_backup_key(path); ");
	if (text.len > 0)
		text.data[text.len - 2] = '\0';
	return text.data;
}

/* What a person needs when this server is gone. */
static void
print_card(BackupRun *run)
{
	const char *path = angles_git_path(run->repo);
	const char *branch = run->branch + strlen("refs/heads/");
	char	   *full = is_absolute_path(path) ? pstrdup(path) : psprintf("%s/%s", DataDir, path);

	angles_call_notice(run->call,
					   psprintf("first backup; keep this apart from the server:\n"
								"  repository  %s\n"
								"  branch      %s\n"
								"  key         %s\n"
								"  restore     git clone -b %s %s backup && "
								"backup/restore.sh --create -d NEW",
								full, branch,
								run->signed_by ? run->signed_by : "none: the backup is not signed",
								branch, full));
}

/* ---- verify_backup ---- */

static void
verify_task(AnglesCall *call)
{
	const char *text = angles_call_args(call);
	char	   *problem;
	Jsonb	   *args;
	char	   *name;
	GitRepo    *repo = angles_git_open(repository_path(), false);
	GitOid		commit;
	BackupVerified *verified;
	StringInfoData row;
	MemoryContext cxt = CurrentMemoryContext;

	begin(cxt);
	text = angles_json_to_utf8(text);
	args = angles_json_parse(text, strlen(text), &problem);
	name = args ? angles_json_get_text(&args->root, "commit") : NULL;
	end(cxt);
	if (name == NULL || !angles_git_parse_hex(name, &commit))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a commit is named by 40 hexadecimal digits"),
				 errhint("SELECT commit FROM angles.backups shows them.")));
	verified = angles_verify(repo, &commit, NULL);
	initStringInfo(&row);
	appendStringInfo(&row, "{\"commit\": \"%s\", \"files\": " INT64_FORMAT ", \"bytes\": "
					 INT64_FORMAT ", \"signed_by\": ", name, verified->files, verified->bytes);
	if (verified->signed_by != NULL)
		angles_json_append_string(&row, verified->signed_by);
	else
		appendStringInfoString(&row, "null");
	appendStringInfoChar(&row, '}');
	angles_call_row(call, row.data);
}
