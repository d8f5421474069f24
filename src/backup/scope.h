/*
 * scope.h
 *		What a backup holds: which tables, their columns, keys and order, and the sequences.
 */
#ifndef ANGLES_SCOPE_H
#define ANGLES_SCOPE_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "backup/chunk.h"

typedef struct BackupColumn
{
	char	   *name;
	char	   *type;			/* as format_type() has it */
	Oid			base_type;
} BackupColumn;

typedef struct BackupTable
{
	Oid			relid;
	bool		config;			/* a table of angles itself */
	char	   *schema;
	char	   *name;
	char	   *condition;		/* of the rows of a configuration table, or "" */
	char	   *folder;			/* schema.table as a path may be called */
	char	   *full_name;		/* quoted, with the schema */
	int			n_columns;
	BackupColumn *columns;		/* without generated ones */
	int			n_key;			/* 0: no key, the whole row is */
	int		   *key;			/* indexes of columns */
	ChunkLabelKind *labels;		/* of the columns of the key */
	char	   *query;			/* its rows in the order of the key */
	bool		cycle;			/* in a cycle of foreign keys: see angles_scope_order() */
} BackupTable;

/* What is in the schemas that are backed up, and not in the backup. */
typedef struct BackupLeftOut
{
	char	   *full_name;
	const char *reason;
} BackupLeftOut;

typedef struct BackupScope
{
	List	   *tables;			/* of BackupTable, by schema and name; configuration last */
	List	   *left_out;		/* of BackupLeftOut */
	bool		whole;			/* not only tables that somebody named */
} BackupScope;

/*
 * Returns the oids of the tables that a backup would read now, for locking them before its snapshot
 * is taken: those that were named (NIL: all there are) with their partitions and children. Raises
 * an error for one that cannot be backed up.
 */
extern List *angles_scope_relations(List *named);

/*
 * Returns what the snapshot of this transaction sees of that. Everything it needs is allocated in
 * the current context.
 */
extern BackupScope *angles_scope_read(List *named);

/*
 * Returns the tables (configuration left out) so that those come first that foreign keys of others
 * point to. Where that is impossible, "cycle" is set in the table that was put first.
 */
extern List *angles_scope_order(BackupScope *scope);

/* Returns a schema and a name as a file may be called anywhere; different names differ. */
extern char *angles_scope_folder(const char *schema, const char *name);

/* The same for one name, however long. */
extern char *angles_scope_file_name(const char *name);

/*
 * Returns SQL that moves the sequences of these tables (and of the schemas, for a whole backup) on
 * to where they are now, never back.
 */
extern char *angles_scope_sequences(BackupScope *scope);

#endif							/* ANGLES_SCOPE_H */
