/*
 * guc.h
 *		Every setting of angles. Defined in guc.c, in alphabetical order, each with the words that
 *		tell an administrator when to change it.
 */
#ifndef ANGLES_GUC_H
#define ANGLES_GUC_H

#include "postgres.h"

extern int	angles_guc_apply_timeout;	/* ms */
extern bool angles_guc_backup_allow_superuser;
extern int	angles_guc_backup_chunk_size;	/* kB */
extern int	angles_guc_backup_compression;
extern char *angles_guc_backup_directory;
extern char *angles_guc_backup_key_file;
extern int	angles_guc_backup_lock_timeout; /* ms */
extern char *angles_guc_backup_public_key;
extern char *angles_guc_backup_role;
extern bool angles_guc_capture_replica_default;
extern char *angles_guc_github_token;
extern char *angles_guc_github_token_file;
extern char *angles_guc_http_ca_file;
extern int	angles_guc_history_retention;	/* min */
extern int	angles_guc_http_connect_timeout;	/* ms */
extern int	angles_guc_http_max_response;	/* kB */
extern char *angles_guc_http_proxy;
extern int	angles_guc_http_timeout;	/* ms */
extern char *angles_guc_instance_id;
extern int	angles_guc_list_interval;	/* ms */
extern int	angles_guc_max_databases;
extern int	angles_guc_max_workers;
extern int	angles_guc_notion_concurrency;
extern char *angles_guc_notion_parent;
extern int	angles_guc_notion_query_lag;	/* ms */
extern int	angles_guc_notion_rate_limit;	/* requests in 60 s, 0 = lifted */
extern char *angles_guc_notion_token;
extern char *angles_guc_notion_token_file;
extern char *angles_guc_notion_url;
extern int	angles_guc_notion_verify_window;	/* ms */
extern char *angles_guc_notion_version;
extern int	angles_guc_poll_interval;	/* ms */
extern int	angles_guc_retry_cap;	/* ms */
extern int	angles_guc_retry_initial;	/* ms */
extern int	angles_guc_row_read_timeout;	/* ms */
extern char *angles_guc_secrets_dir;
extern int	angles_guc_sweep_interval;	/* ms */
extern bool angles_guc_sync;
extern int	angles_guc_sync_idle_timeout;	/* ms */
extern int	angles_guc_wait_max;	/* ms */

#ifdef ANGLES_TEST
extern int	angles_guc_test_clock_offset;	/* s */
extern char *angles_guc_test_kill_point;
#endif

/* Defines all settings and reserves the prefix. Called once, from _PG_init. */
extern void angles_guc_define(void);

#endif							/* ANGLES_GUC_H */
