/*
 * arrays.c
 *		Parallel arrays, so that one statement handles many rows. See engine.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "sync/engine.h"

static void grow(RowSet *rows);
static Datum text_array(Datum *values, bool *nulls, int n);

void
angles_rows_add(RowSet *rows, int32 link_id, const char *key)
{
	if (rows->n == rows->max)
		grow(rows);
	rows->links[rows->n] = Int32GetDatum(link_id);
	rows->keys[rows->n] = CStringGetTextDatum(key);
	for (int i = 0; i < lengthof(rows->extra); i++)
		rows->extra_null[i][rows->n] = true;
	rows->n++;
}

void
angles_rows_text(RowSet *rows, int which, const char *text)
{
	if (text == NULL)
		return;
	rows->extra[which][rows->n - 1] = CStringGetTextDatum(text);
	rows->extra_null[which][rows->n - 1] = false;
}

Datum
angles_rows_links(const RowSet *rows)
{
	return PointerGetDatum(construct_array(rows->links, rows->n, INT4OID, sizeof(int32), true,
										   TYPALIGN_INT));
}

Datum
angles_rows_keys(const RowSet *rows)
{
	return text_array(rows->keys, NULL, rows->n);
}

Datum
angles_rows_extra(const RowSet *rows, int which)
{
	return text_array(rows->extra[which], rows->extra_null[which], rows->n);
}

static void
grow(RowSet *rows)
{
	int			max = rows->max ? rows->max * 2 : 64;

#define GROW(array, type) \
	((array) = (array) ? repalloc_huge((array), max * sizeof(type)) : palloc(max * sizeof(type)))
	GROW(rows->links, Datum);
	GROW(rows->keys, Datum);
	for (int i = 0; i < lengthof(rows->extra); i++)
	{
		GROW(rows->extra[i], Datum);
		GROW(rows->extra_null[i], bool);
	}
#undef GROW
	rows->max = max;
}

static Datum
text_array(Datum *values, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lower[1] = {1};

	if (n == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, TEXTOID, -1, false,
											  TYPALIGN_INT));
}
