/*
 * manifest.c
 *		See manifest.h. Runs in job workers.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_locale.h"
#include "utils/timestamp.h"

#include "commands/dbcommands.h"
#include "core/json.h"
#include "worker/worker.h"
#include "backup/copytext.h"
#include "backup/manifest.h"

/* What git does not change on any system. */
static const char attributes[] = "* -text -eol\n*.copy -diff=auto\n";

static const char readme[] =
	"# Backup of a PostgreSQL database\n"
	"\n"
	"Made by angles. Each commit is the state of all tables at one moment. The rows of a table\n"
	"are in `data/schema.table/`, as the text that COPY writes, in the order of its key, in files\n"
	"of about equal size; `load.sql` in that folder says which columns they have. `angles.json`\n"
	"says when and where the backup was made.\n"
	"\n"
	"## Restore without angles\n"
	"\n"
	"    git clone --depth 1 REPOSITORY backup && cd backup\n"
	"    ./restore.sh --check                # compares all files with their sums\n"
	"    ./restore.sh --create -d DATABASE   # makes the tables in an empty database, too\n"
	"    ./restore.sh -d DATABASE            # loads tables that are there and empty\n"
	"\n"
	"`schema/` has the definitions, `schema/tables/` those of each table for reading;\n"
	"`schema/not-captured.txt` names what is missing. Owners and rights are in\n"
	"`schema/040-rights.sql`: run it afterwards where the roles exist.\n"
	"\n"
	"All is loaded in one transaction, or nothing. Tables come in the order of `order.txt`; where\n"
	"it names a cycle of foreign keys, make these DEFERRABLE or add them afterwards\n"
	"(`--create` does).\n"
	"\n"
	"By hand, one table:\n"
	"\n"
	"    cd data/public.t && sha256sum -c SHA256SUMS\n"
	"    (cat ../../settings.sql load.sql */*.copy; echo '\\.') | psql\n"
	"\n"
	"## Is it what was written?\n"
	"\n"
	"`SHA256SUMS` of the root has the sums of those of the tables, these have those of their\n"
	"buckets, and these those of the files with rows. `angles.json` has the sum of the first, and\n"
	"`angles.sig` is its signature, when there is one:\n"
	"\n"
	"    openssl pkeyutl -verify -pubin -inkey angles.pub -rawin -in angles.json \\\n"
	"        -sigfile angles.sig\n"
	"\n"
	"That proves something only when `angles.pub` is the key that you know.\n"
	"\n"
	"`config/` has what angles itself keeps (links to Notion, never a token). angles loads it.\n";

static const char restore[] =
	"#!/bin/sh\n"
	"# Loads this backup: ./restore.sh [--create | --check] [OPTIONS OF PSQL]\n"
	"#   without: into tables that are there and empty\n"
	"#   --create: into an empty database; makes the tables as schema/ has them. Owners and\n"
	"#             rights: psql -f schema/040-rights.sql afterwards, where the roles exist\n"
	"#   --check: only compares it with its sums\n"
	"# Needs sh, sed, xargs, sha256sum and psql.\n"
	"set -eu\n"
	"LC_ALL=C\n"
	"export LC_ALL\n"
	"cd \"$(dirname \"$0\")\"\n"
	"\n"
	"names() { sed 's/^[^ ]*  //' \"$1\"; }\n"
	"folders() { names \"$1\" | sed -n 's/\\/SHA256SUMS$//p'; }\n"
	"\n"
	"# Compares a folder and all that its sums name.\n"
	"check() {\n"
	"  (\n"
	"    cd \"$1\"\n"
	"    [ ! -s SHA256SUMS ] || sha256sum -c --quiet SHA256SUMS || exit 1\n"
	"    for folder in $(folders SHA256SUMS); do\n"
	"      check \"$folder\" || exit 1\n"
	"    done\n"
	"  )\n"
	"}\n"
	"\n"
	"# The rows of a table: of the files that the sums name and no others.\n"
	"rows() {\n"
	"  for bucket in $(folders \"$1/SHA256SUMS\"); do\n"
	"    (cd \"$1/$bucket\" && names SHA256SUMS | xargs cat) || return 1\n"
	"  done\n"
	"}\n"
	"\n"
	"script() {\n"
	"  [ -z \"$create\" ] || cat schema/010-pre.sql || return 1\n"
	"  cat settings.sql || return 1\n"
	"  for table in $(sed '/^#/d' order.txt); do\n"
	"    { cat \"$table/load.sql\" && rows \"$table\" && printf '\\\\.\\n'; } || return 1\n"
	"  done\n"
	"  if [ -n \"$create\" ]; then\n"
	"    cat schema/020-seq.sql schema/030-post.sql\n"
	"  else\n"
	"    cat sequences.sql\n"
	"  fi\n"
	"}\n"
	"\n"
	"check . || { echo 'restore.sh: this is not what was written' >&2; exit 1; }\n"
	"[ \"${1:-}\" != --check ] || exit 0\n"
	"create=\n"
	"[ \"${1:-}\" != --create ] || { create=yes; shift; }\n"
	"# what cannot be read must not end as a transaction that went well\n"
	"{ script || printf '\\n\\\\.\\nSELECT 1/0;\\n'; } |\n"
	"  psql -X -q -1 -v ON_ERROR_STOP=1 -f - \"$@\" > /dev/null\n";

static void append_key(StringInfo out, const char *name, const char *text);
static void append_tables(StringInfo out, const BackupFacts *facts);
static void append_columns(StringInfo out, const BackupTable *table);
static void append_left_out(StringInfo out, const BackupScope *scope);
static char *order_text(List *order);
static char *utc(TimestampTz at);

/* ---- files for people and plain tools ---- */

void
angles_manifest_files(BackupTree *tree, List *order, const char *sequences,
					  const BackupKey *key)
{
	char	   *settings =
		psprintf("SET client_encoding = '%s';\n"
				 "SET \"DateStyle\" = 'ISO, YMD';\nSET \"IntervalStyle\" = 'postgres';\n"
				 "SET \"TimeZone\" = 'UTC';\nSET lc_monetary = 'C';\nSET xmloption = 'content';\n"
				 "SET search_path = '';\nSET row_security = off;\nSET CONSTRAINTS ALL DEFERRED;\n",
				 GetDatabaseEncoding() == PG_SQL_ASCII ? "SQL_ASCII" : "UTF8");

	angles_tree_file(tree, ".gitattributes", attributes, false);
	angles_tree_file(tree, "README.md", readme, false);
	angles_tree_file(tree, "order.txt", order_text(order), false);
	angles_tree_file(tree, "restore.sh", restore, true);
	angles_tree_file(tree, "sequences.sql", sequences, false);
	angles_tree_file(tree, "settings.sql", settings, false);
	if (key != NULL)
		angles_tree_file(tree, "angles.pub", angles_key_public_pem(key), false);
}

static char *
order_text(List *order)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	appendStringInfoString(&text, "# folders in an order that foreign keys allow\n");
	foreach(cell, order)
	{
		BackupTable *table = lfirst(cell);

		if (table->cycle)
			appendStringInfoString(&text, "# the next one is in a cycle of foreign keys\n");
		appendStringInfo(&text, "data/%s\n", table->folder);
	}
	return text.data;
}

/* ---- angles.json ---- */

char *
angles_manifest_json(const BackupFacts *facts, const BackupKey *key)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\n\"format\": %d", ANGLES_BACKUP_FORMAT);
	append_key(&json, "backup_id", facts->id);
	append_key(&json, "parent", facts->parent);
	append_key(&json, "time", utc(facts->moment.at));
	append_key(&json, "snapshot", facts->moment.snapshot);
	append_key(&json, "lsn", psprintf("%X/%X", LSN_FORMAT_ARGS(facts->moment.lsn)));
	append_key(&json, "system_identifier",
			   psprintf(UINT64_FORMAT, GetSystemIdentifier()));
	append_key(&json, "identity", angles_worker_identity());
	appendStringInfo(&json, ",\n\"timeline\": " INT64_FORMAT, angles_worker_timeline());
	append_key(&json, "postgresql", PG_VERSION);
	append_key(&json, "angles", ANGLES_VERSION);
	append_key(&json, "database", get_database_name(MyDatabaseId));
	append_key(&json, "encoding", GetDatabaseEncodingName());
	append_key(&json, "text_is", GetDatabaseEncoding() == PG_SQL_ASCII ? "bytes" : "UTF8");
	appendStringInfo(&json, ",\n\"whole\": %s", facts->scope->whole ? "true" : "false");
	appendStringInfo(&json, ",\n\"chunk_target\": %u", facts->chunk_target);
	appendStringInfo(&json, ",\n\"rows\": " INT64_FORMAT, facts->rows);
	appendStringInfo(&json, ",\n\"bytes\": " INT64_FORMAT, facts->bytes);
	appendStringInfo(&json, ",\n\"chunks\": " INT64_FORMAT, facts->chunks);
	append_key(&json, "sums", facts->sums);
	append_key(&json, "signed_by", key ? angles_key_fingerprint(key) : NULL);
	append_tables(&json, facts);
	append_left_out(&json, facts->scope);
	appendStringInfoString(&json, "\n}\n");
	return json.data;
}

static void
append_key(StringInfo out, const char *name, const char *text)
{
	appendStringInfo(out, ",\n\"%s\": ", name);
	if (text == NULL)
		appendStringInfoString(out, "null");
	else
		angles_json_append_string(out, angles_copytext_encode(text));
}

static void
append_tables(StringInfo out, const BackupFacts *facts)
{
	ListCell   *cell;
	int			i = 0;

	appendStringInfoString(out, ",\n\"tables\": [");
	foreach(cell, facts->scope->tables)
	{
		const BackupTable *table = lfirst(cell);
		const BackupCount *count = &facts->counts[i];

		appendStringInfoString(out, i++ > 0 ? ",\n{" : "\n{");
		appendStringInfoString(out, "\"schema\": ");
		angles_json_append_string(out, angles_copytext_encode(table->schema));
		appendStringInfoString(out, ", \"table\": ");
		angles_json_append_string(out, angles_copytext_encode(table->name));
		appendStringInfo(out, ", \"folder\": \"%s/%s\", \"rows\": " INT64_FORMAT
						 ", \"bytes\": " INT64_FORMAT ", \"chunks\": " INT64_FORMAT
						 ", \"sums\": \"%s\"",
						 table->config ? "config" : "data", table->folder, count->rows,
						 count->bytes, count->chunks, count->sums);
		append_columns(out, table);
		appendStringInfoChar(out, '}');
	}
	appendStringInfoString(out, "\n]");
}

static void
append_columns(StringInfo out, const BackupTable *table)
{
	appendStringInfoString(out, ", \"key\": [");
	for (int i = 0; i < table->n_key; i++)
	{
		appendStringInfoString(out, i > 0 ? ", " : "");
		angles_json_append_string(out,
								  angles_copytext_encode(table->columns[table->key[i]].name));
	}
	appendStringInfoString(out, "], \"columns\": [");
	for (int i = 0; i < table->n_columns; i++)
	{
		appendStringInfoString(out, i > 0 ? ", [" : "[");
		angles_json_append_string(out, angles_copytext_encode(table->columns[i].name));
		appendStringInfoString(out, ", ");
		angles_json_append_string(out, angles_copytext_encode(table->columns[i].type));
		appendStringInfoChar(out, ']');
	}
	appendStringInfoChar(out, ']');
}

static void
append_left_out(StringInfo out, const BackupScope *scope)
{
	ListCell   *cell;
	const char *comma = "";

	appendStringInfoString(out, ",\n\"left_out\": [");
	foreach(cell, scope->left_out)
	{
		const BackupLeftOut *left = lfirst(cell);

		appendStringInfo(out, "%s\n[", comma);
		angles_json_append_string(out, angles_copytext_encode(left->full_name));
		appendStringInfo(out, ", \"%s\"]", left->reason);
		comma = ",";
	}
	appendStringInfoString(out, "\n]");
}

/* ISO 8601, whatever the settings. */
static char *
utc(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}
