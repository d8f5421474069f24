/*
 * books.c
 *		What angles.backup_log keeps of backups: for people, not for the next backup, which goes by
 *		the branch. Runs in job workers, with the rights of the extension's owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "core/clock.h"
#include "core/txn.h"
#include "backup/run.h"

typedef struct Note
{
	BackupRun  *run;
	bool		late;
} Note;

typedef struct Question
{
	const char *hex;
	bool		answer;
} Question;

static void note_job(void *arg);
static void have_job(void *arg);

void
angles_books_note(BackupRun *run, bool late)
{
	Note		note = {run, late};

	angles_txn_begin("angles: noting a backup");
	angles_worker_recheck();
	angles_worker_as_owner(note_job, &note);
	angles_txn_commit();
}

static void
note_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	BackupRun  *run = ((Note *) arg)->run;
	bool		late = ((Note *) arg)->late;
	BackupTreeStats chunks = {0};
	Oid			types[11] = {
		INT8OID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, INT8OID, INT8OID, FLOAT8OID,
		TEXTOID, TEXTOID
	};
	Datum		values[11];
	char		nulls[11];

	if (!late)
		chunks = angles_tree_stats(run->tree);
	memset(nulls, late ? 'n' : ' ', sizeof(nulls));
	memset(nulls, ' ', 5);
	values[0] = Int64GetDatum(angles_call_run_id(run->call));
	values[1] = CStringGetTextDatum(run->hex);
	values[2] = CStringGetTextDatum(run->branch);
	values[3] = CStringGetTextDatum(pg_any_to_server(run->manifest, strlen(run->manifest),
													 PG_UTF8));
	values[4] = BoolGetDatum(run->equal);
	values[5] = Int64GetDatum(chunks.written);
	values[6] = Int64GetDatum(chunks.reused);
	values[7] = Int64GetDatum(run->stats.pack_bytes);
	values[8] = Float8GetDatum((angles_clock_mono_us() - run->started_us) / 1e6);
	values[9] = CStringGetTextDatum(run->message ? run->message : "");
	nulls[9] = run->message ? ' ' : 'n';
	values[10] = CStringGetTextDatum(run->key ? angles_key_public_text(run->key) : "");
	nulls[10] = run->key ? ' ' : 'n';
	angles_spi_exec(&plan,
					"SELECT angles.note_backup($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, "
					"$11)",
					11, types, values, nulls, SPI_OK_SELECT);
}

bool
angles_books_have(const char *hex)
{
	Question	question = {hex, false};

	angles_txn_begin("angles: looking for a backup");
	angles_worker_recheck();
	angles_worker_as_owner(have_job, &question);
	angles_txn_commit();
	return question.answer;
}

static void
have_job(void *arg)
{
	static SPIPlanPtr plan = NULL;
	Question   *question = arg;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(question->hex)};

	question->answer = angles_spi_exec(&plan,
									   "SELECT FROM angles.backup_log WHERE commit = $1 LIMIT 1",
									   1, types, values, NULL, SPI_OK_SELECT) > 0;
}
