/*
 * html.c
 *		Writing HTML: values of users, numbers, durations and instants.
 *
 * What is not ASCII is written as a numeric character reference.  So a page is the same
 * in each encoding of a client, and what it says of its charset is always true.  A page is
 * well-formed XML too, which is what its tests read.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/timestamp.h"

#include "dashboard/html.h"

#define REPLACEMENT 0xFFFD
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
		c = REPLACEMENT;
	if (c >= 0x80 || strchr("<>&\"'", (int) c) != NULL)
		appendStringInfo(page, "&#x%X;", (unsigned int) c);
	else
		appendStringInfoChar(page, (char) c);
}

/* The beginning of a text in UTF-8; what cannot be told in it is replaced. */
static char *
in_utf8(const char *value, int max_chars)
{
	int			encoding = GetDatabaseEncoding();
	int			left = strlen(value);
	StringInfoData converted;
	Oid			conversion;

	/* what is not known to be in any encoding may be in UTF-8; its characters have 4 bytes at most */
	if (encoding == PG_SQL_ASCII)
		return pnstrdup(value, Min(left, 4 * max_chars));
	left = Min(pg_mbcharcliplen(value, left, max_chars), left);
	if (encoding == PG_UTF8)
		return pnstrdup(value, left);
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	initStringInfo(&converted);
	while (left > 0)
	{
		int			growth = left * MAX_CONVERSION_GROWTH + 1;
		int			done = 0;

		enlargeStringInfo(&converted, growth);
		if (OidIsValid(conversion))
			done = pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8,
												 (unsigned char *) unconstify(char *, value), left,
												 (unsigned char *) converted.data + converted.len, growth,
												 true);
		converted.len += strlen(converted.data + converted.len);
		if (done < left)
		{
			appendStringInfoString(&converted, "\357\277\275");	/* U+FFFD */
			done += Min(pg_mblen(value + done), left - done);
		}
		value += done;
		left -= done;
	}
	return converted.data;
}

/* Add a value, escaped, and cut after so many characters. */
void
html_value(StringInfo page, const char *value, int max_chars)
{
	char	   *text = in_utf8(value, max_chars + 1);
	int			left = strlen(text);

	for (char *c = text; left > 0; max_chars--)
	{
		int			len = pg_encoding_verifymbchar(PG_UTF8, c, left);

		if (max_chars == 0)
		{
			add_character(page, ELLIPSIS);
			break;
		}
		add_character(page, len > 0 ? utf8_to_unicode((const unsigned char *) c) : REPLACEMENT);
		len = Max(len, 1);
		c += len;
		left -= len;
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
