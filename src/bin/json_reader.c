/*
 * json_reader.c
 *		Looking into JSON texts.
 *
 * The tokens are PostgreSQL's own, by its lexer for frontends, so that a text is JSON
 * here when it is JSON to the server.  Its recursive parser is not used: a client's text
 * may be nested deeper than a stack is, and no tree of the values is wanted either.  A
 * text is checked once, as a whole; a value is a slice of it, and looking for members
 * only reads the tokens of the object again.
 */
#include "postgres_fe.h"

#include <math.h>

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "compat.h"
#include "json_reader.h"

/* What may come next in a text. */
typedef enum Expected
{
	EXPECT_VALUE,
	EXPECT_FIRST_ELEMENT,		/* or the array's end */
	EXPECT_FIRST_KEY,			/* or the object's end */
	EXPECT_KEY,
	EXPECT_COLON,
	EXPECT_NEXT,				/* a comma, or the end of what it is in */
	EXPECT_END
} Expected;

static JsonFault check(JsonLexContext *lex);
static Json value_at(JsonLexContext *lex);
static bool key_is(Json key, const char *name);

/* Check a text and give its value. */
JsonFault
json_read(const char *text, size_t len, Json *value)
{
	JsonLexContext *lex;
	JsonFault	fault;

	/* this refuses NUL too */
	if (pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len)
		return JSON_FAULT_ENCODING;

	lex = coord_json_lexer(text, (int) len, false);
	fault = check(lex);
	coord_json_lexer_free(lex);
	if (fault == JSON_FAULT_NONE)
		*value = json_trusted(text, len);
	return fault;
}

/* Read all tokens, in the order that the grammar of JSON wants. */
static JsonFault
check(JsonLexContext *lex)
{
	bool		is_object[JSON_MAX_NESTING] = {false};
	int			depth = 0;
	Expected	expected = EXPECT_VALUE;

	for (;;)
	{
		JsonTokenType token;
		bool		ends = false;

		if (json_lex(lex) != JSON_SUCCESS)
			return JSON_FAULT_SYNTAX;
		token = lex->token_type;

		switch (expected)
		{
			case EXPECT_END:
				return token == JSON_TOKEN_END ? JSON_FAULT_NONE : JSON_FAULT_SYNTAX;

			case EXPECT_COLON:
				if (token != JSON_TOKEN_COLON)
					return JSON_FAULT_SYNTAX;
				expected = EXPECT_VALUE;
				continue;

			case EXPECT_FIRST_KEY:
			case EXPECT_KEY:
				if (token == JSON_TOKEN_OBJECT_END && expected == EXPECT_FIRST_KEY)
					ends = true;
				else if (token != JSON_TOKEN_STRING)
					return JSON_FAULT_SYNTAX;
				else
				{
					expected = EXPECT_COLON;
					continue;
				}
				break;

			case EXPECT_NEXT:
				if (token == JSON_TOKEN_COMMA)
				{
					expected = is_object[depth - 1] ? EXPECT_KEY : EXPECT_VALUE;
					continue;
				}
				if (token != (is_object[depth - 1] ? JSON_TOKEN_OBJECT_END : JSON_TOKEN_ARRAY_END))
					return JSON_FAULT_SYNTAX;
				ends = true;
				break;

			case EXPECT_FIRST_ELEMENT:
			case EXPECT_VALUE:
				if (token == JSON_TOKEN_ARRAY_END && expected == EXPECT_FIRST_ELEMENT)
				{
					ends = true;
					break;
				}
				switch (token)
				{
					case JSON_TOKEN_OBJECT_START:
					case JSON_TOKEN_ARRAY_START:
						if (depth == JSON_MAX_NESTING)
							return JSON_FAULT_NESTING;
						is_object[depth++] = (token == JSON_TOKEN_OBJECT_START);
						expected = token == JSON_TOKEN_OBJECT_START ? EXPECT_FIRST_KEY : EXPECT_FIRST_ELEMENT;
						continue;
					case JSON_TOKEN_STRING:
					case JSON_TOKEN_NUMBER:
					case JSON_TOKEN_TRUE:
					case JSON_TOKEN_FALSE:
					case JSON_TOKEN_NULL:
						break;
					default:
						return JSON_FAULT_SYNTAX;
				}
				break;
		}

		/* a value is complete */
		if (ends)
			depth--;
		expected = depth == 0 ? EXPECT_END : EXPECT_NEXT;
	}
}

/* The value of a text that is known to be JSON, as what the server answers is; ABSENT if it is not, as far as that is seen. */
Json
json_trusted(const char *text, size_t len)
{
	JsonLexContext *lex = coord_json_lexer(text, (int) len, false);
	Json		value;

	(void) json_lex(lex);
	value = value_at(lex);
	coord_json_lexer_free(lex);
	return value;
}

/* The value that starts with the lexer's token; leaves the lexer at its last token. */
static Json
value_at(JsonLexContext *lex)
{
	Json		value = {JSON_KIND_ABSENT, lex->token_start, 0};
	int			depth = 0;

	switch (lex->token_type)
	{
		case JSON_TOKEN_OBJECT_START:
			value.kind = JSON_KIND_OBJECT;
			break;
		case JSON_TOKEN_ARRAY_START:
			value.kind = JSON_KIND_ARRAY;
			break;
		case JSON_TOKEN_STRING:
			value.kind = JSON_KIND_STRING;
			break;
		case JSON_TOKEN_NUMBER:
			value.kind = JSON_KIND_NUMBER;
			break;
		case JSON_TOKEN_TRUE:
		case JSON_TOKEN_FALSE:
			value.kind = JSON_KIND_BOOLEAN;
			break;
		case JSON_TOKEN_NULL:
			value.kind = JSON_KIND_NULL;
			break;
		default:
			return value;
	}

	for (;;)
	{
		if (lex->token_type == JSON_TOKEN_OBJECT_START || lex->token_type == JSON_TOKEN_ARRAY_START)
			depth++;
		else if (lex->token_type == JSON_TOKEN_OBJECT_END || lex->token_type == JSON_TOKEN_ARRAY_END)
			depth--;
		if (depth == 0)
			break;
		if (json_lex(lex) != JSON_SUCCESS || lex->token_type == JSON_TOKEN_END)
			return JSON_NONE;	/* what was to be trusted is no JSON */
	}
	value.len = lex->token_terminator - value.text;
	return value;
}

/*
 * The members of an object with these names, ABSENT those that it has not; of several
 * with one name the last, as in jsonb.  Of what is no object all are ABSENT.
 */
void
json_members(Json object, int n, const char *const *names, Json *values)
{
	JsonLexContext *lex;

	memset(values, 0, n * sizeof(Json));
	if (object.kind != JSON_KIND_OBJECT)
		return;

	lex = coord_json_lexer(object.text, (int) object.len, false);
	(void) json_lex(lex);		/* the brace, and later a comma */
	for (;;)
	{
		Json		key;
		Json		value;

		(void) json_lex(lex);
		if (lex->token_type != JSON_TOKEN_STRING)
			break;				/* it is empty */
		key = value_at(lex);
		(void) json_lex(lex);	/* the colon */
		(void) json_lex(lex);
		value = value_at(lex);
		for (int i = 0; i < n; i++)
		{
			if (key_is(key, names[i]))
				values[i] = value;
		}
		(void) json_lex(lex);
		if (lex->token_type != JSON_TOKEN_COMMA)
			break;
	}
	coord_json_lexer_free(lex);
}

Json
json_member(Json object, const char *name)
{
	Json		value;

	json_members(object, 1, &name, &value);
	return value;
}

/* Goes to an array's next element, from ABSENT to the first; false at the end. */
bool
json_next_element(Json array, Json *element)
{
	const char *after;
	JsonLexContext *lex;

	if (array.kind != JSON_KIND_ARRAY)
		return false;
	/* past the bracket, or the element and then its comma */
	after = element->kind == JSON_KIND_ABSENT ? array.text + 1 : element->text + element->len;
	lex = coord_json_lexer(after, (int) (array.text + array.len - after), false);
	(void) json_lex(lex);
	if (lex->token_type == JSON_TOKEN_COMMA)
		(void) json_lex(lex);
	*element = value_at(lex);
	coord_json_lexer_free(lex);
	return element->kind != JSON_KIND_ABSENT;
}

static bool
key_is(Json key, const char *name)
{
	size_t		len = strlen(name);
	char	   *decoded;
	bool		is;

	if (key.len == len + 2 && memcmp(key.text + 1, name, len) == 0)
		return true;
	if (memchr(key.text, '\\', key.len) == NULL)
		return false;
	decoded = json_string(key);
	is = decoded != NULL && strcmp(decoded, name) == 0;
	free(decoded);
	return is;
}

/* Is it this string? */
bool
json_is(Json value, const char *string)
{
	return value.kind == JSON_KIND_STRING && key_is(value, string);
}

/* Are two strings, or two numbers, written the same? */
bool
json_same(Json a, Json b)
{
	char	   *decoded;
	bool		same;

	if (a.kind != b.kind || a.kind == JSON_KIND_ABSENT)
		return false;
	if (a.len == b.len && memcmp(a.text, b.text, a.len) == 0)
		return true;
	if (a.kind != JSON_KIND_STRING)
		return false;
	decoded = json_string(a);
	same = decoded != NULL && json_is(b, decoded);
	free(decoded);
	return same;
}

bool
json_is_true(Json value)
{
	return value.kind == JSON_KIND_BOOLEAN && value.text[0] == 't';
}

/* A string's decoded value, to be freed; NULL for what is none, or has no text as \u0000 has none. */
char *
json_string(Json value)
{
	JsonLexContext *lex;
	char	   *string = NULL;

	if (value.kind != JSON_KIND_STRING)
		return NULL;
	lex = coord_json_lexer(value.text, (int) value.len, true);
	if (json_lex(lex) == JSON_SUCCESS)
		string = pg_strdup(lex->strval->data);
	coord_json_lexer_free(lex);
	return string;
}

/* A value as it is written, to be freed; NULL for none. */
char *
json_text(Json value)
{
	return value.kind == JSON_KIND_ABSENT ? NULL : pnstrdup(value.text, value.len);
}

/* Whether there is a number in a value, however deep. */
bool
json_has_number(Json value)
{
	JsonLexContext *lex;
	bool		found = false;

	if (value.kind == JSON_KIND_ABSENT)
		return false;
	lex = coord_json_lexer(value.text, (int) value.len, false);
	while (!found && json_lex(lex) == JSON_SUCCESS && lex->token_type != JSON_TOKEN_END)
		found = lex->token_type == JSON_TOKEN_NUMBER;
	coord_json_lexer_free(lex);
	return found;
}

bool
json_number(Json value, double *number)
{
	char	   *text;

	if (value.kind != JSON_KIND_NUMBER)
		return false;
	text = json_text(value);
	*number = strtod(text, NULL);
	free(text);
	return isfinite(*number);
}

/* Days from 1970-01-01 to a day of the Gregorian calendar. */
static int64
days_to(int year, int month, int day)
{
	int64		y = month > 2 ? year : year - 1;
	int			m = month > 2 ? month - 3 : month + 9;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

/* A time as the server writes it, such as "2026-07-28T12:00:00.123456+02:00", in seconds since 1970. */
bool
json_time(Json value, double *epoch)
{
	char	   *text = json_string(value);
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	double		second;
	int			end = 0;
	int			offset = 0;

	if (text == NULL)
		return false;
	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lf%n", &year, &month, &day, &hour, &minute, &second, &end) == 6)
	{
		int			offset_hours = 0;
		int			offset_minutes = 0;
		int			offset_seconds = 0;
		const char *zone = text + end;

		if ((*zone == '+' || *zone == '-') &&
			sscanf(zone + 1, "%2d:%2d:%2d", &offset_hours, &offset_minutes, &offset_seconds) >= 1)
			offset = (offset_hours * 3600 + offset_minutes * 60 + offset_seconds) * (*zone == '-' ? -1 : 1);
		*epoch = (double) (days_to(year, month, day) * 86400 + hour * 3600 + minute * 60 - offset) + second;
	}
	free(text);
	return end > 0;
}

/* Append a string as JSON. */
void
json_append_string(StringInfo buf, const char *string)
{
	appendStringInfoChar(buf, '"');
	for (const char *c = string; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
		{
			appendStringInfoChar(buf, '\\');
			appendStringInfoChar(buf, *c);
		}
		else if ((unsigned char) *c < ' ')
			appendStringInfo(buf, "\\u%04x", (unsigned char) *c);
		else
			appendStringInfoChar(buf, *c);
	}
	appendStringInfoChar(buf, '"');
}
