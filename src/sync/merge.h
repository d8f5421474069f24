/*
 * merge.h
 *		The three-way merge of one field: what both sides last agreed on, what each holds now, and
 *		who wins when both have changed it. Pure functions: no database, no clock, no network.
 */
#ifndef ANGLES_MERGE_H
#define ANGLES_MERGE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef enum MergePolicy
{
	MERGE_NEWEST,				/* the later change; inside one minute the row's */
	MERGE_POSTGRES,
	MERGE_NOTION,
	MERGE_MANUAL				/* neither: a person decides */
} MergePolicy;

typedef enum MergeOutcome
{
	MERGE_SAME,					/* Notion shows nothing new */
	MERGE_AGREE,				/* both made the same change: it is the new base */
	MERGE_TAKE,					/* Notion's value goes into the row */
	MERGE_JOIN,					/* a set or sum of both changes goes into the row, then to Notion */
	MERGE_KEEP,					/* the row's value stays, and goes to Notion */
	MERGE_HOLD					/* neither is touched until a person decides */
} MergeOutcome;

/* Canonical values (notion/codec.h) of one property. */
typedef struct MergeField
{
	bool		is_set;			/* multi_select, relation of many: the members are merged */
	bool		is_sum;			/* a number to which both sides add: the changes are added up */
	bool		in_doubt;		/* SUM: a write of ours may have reached Notion unacknowledged */
	const Jsonb *base;			/* what Notion held when both last agreed; NULL: never known */
	const Jsonb *base_local;	/* what the row held then, NULL where that is the same */
	const Jsonb *local;
	const Jsonb *remote;
	MergePolicy policy;
	TimestampTz local_at;		/* the row's last change, 0: not known, so just now */
	TimestampTz remote_at;		/* begin of the minute of the page's last edit */
} MergeField;

typedef struct MergeResult
{
	MergeOutcome outcome;
	char	   *value;			/* JOIN: what the row gets, canonical; else NULL */
	bool		conflict;		/* both had changed it and one side's value loses, or waits */
} MergeResult;

/*
 * Merges one field. The same input always gives the same result, whatever was merged before; a
 * second merge after the result was carried out gives MERGE_SAME (or MERGE_HOLD again).
 */
extern MergeResult angles_merge_field(const MergeField *field);

/*
 * Whether the row's value was changed since both agreed, as the planner of the outbound half sees
 * it: it is neither what Notion held nor what had led there.
 */
extern bool angles_merge_local_changed(const MergeField *field);

/* Whether a value is what a property holds that was never written. */
extern bool angles_merge_is_nothing(const Jsonb *value);

/* Returns whether there is a policy of that name. */
extern bool angles_merge_is_policy(const char *name);

/* Returns the policy of that name ("newest", ...); raises an error for any other. */
extern MergePolicy angles_merge_policy(const char *name);

/* Returns whether two canonical values are the same. */
extern bool angles_merge_equal(const Jsonb *a, const Jsonb *b);

#endif							/* ANGLES_MERGE_H */
