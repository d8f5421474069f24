/*
 * guc.c
 *		Every setting of angles, in alphabetical order.
 *
 * The comment above each says when an administrator changes it. Credentials can be read by
 * superusers only and never show their value, not even to them.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "core/compat.h"
#include "core/guc.h"
#include "core/shmem.h"

#define ANGLES_SECRET_FLAGS (GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_AUTO_FILE)

int			angles_guc_apply_timeout = 30000;
bool		angles_guc_backup_allow_superuser = false;
int			angles_guc_backup_chunk_size = 64;
int			angles_guc_backup_compression = 3;
char	   *angles_guc_backup_directory = NULL;
char	   *angles_guc_backup_key_file = NULL;
int			angles_guc_backup_lock_timeout = 30000;
char	   *angles_guc_backup_public_key = NULL;
char	   *angles_guc_backup_role = NULL;
bool		angles_guc_capture_replica_default = true;
char	   *angles_guc_github_token = NULL;
char	   *angles_guc_github_token_file = NULL;
char	   *angles_guc_http_ca_file = NULL;
int			angles_guc_history_retention = 90 * 24 * 60;
int			angles_guc_http_connect_timeout = 10000;
int			angles_guc_http_max_response = 16384;
char	   *angles_guc_http_proxy = NULL;
int			angles_guc_http_timeout = 70000;
char	   *angles_guc_instance_id = NULL;
int			angles_guc_list_interval = 300000;
int			angles_guc_max_databases = 32;
int			angles_guc_max_workers = 2;
int			angles_guc_notion_concurrency = 6;
char	   *angles_guc_notion_parent = NULL;
int			angles_guc_notion_query_lag = 10000;
int			angles_guc_notion_rate_limit = 180;
char	   *angles_guc_notion_token = NULL;
char	   *angles_guc_notion_token_file = NULL;
char	   *angles_guc_notion_url = NULL;
int			angles_guc_notion_verify_window = 45000;
char	   *angles_guc_notion_version = NULL;
int			angles_guc_poll_interval = 5000;
int			angles_guc_retry_cap = 60000;
int			angles_guc_retry_initial = 1000;
int			angles_guc_row_read_timeout = 30000;
char	   *angles_guc_secrets_dir = NULL;
int			angles_guc_sweep_interval = 60000;
bool		angles_guc_sync = true;
int			angles_guc_sync_idle_timeout = 600000;
int			angles_guc_wait_max = 300000;

#ifdef ANGLES_TEST
int			angles_guc_test_clock_offset = 0;
char	   *angles_guc_test_kill_point = NULL;
#endif

/* What PostgreSQL keeps as the value of the settings that are tokens: always empty. */
static char *github_token_setting = NULL;
static char *token_setting = NULL;

static void define_backup(void);
static void define_github(void);
static void define_http(void);
static void define_notion(void);
static void define_workers(void);
static bool check_secret_token(char **newval, void **extra, GucSource source);
static void assign_secret_token(const char *newval, void *extra);
static bool check_url(char **newval, void **extra, GucSource source);
static const char *show_secret_token(void);
static void assign_github_token(const char *newval, void *extra);
static const char *show_github_token(void);

void
angles_guc_define(void)
{
	/*
	 * Change it when rows that a logical replication subscription (or any session with
	 * session_replication_role = replica) writes into a linked table must not go to Notion from
	 * this server, for instance because the publisher syncs them itself.
	 */
	DefineCustomBoolVariable("angles.capture_replica",
							 "Captures changes made with session_replication_role = replica.",
							 "Changes applied by logical replication are sent to Notion when on.",
							 &angles_guc_capture_replica_default, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	/* Raise it where triggers on linked tables need longer for a row that was changed in Notion. */
	DefineCustomIntVariable("angles.apply_timeout",
							"Longest time to write changes made in Notion into their rows.",
							"A row that takes longer is tried again later; 0 is no limit.",
							&angles_guc_apply_timeout, 30000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	define_backup();
	define_github();
	define_http();
	define_notion();
	define_workers();
#ifdef ANGLES_TEST
	DefineCustomIntVariable("angles.test_clock_offset",
							"Moves the clock of angles by this many seconds (test builds only).",
							NULL, &angles_guc_test_clock_offset, 0, INT_MIN, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomStringVariable("angles.test_kill_point",
							   "Names the point where a worker kills itself (test builds only).",
							   NULL, &angles_guc_test_kill_point, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
#endif
	MarkGUCPrefixReserved("angles");
}

static void
define_backup(void)
{
	/* Allow it where no other role may be made; a backup then reads with all rights there are. */
	DefineCustomBoolVariable("angles.backup_allow_superuser",
							 "Lets angles.backup_role be a superuser.",
							 NULL, &angles_guc_backup_allow_superuser, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	/*
	 * Another value writes all tables anew. Smaller files show smaller differences, and are more;
	 * larger ones suit tables of several gigabytes.
	 */
	DefineCustomIntVariable("angles.backup_chunk_size",
							"Average size of the files that a backup cuts a table's text into.",
							NULL, &angles_guc_backup_chunk_size, 64, 1, 1024,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	/* Raise it for a smaller repository, lower it for a faster backup; 6 is what git uses. */
	DefineCustomIntVariable("angles.backup_compression",
							"Compression of backups, from 0 (none) to 9 (smallest).",
							NULL, &angles_guc_backup_compression, 3, 0, 9,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Set it to a folder on another disk than the data directory's. */
	DefineCustomStringVariable("angles.backup_directory",
							   "Folder with the local repositories, one for each database.",
							   "A relative name is looked for in the data directory.",
							   &angles_guc_backup_directory, "angles_backup",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Set it to what angles.create_backup_key() made: backups are signed with it. */
	DefineCustomStringVariable("angles.backup_key_file",
							   "File with the private key that signs backups.",
							   "Empty: backups are not signed.",
							   &angles_guc_backup_key_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Raise it where tables are locked for longer by schema changes. */
	DefineCustomIntVariable("angles.backup_lock_timeout",
							"Longest time that a backup waits for a table that is locked.",
							"The backup fails then, and names the table; 0 is no limit.",
							&angles_guc_backup_lock_timeout, 30000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Set it to the public half of the key: a backup signed by another one is refused. */
	DefineCustomStringVariable("angles.backup_public_key",
							   "Public half of the key that signs backups, in base64.",
							   "Empty: any key in angles.backup_key_file is taken.",
							   &angles_guc_backup_public_key, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Change it where another role is to read the tables; README says what it needs. */
	DefineCustomStringVariable("angles.backup_role",
							   "Role as whom backups read the tables.",
							   "It needs LOGIN (before PostgreSQL 17), BYPASSRLS and "
							   "pg_read_all_data.",
							   &angles_guc_backup_role, "angles_backup",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_github(void)
{
	/* Prefer angles.github_token_file: a file can be rotated and has rights of its own. */
	DefineCustomStringVariable("angles.github_token",
							   "Token for the Git repository on GitHub or another server.",
							   "It needs the right to read and write contents.",
							   &github_token_setting, "",
							   PGC_SIGHUP, ANGLES_SECRET_FLAGS, check_secret_token,
							   assign_github_token, show_github_token);
	/* Set it to a file that only the server's user can read; it is read anew for each push. */
	DefineCustomStringVariable("angles.github_token_file",
							   "File that holds the token for the Git repository.",
							   NULL, &angles_guc_github_token_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL,
							   NULL, NULL, NULL);
}

static void
define_http(void)
{
	/* Change it when a server is signed by an authority that the system does not know. */
	DefineCustomStringVariable("angles.http_ca_file",
							   "File with the certificate authorities trusted for HTTPS.",
							   "Empty: the system's store.",
							   &angles_guc_http_ca_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Raise it on links with a very long way to the remote. */
	/* Lower it where many conflicts are settled by policy and the database shall stay small. */
	DefineCustomIntVariable("angles.history_retention",
							"Time for which settled conflicts and rows brought back are kept.",
							"What is open is always kept; 0 keeps all.",
							&angles_guc_history_retention, 90 * 24 * 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.http_connect_timeout",
							"Longest time to wait for a connection, TLS included.",
							NULL, &angles_guc_http_connect_timeout, 10000, 100, 300000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Raise it when a run fails because an answer is too large; it bounds a worker's memory. */
	DefineCustomIntVariable("angles.http_max_response",
							"Largest answer that is read from a remote.",
							NULL, &angles_guc_http_max_response, 16384, 64, 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	/* Set it where the server reaches the internet through a proxy only. */
	DefineCustomStringVariable("angles.http_proxy",
							   "Proxy for all requests, as scheme://host:port.",
							   "Empty: none. The environment's proxy variables are not read.",
							   &angles_guc_http_proxy, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/*
	 * Notion gives up after 55 to 60 s by itself; a lower value turns slow successes into doubts.
	 */
	DefineCustomIntVariable("angles.http_timeout",
							"Longest time for one request as a whole.",
							NULL, &angles_guc_http_timeout, 70000, 100, 600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_notion(void)
{
	/* Lower it when other tools use the same connection; more than 6 brings conflict answers. */
	DefineCustomIntVariable("angles.notion_concurrency",
							"Requests to Notion that are under way at the same time.",
							NULL, &angles_guc_notion_concurrency, 6, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Set it to the page under which link() makes databases when it is given no parent. */
	DefineCustomStringVariable("angles.notion_parent",
							   "Page under which new Notion databases are made.",
							   "The page must be shared with the connection of the token.",
							   &angles_guc_notion_parent, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Set it to 600 on Business and Enterprise plans; 0 is for simulators. */
	DefineCustomIntVariable("angles.notion_rate_limit",
							"Requests that Notion allows in 60 seconds.",
							"180 on Free and Plus, 600 on Business and Enterprise; 0: no limit.",
							&angles_guc_notion_rate_limit, 180, 0, 2000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Prefer angles.notion_token_file: a file can be rotated and has rights of its own. */
	DefineCustomStringVariable("angles.notion_token",
							   "Token of the Notion connection.",
							   NULL, &token_setting, "",
							   PGC_SIGHUP, ANGLES_SECRET_FLAGS, check_secret_token,
							   assign_secret_token, show_secret_token);
	/* Set it to a file that only the server's user can read; it is read anew at SIGHUP and 401. */
	DefineCustomStringVariable("angles.notion_token_file",
							   "File that holds the token of the Notion connection.",
							   NULL, &angles_guc_notion_token_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL,
							   NULL, NULL, NULL);
	/* Set it for tests and demos with a simulator; plain http is accepted to loopback only. */
	DefineCustomStringVariable("angles.notion_url",
							   "Base address of the Notion API.",
							   NULL, &angles_guc_notion_url, "https://api.notion.com",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_url, NULL, NULL);
	/* Raise it when Notion's queries are known to lag further behind its writes. */
	DefineCustomIntVariable("angles.notion_verify_window",
							"Time during which a page whose creation is in doubt is looked for.",
							"A row is created again only after at least two look-ups by its "
							"key, the "
							"last one after this time.",
							&angles_guc_notion_verify_window, 45000, 1000, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Change it only when a release note of angles says so. */
	DefineCustomStringVariable("angles.notion_version",
							   "Version of the Notion API that is asked for.",
							   NULL, &angles_guc_notion_version, "2026-03-11",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_workers(void)
{
	/* Set it where file inodes or the machine change though the server is the same: containers. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomStringVariable("angles.instance_id",
								   "Name that stands for this server in the identity fence.",
								   "Wins over the inode of the data directory and the machine id.",
								   &angles_guc_instance_id, "",
								   PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	/* Raise it in clusters with more databases than this. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("angles.max_databases",
								"Databases of this cluster that angles can serve or watch.",
								NULL, &angles_guc_max_databases, 32, 1, 1024,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
	/* Raise it when several long tasks shall run at once. */
	DefineCustomIntVariable("angles.max_workers",
							"Job workers of a database that run at the same time.",
							NULL, &angles_guc_max_workers, 2, 0, 16,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Raise it when values in rows go back to what they were a moment ago, and come again. */
	DefineCustomIntVariable("angles.notion_query_lag",
							"How long a query of Notion may show a page as it was before a write.",
							"What it shows of a page that was written so lately is not believed.",
							&angles_guc_notion_query_lag, 10000, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.list_interval",
							"Time between two listings of all pages of a Notion data source.",
							"They show which pages were removed, and stretch so that they stay "
							"below a twentieth of the limit.",
							&angles_guc_list_interval, 300000, 1000, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Raise it to save requests, lower it to see edits in Notion sooner. */
	DefineCustomIntVariable("angles.poll_interval",
							"Time between two questions for changes in a Notion data source.",
							"It stretches so that they stay below a seventh of the limit.",
							&angles_guc_poll_interval, 5000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.retry_cap",
							"Longest delay between two attempts.",
							NULL, &angles_guc_retry_cap, 60000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.retry_initial",
							"Delay before the first retry; it doubles with every further one.",
							"The delay is drawn between zero and that value (full jitter).",
							&angles_guc_retry_initial, 1000, 1, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Raise it where a filter or a policy needs long to decide about a batch of rows. */
	DefineCustomIntVariable("angles.row_read_timeout",
							"Longest time to read a batch of changed rows of a linked table.",
							"A row that takes longer by itself is parked; 0 is no limit.",
							&angles_guc_row_read_timeout, 30000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Set it where tokens are files with names (Docker secrets: /run/secrets). */
	DefineCustomStringVariable("angles.secrets_dir",
							   "Directory whose files are secrets that a link may name.",
							   NULL, &angles_guc_secrets_dir, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.sweep_interval",
							"Time between two safety looks for work that nobody announced.",
							NULL, &angles_guc_sweep_interval, 60000, 1000, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* SET LOCAL angles.sync = off keeps the changes of one transaction from being captured. */
	DefineCustomBoolVariable("angles.sync",
							 "Captures the changes of this session.",
							 NULL, &angles_guc_sync, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("angles.sync_idle_timeout",
							"Time after which a sync worker with nothing to do ends.",
							"It is started again at the next commit that needs it.",
							&angles_guc_sync_idle_timeout, 600000, 1000, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	/* Raise it when people want to wait longer in a SELECT that starts a run. */
	DefineCustomIntVariable("angles.wait_max",
							"Longest time that a SELECT waits for the run it started.",
							"Afterwards it returns the number of the run, which goes on.",
							&angles_guc_wait_max, 300000, 100, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

static bool
check_url(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (strncmp(*newval, "https://", 8) == 0)
		return true;
	if (strncmp(*newval, "http://127.0.0.1", 16) == 0 ||
		strncmp(*newval, "http://localhost", 16) == 0 ||
		strncmp(*newval, "http://[::1]", 12) == 0)
		return true;
	GUC_check_errdetail("It must begin with https://; plain http is accepted to loopback only.");
	return false;
}

/*
 * PostgreSQL writes "parameter ... changed to ..." into the log when the text of a setting changes
 * at a reload. The text of this one therefore never changes: the token travels beside it, as
 * "extra".
 */
static bool
check_secret_token(char **newval, void **extra, GucSource source)
{
	size_t		size = strlen(*newval) + 1;

	(void) source;
	*extra = ANGLES_GUC_MALLOC(size);
	if (*extra == NULL)
		return false;
	memcpy(*extra, *newval, size);
	explicit_bzero(*newval, size - 1);
	return true;
}

static void
assign_secret_token(const char *newval, void *extra)
{
	(void) newval;
	angles_guc_notion_token = (char *) extra;
}

/* Not even a superuser sees a token: he may be sharing his screen. */
static const char *
show_secret_token(void)
{
	return angles_guc_notion_token && angles_guc_notion_token[0] ? "********" : "";
}

static void
assign_github_token(const char *newval, void *extra)
{
	(void) newval;
	angles_guc_github_token = (char *) extra;
}

static const char *
show_github_token(void)
{
	return angles_guc_github_token && angles_guc_github_token[0] ? "********" : "";
}
