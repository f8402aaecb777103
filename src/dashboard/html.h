/*
 * html.h
 *		Writing HTML: every value passes through here, and comes out as ASCII.
 */
#ifndef COORD_HTML_H
#define COORD_HTML_H

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

/* where a value is cut, in characters */
#define HTML_NAME 80
#define HTML_PROSE 200

extern void html_value(StringInfo page, const char *value, int max_chars);
extern void html_count(StringInfo page, int64 count);
extern void html_duration(StringInfo page, int64 usec);
extern void html_instant(StringInfo page, TimestampTz at);
extern void html_clock(StringInfo page, TimestampTz at, bool seconds);

#endif							/* COORD_HTML_H */
