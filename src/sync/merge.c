/*
 * merge.c
 *		See merge.h. Sets are merged member by member, changes of sums are added up; all else is one
 *		value.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "notion/codec.h"
#include "sync/merge.h"

/* The members of a canonical set: texts, in the order of bytes, each once. */
typedef struct Members
{
	char	  **texts;
	int			n;
} Members;

static MergeResult decide(const MergeField *field);
static char *join_sets(const MergeField *field);
static char *add_up(const MergeField *field);
static bool number_of(const Jsonb *value, Datum *number);
static Members members_of(const Jsonb *set);
static bool has_member(const Members *set, const char *text);

static const char *const policies[] = {"newest", "postgres", "notion", "manual"};

bool
angles_merge_is_policy(const char *name)
{
	for (int i = 0; i < lengthof(policies); i++)
		if (strcmp(name, policies[i]) == 0)
			return true;
	return false;
}

MergePolicy
angles_merge_policy(const char *name)
{
	for (int i = 0; i < lengthof(policies); i++)
		if (strcmp(name, policies[i]) == 0)
			return (MergePolicy) i;
	elog(ERROR, "\"%s\" is no policy for conflicts", name);
}

bool
angles_merge_equal(const Jsonb *a, const Jsonb *b)
{
	return compareJsonbContainers(unconstify(JsonbContainer *, &a->root),
								  unconstify(JsonbContainer *, &b->root)) == 0;
}

MergeResult
angles_merge_field(const MergeField *field)
{
	MergeResult result = {.outcome = MERGE_SAME};

	if (field->base != NULL ? angles_merge_equal(field->remote, field->base)
		: angles_merge_is_nothing(field->remote))
		return result;
	/* two additions of the same are two; in doubt one and the same write was seen */
	if (field->is_sum && !field->in_doubt && angles_merge_local_changed(field) &&
		(result.value = add_up(field)) != NULL)
		result.outcome = MERGE_JOIN;
	else if (angles_merge_equal(field->local, field->remote))
		result.outcome = MERGE_AGREE;
	else if (field->is_sum && field->in_doubt)
	{
		/*
		 * The page may hold this server's change already, or not: to add it could count it twice,
		 * and either value alone could lose a change.
		 */
		result.outcome = MERGE_HOLD;
		result.conflict = true;
	}
	else if (!angles_merge_local_changed(field))
		result.outcome = MERGE_TAKE;
	else if (field->is_set)
	{
		result.outcome = MERGE_JOIN;
		result.value = join_sets(field);
	}
	else
		return decide(field);
	return result;
}

bool
angles_merge_local_changed(const MergeField *field)
{
	if (field->base_local != NULL)
		return !angles_merge_equal(field->local, field->base_local);
	if (field->base == NULL)
		return !angles_merge_is_nothing(field->local);
	return !angles_merge_equal(field->local, field->base);
}

bool
angles_merge_is_nothing(const Jsonb *value)
{
	JsonbValue	scalar;

	if (!JB_ROOT_IS_SCALAR(value))
		return JB_ROOT_IS_ARRAY(value) && JB_ROOT_COUNT(value) == 0;
	if (!JsonbExtractScalar(unconstify(JsonbContainer *, &value->root), &scalar))
		return false;
	return scalar.type == jbvNull || (scalar.type == jbvBool && !scalar.val.boolean);
}

/* Both sides have changed one value, each to another one. */
static MergeResult
decide(const MergeField *field)
{
	MergeResult result = {.conflict = true};
	bool		row_wins;

	if (field->policy == MERGE_MANUAL)
	{
		result.outcome = MERGE_HOLD;
		return result;
	}
	/*
	 * Notion tells the minute of an edit only. The row's change is known to the microsecond: when
	 * it may be the later one, it is taken to be.
	 */
	row_wins = field->policy == MERGE_POSTGRES ||
		(field->policy == MERGE_NEWEST &&
		 (field->local_at == 0 || field->local_at >= field->remote_at));
	result.outcome = row_wins ? MERGE_KEEP : MERGE_TAKE;
	return result;
}

/* ---- sums ---- */

/*
 * What Notion holds now and what was added here since both agreed; NULL where one of the values is
 * no number. In decimals, as both sides show them: binary fractions would bring in digits that
 * nobody wrote.
 */
static char *
add_up(const MergeField *field)
{
	Datum		before;
	Datum		base;
	Datum		local;
	Datum		remote;
	Datum		sum;

	if (!number_of(field->base, &base) || !number_of(field->local, &local) ||
		!number_of(field->remote, &remote) ||
		!number_of(field->base_local ? field->base_local : field->base, &before))
		return NULL;
	sum = DirectFunctionCall2(numeric_add, remote,
							  DirectFunctionCall2(numeric_sub, local, before));
	return angles_codec_sum(DatumGetCString(DirectFunctionCall1(numeric_out, sum)));
}

static bool
number_of(const Jsonb *value, Datum *number)
{
	JsonbValue	scalar;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) ||
		!JsonbExtractScalar(unconstify(JsonbContainer *, &value->root), &scalar) ||
		scalar.type != jbvNumeric)
		return false;
	*number = NumericGetDatum(scalar.val.numeric);
	return true;
}

/* ---- sets ---- */

/*
 * What Notion holds now, less what was taken out of the row, and what was put into it. Names of
 * options differ in case between the sides at times (Notion finds an option whatever its case), so
 * members are told apart without it.
 */
static char *
join_sets(const MergeField *field)
{
	Members		before = members_of(field->base_local ? field->base_local : field->base);
	Members		local = members_of(field->local);
	Members		remote = members_of(field->remote);
	Members		joined = {palloc((local.n + remote.n + 1) * sizeof(char *)), 0};

	for (int i = 0; i < remote.n; i++)
		if (!has_member(&before, remote.texts[i]) || has_member(&local, remote.texts[i]))
			joined.texts[joined.n++] = remote.texts[i];
	for (int i = 0; i < local.n; i++)
		if (!has_member(&before, local.texts[i]) && !has_member(&joined, local.texts[i]))
			joined.texts[joined.n++] = local.texts[i];
	return angles_codec_set(joined.texts, joined.n);
}

static Members
members_of(const Jsonb *set)
{
	Members		members = {NULL, 0};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (set == NULL || JB_ROOT_IS_SCALAR(set) || !JB_ROOT_IS_ARRAY(set))
		return members;
	members.texts = palloc((JB_ROOT_COUNT(set) + 1) * sizeof(char *));
	it = JsonbIteratorInit(unconstify(JsonbContainer *, &set->root));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_ELEM && value.type == jbvString)
			members.texts[members.n++] = pnstrdup(value.val.string.val, value.val.string.len);
	return members;
}

static bool
has_member(const Members *set, const char *text)
{
	char	   *sought = angles_codec_fold(text);

	for (int i = 0; i < set->n; i++)
		if (strcmp(angles_codec_fold(set->texts[i]), sought) == 0)
			return true;
	return false;
}
