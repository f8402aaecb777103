/*
 * throughput.c
 *		What was finished lately: a chart, and its figures as a table.
 */
#include "postgres.h"

#include "dashboard/page.h"

/* the heights of its two halves, in pixels; style sheet and SVG agree on them */
#define COMPLETED_HEIGHT 130
#define DEAD_HEIGHT 50

static TimestampTz
part_begins(const Dashboard *dash, int part)
{
	return dash->now - dash->period * USECS_PER_SEC + part * (dash->period * USECS_PER_SEC / DASH_PARTS);
}

/* The bars of one half of the chart: upwards from its foot, or downwards from its head. */
static void
write_bars(Dashboard *dash, bool dead, int64 peak)
{
	for (int i = 0; i < DASH_PARTS; i++)
	{
		int64		n = dead ? dash->done[i].dead : dash->done[i].completed;
		double		height = (double) n / Max(peak, 1) * (dead ? DEAD_HEIGHT - 4 : COMPLETED_HEIGHT - 2);

		if (n == 0)
			continue;
		height = Max(height, 2);
		appendStringInfo(&dash->page, "<rect class=\"%s\" x=\"%.2f%%\" width=\"1.4%%\" y=\"%.1f\" "
						 "height=\"%.1f\"/>",
						 dead ? "dead" : "claimed", 100.0 * i / DASH_PARTS,
						 dead ? COMPLETED_HEIGHT + 2 : COMPLETED_HEIGHT - height, height);
	}
}

/* A label of the scale: the peak, at the head or foot of its half. */
static void
write_scale(Dashboard *dash, int64 completed, int64 dead)
{
	dash_add(dash, "<div class=\"plot\"><div class=\"scale\" aria-hidden=\"true\"><span><b>");
	html_count(&dash->page, completed);
	dash_add(dash, "</b><b>0</b></span><span><b></b><b>");
	if (dead > 0)
		html_count(&dash->page, dead);
	dash_add(dash, "</b></span></div>\n");
}

/* The chart in words, for who does not see it. */
static void
write_chart(Dashboard *dash, int64 completed_peak, int64 dead_peak)
{
	StringInfo	page = &dash->page;

	write_scale(dash, completed_peak, dead_peak);
	dash_add(dash, "<svg role=\"img\" aria-labelledby=\"chart-title chart-desc\"><title id=\"chart-title\">Tasks "
		"finished in each ");
	appendStringInfo(page, "%s of the last %s</title><desc "
					 "id=\"chart-desc\">Upwards: ", dash_part_name(dash), dash_period_name(dash));
	html_count(page, dash->all_done.completed);
	appendStringInfo(page, " completed, at most ");
	html_count(page, completed_peak);
	appendStringInfo(page, " in one %s. Downwards: ", dash_part_name(dash));
	html_count(page, dash->all_done.dead);
	dash_add(dash, " that became dead letters, at most ");
	html_count(page, dead_peak);
	appendStringInfo(page, " in one. The table below the chart has the figures.</desc><line class=\"grid\" "
					 "x1=\"0\" x2=\"100%%\" y1=\"1\" y2=\"1\"/><line class=\"grid\" x1=\"0\" x2=\"100%%\" "
					 "y1=\"%d\" y2=\"%d\"/>", COMPLETED_HEIGHT / 2, COMPLETED_HEIGHT / 2);
	write_bars(dash, false, completed_peak);
	write_bars(dash, true, dead_peak);
	appendStringInfo(page, "<line class=\"base\" x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/></svg>\n<div "
					 "class=\"axis\" aria-hidden=\"true\">",
					 COMPLETED_HEIGHT + 1, COMPLETED_HEIGHT + 1);
	for (int i = 0; i <= DASH_PARTS; i += DASH_PARTS / 4)
	{
		dash_add(dash, "<span>");
		html_clock(page, part_begins(dash, i), dash->period < 3600);
		dash_add(dash, "</span>");
	}
	dash_add(dash, "</div></div>\n");
}

static void
write_done_table(Dashboard *dash)
{
	dash_add(dash, "<details><summary>The figures as a table</summary>\n");
	dash_begin_table(dash, "done", "Tasks finished, the latest first");
	dash_add(dash, "<thead><tr><th scope=\"col\">From (UTC)</th><th scope=\"col\" class=\"n\">Completed</th><th "
		"scope=\"col\" class=\"n\">Dead letters</th></tr></thead>\n<tbody>\n");
	for (int i = DASH_PARTS - 1; i >= 0; i--)
	{
		dash_add(dash, "<tr><td class=\"w\">");
		html_instant(&dash->page, part_begins(dash, i));
		dash_add(dash, "</td>");
		dash_cell_count(dash, dash->done[i].completed);
		dash_cell_count(dash, dash->done[i].dead);
		dash_add(dash, "</tr>\n");
	}
	dash_add(dash, "</tbody></table></div></details>\n");
}

void
dash_write_throughput(Dashboard *dash)
{
	int64		completed_peak = 0;
	int64		dead_peak = 0;

	for (int i = 0; i < DASH_PARTS; i++)
	{
		completed_peak = Max(completed_peak, dash->done[i].completed);
		dead_peak = Max(dead_peak, dash->done[i].dead);
	}
	appendStringInfo(&dash->page, "<section id=\"throughput\"><h2>Throughput of the last %s, by the %s</h2>\n",
					 dash_period_name(dash), dash_part_name(dash));
	if (dash->period < 3600)
	{
		dash_add(dash, "<p class=\"note\">More than ");
		html_count(&dash->page, DASH_FINISHED_READ);
		dash_add(dash, " tasks have finished in the last hour, so a shorter time is shown.</p>\n");
	}
	if (completed_peak == 0 && dead_peak == 0)
		appendStringInfo(&dash->page, "<p class=\"note\">No task was completed in the last %s. An agent claims "
						 "one with <code>coord.task_claim</code> and completes it with "
						 "<code>coord.task_complete</code>.</p></section>\n",
						 dash_period_name(dash));
	else
	{
		appendStringInfo(&dash->page, "<figure><figcaption><ul class=\"key\"><li><svg "
						 "aria-hidden=\"true\"><rect class=\"claimed\" width=\"100%%\" "
						 "height=\"100%%\"/></svg>completed (upwards): ");
		html_count(&dash->page, dash->all_done.completed);
		dash_add(dash, "</li><li><svg aria-hidden=\"true\"><rect class=\"dead\" width=\"100%\" "
			"height=\"100%\"/></svg>became dead letters (downwards, on their own scale): ");
		html_count(&dash->page, dash->all_done.dead);
		dash_add(dash, "</li></ul></figcaption>\n");
		write_chart(dash, completed_peak, dead_peak);
		dash_add(dash, "</figure>\n");
		write_done_table(dash);
		dash_add(dash, "</section>\n");
	}
}
