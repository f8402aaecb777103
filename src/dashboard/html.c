/*
 * html.c
 *		Writing HTML: values of users, numbers, durations and instants.
 *
 * What is not ASCII is written as a numeric character reference.  So a page is the same
 * in each encoding of a client, and what it says of its charset is always true.  A page is
 * well-formed XML too, which is what its tests read.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/timestamp.h"

#include "characters.h"
#include "dashboard/html.h"

#define ELLIPSIS 0x2026

/* Whether a browser takes a character reference for that very character. */
static bool
is_allowed(pg_wchar c)
{
	return c == '\t' || c == '\n' || (c >= 0x20 && c < 0x7F) ||
		(c >= 0xA0 && (c & 0xFFFE) != 0xFFFE && !(c >= 0xFDD0 && c <= 0xFDEF));
}

static void
add_character(StringInfo page, pg_wchar c)
{
	if (!is_allowed(c))
		c = COORD_REPLACEMENT;
	if (c >= 0x80 || strchr("<>&\"'", (int) c) != NULL)
		appendStringInfo(page, "&#x%X;", (unsigned int) c);
	else
		appendStringInfoChar(page, (char) c);
}

/* Add a value, escaped, and cut after so many characters. */
void
html_value(StringInfo page, const char *value, int max_chars)
{
	char	   *text = coord_in_utf8(value, max_chars + 1);

	for (const char *c = text; *c != '\0'; max_chars--)
	{
		if (max_chars == 0)
		{
			add_character(page, ELLIPSIS);
			break;
		}
		add_character(page, coord_next_character(&c));
	}
	pfree(text);
}

/* 1,234,567 */
void
html_count(StringInfo page, int64 count)
{
	char		digits[32];
	int			n = snprintf(digits, sizeof(digits), INT64_FORMAT, count);

	for (int i = 0; i < n; i++)
	{
		if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-')
			appendStringInfoChar(page, ',');
		appendStringInfoChar(page, digits[i]);
	}
}

/* A duration by its largest unit, or two of them, so that it can be read at a glance. */
void
html_duration(StringInfo page, int64 usec)
{
	static const struct
	{
		int64		usec;
		const char *name;
		const char *part;
		int64		part_usec;
	}			units[] = {
		{USECS_PER_DAY, "d", "h", USECS_PER_HOUR},
		{USECS_PER_HOUR, "h", "min", USECS_PER_MINUTE},
		{USECS_PER_MINUTE, "min", "s", USECS_PER_SEC},
	};

	for (int i = 0; i < (int) lengthof(units); i++)
	{
		if (usec >= units[i].usec)
		{
			html_count(page, usec / units[i].usec);
			appendStringInfo(page, " %s", units[i].name);
			if (usec / units[i].usec < 10)
				appendStringInfo(page, " %d "
								 "%s", (int) (usec % units[i].usec / units[i].part_usec), units[i].part);
			return;
		}
	}
	if (usec >= 10 * USECS_PER_SEC)
		appendStringInfo(page, "%d s", (int) (usec / USECS_PER_SEC));
	else if (usec >= USECS_PER_SEC)
		appendStringInfo(page, "%.1f s", (int) (usec / 100000) / 10.0);
	else
		appendStringInfo(page, "%d ms", (int) (usec / 1000));
}

static bool
in_utc(TimestampTz at, struct pg_tm *tm)
{
	fsec_t		fsec;

	return !TIMESTAMP_NOT_FINITE(at) && timestamp2tm(at, NULL, tm, &fsec, NULL, NULL) == 0;
}

/* An instant in UTC, to the second. */
void
html_instant(StringInfo page, TimestampTz at)
{
	struct pg_tm tm;

	if (in_utc(at, &tm))
		appendStringInfo(page, "<time datetime=\"%04d-%02d-%02dT%02d:%02d:%02dZ\">%04d-%02d-%02d "
						 "%02d:%02d:%02d</time>",
						 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
						 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		appendStringInfoString(page, at < 0 ? "-infinity" : "infinity");
}

/* Its time of day, to the minute or the second. */
void
html_clock(StringInfo page, TimestampTz at, bool seconds)
{
	struct pg_tm tm;

	if (!in_utc(at, &tm))
		return;
	appendStringInfo(page, "%02d:%02d", tm.tm_hour, tm.tm_min);
	if (seconds)
		appendStringInfo(page, ":%02d", tm.tm_sec);
}
