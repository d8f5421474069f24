/*
 * codec_date.c
 *		Dates and moments between SQL, the canonical form and Notion.
 *
 * Canonical is {"start":"2026-11-01"} for a date and, for a moment, UTC to the millisecond:
 * {"start":"2026-11-01T09:30:00.000+00:00"}. Texts are taken apart here and not by PostgreSQL's
 * input functions, which depend on the session and read far more than ISO 8601.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/json.h"
#include "notion/codec.h"
#include "notion/codec_internal.h"

/* Offsets from UTC that PostgreSQL and ISO 8601 know stay below this many hours. */
#define MAX_OFFSET_HOURS 16

static char *remote_moment(Oid type, const char *text, const char *zone);
static bool read_date(const char **p, struct pg_tm *tm);
static bool read_time(const char **p, struct pg_tm *tm, fsec_t *fsec);
static bool read_zone(const char **p, const char *zone, struct pg_tm *tm, int *seconds_west);
static bool read_digits(const char **p, int n, int *value);
static char *timestamp_text(TimestampTz at);

char *
angles_codec_local_date(Oid type, Datum value, char **problem)
{
	char	   *start = NULL;

	if (type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);
		int			year;
		int			month;
		int			day;

		if (!DATE_NOT_FINITE(date))
		{
			j2date(date + POSTGRES_EPOCH_JDATE, &year, &month, &day);
			if (year >= 1 && year <= 9999)
				start = psprintf("%04d-%02d-%02d", year, month, day);
		}
	}
	else if (!TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
		start = timestamp_text(DatumGetTimestampTz(value));
	if (start == NULL)
	{
		*problem = "Notion's dates know no infinity and only the years 1 to 9999; map the column "
			"as rich_text";
		return NULL;
	}
	return psprintf("{\"start\":\"%s\"}", start);
}

/* NULL outside the years 1 to 9999. */
static char *
timestamp_text(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;

	/* timestamps are UTC inside; no time zone is asked for, so the session's plays no part */
	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0 || tm.tm_year < 1 || tm.tm_year > 9999)
		return NULL;
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec, (int) (fsec / 1000));
}

char *
angles_codec_remote_date(Oid type, JsonbContainer *date, char **problem)
{
	char	   *start = angles_json_get_text(date, "start");
	char	   *end = angles_json_get_text(date, "end");
	char	   *zone = angles_json_get_text(date, "time_zone");
	char	   *normal_start = start ? remote_moment(type, start, zone) : NULL;
	char	   *normal_end = end ? remote_moment(type, end, zone) : NULL;

	if (normal_start == NULL || (end != NULL && normal_end == NULL))
	{
		*problem = "the date in Notion cannot be read";
		return NULL;
	}
	return end ? psprintf("{\"start\":\"%s\",\"end\":\"%s\"}", normal_start, normal_end)
		: psprintf("{\"start\":\"%s\"}", normal_start);
}

/*
 * Normal form of an ISO 8601 date or moment, or NULL. A date in Notion is midnight UTC for a column
 * of moments: that is what it becomes in SQL, so the two must be equal here.
 */
static char *
remote_moment(Oid type, const char *text, const char *zone)
{
	struct pg_tm tm = {0};
	fsec_t		fsec = 0;
	int			seconds_west = 0;
	TimestampTz at;

	if (!read_date(&text, &tm))
		return NULL;
	if (*text == '\0' && type != TIMESTAMPOID && type != TIMESTAMPTZOID)
		return psprintf("%04d-%02d-%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
	if (*text != '\0' && (!read_time(&text, &tm, &fsec) ||
						  !read_zone(&text, zone, &tm, &seconds_west)))
		return NULL;
	if (tm2timestamp(&tm, fsec, &seconds_west, &at) != 0)
		return NULL;
	return timestamp_text(at);
}

static bool
read_date(const char **p, struct pg_tm *tm)
{
	if (!read_digits(p, 4, &tm->tm_year) || *(*p)++ != '-' ||
		!read_digits(p, 2, &tm->tm_mon) || *(*p)++ != '-' || !read_digits(p, 2, &tm->tm_mday))
		return false;
	return tm->tm_year >= 1 && tm->tm_mon >= 1 && tm->tm_mon <= 12 && tm->tm_mday >= 1 &&
		tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
}

/* "Thh:mm", "Thh:mm:ss" or with any number of digits of a second. */
static bool
read_time(const char **p, struct pg_tm *tm, fsec_t *fsec)
{
	if (*(*p)++ != 'T' || !read_digits(p, 2, &tm->tm_hour) || *(*p)++ != ':' ||
		!read_digits(p, 2, &tm->tm_min) || tm->tm_hour > 23 || tm->tm_min > 59)
		return false;
	if (**p != ':')
		return true;
	(*p)++;
	if (!read_digits(p, 2, &tm->tm_sec) || tm->tm_sec > 59)
		return false;
	if (**p == '.')
	{
		int			digit;
		int			worth = USECS_PER_SEC / 10;

		(*p)++;
		if (**p < '0' || **p > '9')
			return false;
		for (; read_digits(p, 1, &digit); worth /= 10)
			*fsec += digit * worth;
	}
	return true;
}

/* "Z", an offset, or nothing: then the time is that of the named zone, or UTC without one. */
static bool
read_zone(const char **p, const char *zone, struct pg_tm *tm, int *seconds_west)
{
	int			hours;
	int			minutes = 0;
	bool		east = **p == '+';

	if (**p == '\0')
	{
		pg_tz	   *tz = zone ? pg_tzset(zone) : NULL;

		if (tz != NULL)
			*seconds_west = DetermineTimeZoneOffset(tm, tz);
		return zone == NULL || tz != NULL;
	}
	if (**p == 'Z')
		return *++(*p) == '\0';
	if ((**p != '+' && **p != '-') || ((*p)++, !read_digits(p, 2, &hours)))
		return false;
	if (**p == ':')
		(*p)++;
	if ((**p != '\0' && !read_digits(p, 2, &minutes)) || **p != '\0' ||
		hours >= MAX_OFFSET_HOURS || minutes > 59)
		return false;
	*seconds_west = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE * (east ? -1 : 1);
	return true;
}

static bool
read_digits(const char **p, int n, int *value)
{
	*value = 0;
	for (int i = 0; i < n; i++, (*p)++)
	{
		if (**p < '0' || **p > '9')
			return false;
		*value = *value * 10 + (**p - '0');
	}
	return true;
}

char *
angles_codec_date_to_sql(const AnglesColumn *column, JsonbContainer *date, char **problem)
{
	char	   *start = angles_json_get_text(date, "start");

	if (angles_json_get_text(date, "end") != NULL)
		*problem = psprintf("column \"%s\" holds one date, not a range", column->name);
	else if (start == NULL)
		*problem = "the date has no start";
	else if (getBaseType(column->typid) == DATEOID && strchr(start, 'T') != NULL)
		*problem = psprintf("column \"%s\" holds a date without a time", column->name);
	return *problem ? NULL : start;
}
