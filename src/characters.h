/*
 * characters.h
 *		Texts of users, character by character, whatever the encoding of the database is.
 */
#ifndef COORD_CHARACTERS_H
#define COORD_CHARACTERS_H

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#define COORD_REPLACEMENT 0xFFFD	/* in place of what is no character */

extern char *coord_in_utf8(const char *text, int max_chars);
extern pg_wchar coord_next_character(const char **c);
extern void coord_escape_json_ascii(StringInfo json, const char *text);

#endif							/* COORD_CHARACTERS_H */
