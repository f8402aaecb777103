/*
 * characters.c
 *		Texts of users, character by character, whatever the encoding of the database is.
 *
 * What is to be read by clients of any encoding is written in ASCII.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/string.h"
#include "utils/json.h"

#include "characters.h"

/* The beginning of a text, of so many characters, in UTF-8; what cannot be told in it is replaced. */
char *
coord_in_utf8(const char *text, int max_chars)
{
	int			encoding = GetDatabaseEncoding();
	int			left = strlen(text);
	StringInfoData converted;
	Oid			conversion;

	/* what is not known to be in any encoding may be in UTF-8; its characters have 4 bytes at most */
	if (encoding == PG_SQL_ASCII)
		return pnstrdup(text, Min(left, 4 * (int64) max_chars));
	left = Min(pg_mbcharcliplen(text, left, max_chars), left);
	if (encoding == PG_UTF8)
		return pnstrdup(text, left);
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	initStringInfo(&converted);
	while (left > 0)
	{
		int			growth = left * MAX_CONVERSION_GROWTH + 1;
		int			done = 0;

		enlargeStringInfo(&converted, growth);
		if (OidIsValid(conversion))
			done = pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8,
												 (unsigned char *) unconstify(char *, text), left,
												 (unsigned char *) converted.data + converted.len, growth,
												 true);
		converted.len += strlen(converted.data + converted.len);
		if (done < left)
		{
			appendStringInfoString(&converted, "\357\277\275");	/* U+FFFD */
			done += Min(pg_mblen(text + done), left - done);
		}
		text += done;
		left -= done;
	}
	return converted.data;
}

/* The character of a text in UTF-8 at *c, which goes on to the next one. */
pg_wchar
coord_next_character(const char **c)
{
	int			len = pg_encoding_verifymbchar(PG_UTF8, *c, strnlen(*c, 4));
	pg_wchar	character = len > 0 ? utf8_to_unicode((const unsigned char *) *c) : COORD_REPLACEMENT;

	*c += Max(len, 1);
	return character;
}

/*
 * Add a text as a JSON string, in ASCII.  A client whose encoding has not all characters of
 * a notification loses its connection: PostgreSQL cannot tell it so in any other way.
 */
void
coord_escape_json_ascii(StringInfo json, const char *text)
{
	StringInfoData quoted;

	if (pg_is_ascii(text))
	{
		escape_json(json, text);
		return;
	}
	initStringInfo(&quoted);
	escape_json(&quoted, coord_in_utf8(text, INT_MAX));
	for (const char *c = quoted.data; *c != '\0';)
	{
		pg_wchar	character = coord_next_character(&c);

		if (character < 0x80)
			appendStringInfoChar(json, (char) character);
		else if (character < 0x10000)
			appendStringInfo(json, "\\u%04x", (unsigned int) character);
		else
		{
			character -= 0x10000;
			appendStringInfo(json, "\\u%04x\\u%04x", (unsigned int) (0xD800 + (character >> 10)),
							 (unsigned int) (0xDC00 + (character & 0x3FF)));
		}
	}
}
