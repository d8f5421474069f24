/*
 * identity.c
 *		Tells this server and database from its copies. Design, section 8.1.
 *
 * The identity is a digest of the system identifier, the oid of the database, and either
 * angles.instance_id or the inode of PGDATA/PG_VERSION (a copy of the files has another) and the
 * machine id. The files are read once, by the postmaster, so that all processes agree.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "core/clock.h"
#include "core/guc.h"
#include "core/json.h"
#include "core/txn.h"
#include "worker/identity.h"
#include "worker/worker.h"

/* Kept in the data directory from the last start with recovery.signal on. */
#define MARK_DIR "angles"
#define MARK_FILE MARK_DIR "/recovered"

#define DIGEST_TEXT_LEN (32 * 2 + 1)

bool		angles_identity_foreign_links = false;
bool		angles_identity_undecided = false;

static const AnglesIdentityParts *parts(void);
static void digest_text(const char *text, char *hex, size_t hex_size);
static const char *machine_digest(void);
static void read_mark(char *mark, size_t size);
static bool write_mark(const char *mark);
static bool read_small_file(const char *path, char *buf, size_t size);
static const char *why_fenced(const char *recorded, const char *recorded_mark,
							  const char *recorded_reason, bool same_timeline);
static void fence(const char *reason);
static bool links_follow(void);
static bool look_at_links(void);
static char *difference(void);

PG_FUNCTION_INFO_V1(angles_sql_identity_now);
PG_FUNCTION_INFO_V1(angles_sql_identity_parts);
PG_FUNCTION_INFO_V1(angles_sql_recovery_mark);
PG_FUNCTION_INFO_V1(angles_sql_timeline_now);

/* ---- the parts ---- */

void
angles_identity_read_parts(AnglesIdentityParts *p)
{
	struct stat st;
	bool		recovery = stat(RECOVERY_SIGNAL_FILE, &st) == 0;

	memset(p, 0, sizeof(*p));
	p->promoted = stat(STANDBY_SIGNAL_FILE, &st) == 0 && !recovery;
	if (stat("PG_VERSION", &st) == 0)
		p->inode = st.st_ino;
	if (!read_small_file("/etc/machine-id", p->machine, sizeof(p->machine)))
		p->machine[0] = '\0';
	if (recovery && !IsUnderPostmaster)
	{
		snprintf(p->recovery_mark, sizeof(p->recovery_mark), "%lld-%d",
				 (long long) angles_clock_now(), (int) getpid());
		if (!write_mark(p->recovery_mark))
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("angles could not write \"%s\": %m", MARK_FILE),
					 errdetail("Databases that are not opened before the next restart will not "
							   "know that this server was recovered.")));
	}
	else
		read_mark(p->recovery_mark, sizeof(p->recovery_mark));
}

/* Without shared memory each process reads for itself. */
static const AnglesIdentityParts *
parts(void)
{
	static AnglesIdentityParts mine;
	static bool read = false;

	if (angles_shared != NULL)
		return &angles_shared->identity;
	if (!read)
		angles_identity_read_parts(&mine);
	read = true;
	return &mine;
}

static void
read_mark(char *mark, size_t size)
{
	if (!read_small_file(MARK_FILE, mark, size))
		mark[0] = '\0';
}

/* Returns whether the first line of a file fits and was read. */
static bool
read_small_file(const char *path, char *buf, size_t size)
{
	int			fd = open(path, O_RDONLY | PG_BINARY, 0);
	ssize_t		n;

	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\r\n")] = '\0';
	return true;
}

/* Returns whether the mark is durable. Runs in the postmaster: raises no error. */
static bool
write_mark(const char *mark)
{
	int			fd;
	bool		done;

	if (mkdir(MARK_DIR, pg_dir_create_mode) < 0 && errno != EEXIST)
		return false;
	fd = open(MARK_FILE, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
		return false;
	done = write(fd, mark, strlen(mark)) == (ssize_t) strlen(mark) && pg_fsync(fd) == 0;
	close(fd);
	/* the rights on the directory may forbid it; the file itself is what matters */
	return fsync_fname_ext(MARK_DIR, true, true, LOG) == 0 && done;
}

static void
digest_text(const char *text, char *hex, size_t hex_size)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int digest_len;

	/* not pg_cryptohash: that needs a resource owner, which a worker between transactions lacks */
	if (EVP_Digest(text, strlen(text), digest, &digest_len, EVP_sha256(), NULL) != 1)
		elog(ERROR, "could not compute SHA-256");
	for (size_t i = 0; i < digest_len && 2 * i + 2 < hex_size; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* machine-id(5) is confidential: what leaves shared memory is the begin of a digest of it. */
static const char *
machine_digest(void)
{
	static char digest[17] = "";

	if (digest[0] == '\0' && parts()->machine[0] != '\0')
		digest_text(parts()->machine, digest, sizeof(digest));
	return digest;
}

const char *
angles_worker_identity(void)
{
	static char identity[DIGEST_TEXT_LEN] = "";
	const AnglesIdentityParts *p = parts();
	char	   *text;

	if (identity[0] != '\0')
		return identity;
	if (angles_guc_instance_id != NULL && angles_guc_instance_id[0] != '\0')
		text = psprintf("angles-1|" UINT64_FORMAT "|%u|instance|%s",
						GetSystemIdentifier(), MyDatabaseId, angles_guc_instance_id);
	else
		text = psprintf("angles-1|" UINT64_FORMAT "|%u|files|" UINT64_FORMAT "|%s",
						GetSystemIdentifier(), MyDatabaseId, p->inode, machine_digest());
	digest_text(text, identity, sizeof(identity));
	pfree(text);
	return identity;
}

Datum
angles_sql_identity_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(angles_worker_identity()));
}

/* The parts as jsonb, for people who ask what differs. */
Datum
angles_sql_identity_parts(PG_FUNCTION_ARGS)
{
	const AnglesIdentityParts *p = parts();
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"system\": \"" UINT64_FORMAT "\", \"database\": \"%u\"",
					 GetSystemIdentifier(), MyDatabaseId);
	if (angles_guc_instance_id != NULL && angles_guc_instance_id[0] != '\0')
	{
		appendStringInfoString(&buf, ", \"instance_id\": ");
		angles_json_append_string(&buf, angles_guc_instance_id);
	}
	else
		appendStringInfo(&buf, ", \"inode\": \"" UINT64_FORMAT "\", \"machine\": \"%s\"",
						 p->inode, machine_digest());
	appendStringInfoChar(&buf, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}

Datum
angles_sql_recovery_mark(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(parts()->recovery_mark));
}

int64
angles_worker_timeline(void)
{
	TimeLineID	timeline;

	if (!RecoveryInProgress())
		return GetWALInsertionTimeLine();
	(void) GetXLogReplayRecPtr(&timeline);
	return timeline;
}

Datum
angles_sql_timeline_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(angles_worker_timeline());
}

/* ---- the fence ---- */

bool
angles_identity_settle(void)
{
	static SPIPlanPtr read_plan = NULL;
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr promote_plan = NULL;
	const char *reason;
	bool		own_links;
	bool		following;

	if (angles_spi_exec(&read_plan,
						"SELECT identity, recovery_mark, fence_reason, predecessors <> '{}',"
						" timeline = angles.timeline_now() FROM angles.identity",
						0, NULL, NULL, NULL, SPI_OK_SELECT) != 1)
		elog(ERROR, "angles.identity does not have one row");
	following = strcmp(angles_spi_text(0, 4, CurrentMemoryContext), "t") == 0;
	reason = why_fenced(angles_spi_text(0, 1, CurrentMemoryContext),
						angles_spi_text(0, 2, CurrentMemoryContext),
						angles_spi_text(0, 3, CurrentMemoryContext),
						strcmp(angles_spi_text(0, 5, CurrentMemoryContext), "t") == 0);
	angles_identity_undecided = false;
	if (reason != NULL && strcmp(reason, "promoted") == 0)
	{
		if (angles_spi_exec(&lock_plan, "SELECT FROM angles.identity FOR UPDATE SKIP LOCKED",
							0, NULL, NULL, NULL, SPI_OK_SELECT) == 0)
		{
			/* somebody is adopting; until that is decided nothing is sent */
			angles_identity_undecided = true;
			return true;
		}
		angles_spi_exec(&promote_plan, "SELECT angles.identity_record('promoted')",
						0, NULL, NULL, NULL, SPI_OK_SELECT);
		angles_audit("promote", "server", NULL);
		ereport(LOG, (errmsg("angles took the identity of a promoted standby")));
		reason = NULL;
		following = true;
	}
	if (reason == NULL && following)
		angles_identity_undecided = !links_follow();
	own_links = look_at_links();
	if (reason != NULL)
	{
		fence(reason);
		return true;
	}
	if (!angles_identity_foreign_links)
	{
		angles_alert_close("fenced");
		return false;
	}
	/* links that came with a dump know another server, though the extension was made here */
	angles_alert_open("fenced", "critical", "some links were made by another server: "
					  "angles sends nothing for them",
					  "They came with a dump that was restored here.",
					  "Make sure that the other server does not sync any more, then run "
					  "SELECT angles.adopt() in this database.");
	return !own_links;
}

bool
angles_worker_superseded(void)
{
	static SPIPlanPtr plan = NULL;

	/* a session that has the row locked is adopting: it knows better */
	return angles_spi_exec(&plan,
						   "UPDATE angles.identity SET fence_reason = 'superseded', "
						   "fenced_since = pg_catalog.now() WHERE fence_reason IS NULL "
						   "AND one IN (SELECT one FROM angles.identity FOR UPDATE SKIP LOCKED)",
						   0, NULL, NULL, NULL, SPI_OK_UPDATE) > 0;
}

static void
fence(const char *reason)
{
	static SPIPlanPtr plan = NULL;
	bool		superseded = strcmp(reason, "superseded") == 0;
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {
		CStringGetTextDatum(reason), CStringGetTextDatum(parts()->recovery_mark)
	};

	angles_spi_exec(&plan,
					"UPDATE angles.identity SET fence_reason = $1, recovery_mark = $2, "
					"fenced_since = coalesce(fenced_since, pg_catalog.now()) WHERE one IN "
					"(SELECT one FROM angles.identity WHERE fence_reason IS DISTINCT FROM $1 "
					"OR recovery_mark <> $2 FOR UPDATE SKIP LOCKED)",
					2, types, values, NULL, SPI_OK_UPDATE);
	/* one who holds the row is adopting, or the next look finds the same reason again */
	angles_alert_open("fenced", "critical",
					  superseded ? "another server has taken over: angles sends nothing"
					  : "this database may be a copy: angles sends nothing",
					  superseded ? "The marks in Notion show a higher epoch than this server's."
					  : difference(),
					  "Make sure that the original does not sync any more, then run "
					  "SELECT angles.adopt() in this database.");
}

/* After a promotion. Returns whether no link is left that somebody's open transaction holds. */
static bool
links_follow(void)
{
	static SPIPlanPtr plan = NULL;

	angles_spi_exec(&plan, "SELECT angles.identity_follow()", 0, NULL, NULL, NULL,
					SPI_OK_SELECT);
	return strcmp(angles_spi_text(0, 1, CurrentMemoryContext), "t") == 0;
}

/* Notes whether links of another server are there; returns whether own ones are. */
static bool
look_at_links(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(angles_worker_identity())};

	angles_spi_exec(&plan,
					"SELECT count(*) FILTER (WHERE l.identity <> ALL (i.predecessors || $1)) > 0,"
					" count(*) FILTER (WHERE l.identity = ANY (i.predecessors || $1)) > 0"
					" FROM angles.links l, angles.identity i WHERE l.state <> 'unlinked'",
					1, types, values, NULL, SPI_OK_SELECT);
	angles_identity_foreign_links = strcmp(angles_spi_text(0, 1, CurrentMemoryContext), "t") == 0;
	return strcmp(angles_spi_text(0, 2, CurrentMemoryContext), "t") == 0;
}

/*
 * Returns NULL when the database belongs to this server, "promoted" when it does after a promotion,
 * else the reason it is fenced for.
 */
static const char *
why_fenced(const char *recorded, const char *recorded_mark, const char *recorded_reason,
		   bool same_timeline)
{
	/* a fence once seen stays until somebody adopts, whatever comes later */
	if (recorded_reason != NULL)
		return recorded_reason;
	if (recorded_mark == NULL || strcmp(recorded_mark, parts()->recovery_mark) != 0)
	{
		if (parts()->recovery_mark[0] != '\0')
			return "recovered";
	}
	/*
	 * A primary may have the instance_id of its standby. No restart and no crash changes the
	 * timeline, and other recoveries have left their mark; so this needs no standby.signal.
	 */
	if (strcmp(recorded, angles_worker_identity()) == 0)
		return same_timeline ? NULL : "promoted";
	return parts()->promoted ? "promoted" : "copied";
}

/* Returns which parts of the identity differ, for people. */
static char *
difference(void)
{
	static SPIPlanPtr plan = NULL;

	angles_spi_exec(&plan,
					"SELECT pg_catalog.format('Reason: %s. Recorded: %s. Found: %s.', "
					"fence_reason, parts, angles.identity_parts()) FROM angles.identity",
					0, NULL, NULL, NULL, SPI_OK_SELECT);
	return angles_spi_text(0, 1, CurrentMemoryContext);
}
