/*
 * pieces.c
 *		Pieces of which the sections of the dashboard are made.
 */
#include "postgres.h"

#include "dashboard/page.h"

const char *
dash_period_name(const Dashboard *dash)
{
	return dash->period == 3600 ? "hour" : dash->period == 600 ? "10 minutes" : "minute";
}

const char *
dash_part_name(const Dashboard *dash)
{
	return dash->period == 3600 ? "minute" : dash->period == 600 ? "10 seconds" : "second";
}

void
dash_add(Dashboard *dash, const char *text)
{
	appendStringInfoString(&dash->page, text);
}

void
dash_begin_table(Dashboard *dash, const char *id, const char *caption)
{
	appendStringInfo(&dash->page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
					 "aria-label=\"%s\"><table id=\"%s\"><caption>%s</caption>\n", caption, id, caption);
}

void
dash_cell_name(Dashboard *dash, const char *value)
{
	dash_add(dash, "<td class=\"name\">");
	html_value(&dash->page, value, HTML_NAME);
	dash_add(dash, "</td>");
}

void
dash_cell_count(Dashboard *dash, int64 count)
{
	dash_add(dash, count == 0 ? "<td class=\"n zero\">" : "<td class=\"n\">");
	html_count(&dash->page, count);
	dash_add(dash, "</td>");
}

/* A duration, or two of them; a negative one is none. */
void
dash_cell_durations(Dashboard *dash, int64 first, int64 second)
{
	if (first < 0)
	{
		dash_add(dash, "<td class=\"n zero\">&#x2013;</td>");
		return;
	}
	dash_add(dash, "<td class=\"n\">");
	html_duration(&dash->page, first);
	if (second >= 0)
	{
		dash_add(dash, " / ");
		html_duration(&dash->page, second);
	}
	dash_add(dash, "</td>");
}

void
dash_cell_instant(Dashboard *dash, TimestampTz at)
{
	dash_add(dash, "<td class=\"w\">");
	html_instant(&dash->page, at);
	dash_add(dash, "</td>");
}

void
dash_begin_figure(Dashboard *dash, const char *name)
{
	appendStringInfo(&dash->page, "<div><dt>%s</dt><dd>", name);
}

void
dash_figure(Dashboard *dash, const char *name, int64 count)
{
	dash_begin_figure(dash, name);
	html_count(&dash->page, count);
	dash_add(dash, "</dd></div>\n");
}
