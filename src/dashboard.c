/*
 * dashboard.c
 *		One page of HTML that shows how things stand.
 *
 * It needs nothing but itself: no script, no font, no picture from elsewhere, which its
 * policy forbids as well.  What a value is, html.c knows; all else here is constant.  A
 * role is shown what the relations show it.  How much there is does not matter, since of
 * everything only so much is read; what is cut is said.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "clock.h"
#include "coord.h"
#include "dashboard_style.h"
#include "html.h"
#include "rights.h"
#include "store/dashboard_store.h"
#include "store/stats_store.h"
#include "worker/shared.h"

/* so much is read, and so much of that is shown */
#define QUEUES_READ 500
#define QUEUES_SHOWN 50
#define AGENTS_READ 10000
#define AGENTS_SHOWN 10
#define LEASES_READ 1000
#define LEASES_SHOWN 20
#define DEAD_SHOWN 20
#define FINISHED_READ 300000

/* a lease is about to end */
#define LEASE_ENDS_SOON USECS_PER_MINUTE

/* the throughput, in parts of a period */
#define NPARTS 60

/* the heights of its two halves, in pixels; style sheet and SVG agree on them */
#define COMPLETED_HEIGHT 130
#define DEAD_HEIGHT 50

/* what is shown, as far as several sections need it */
typedef struct Dashboard
{
	StringInfoData page;
	Oid			reader;
	bool		sees_all;		/* every queue */
	bool		sees_any;
	TimestampTz now;
	List	   *queues;
	bool		more_queues;	/* than were read */
	QueueSight	total;			/* of those that were read */
	int			period;			/* seconds that are looked back on */
	DoneSight	done[NPARTS];
	DoneSight	all_done;
} Dashboard;

PG_FUNCTION_INFO_V1(coord_dashboard);

static void gather(Dashboard *dash);
static void write_head(Dashboard *dash);
static void write_worker(Dashboard *dash);
static void write_glance(Dashboard *dash);
static void write_throughput(Dashboard *dash);
static void write_queues(Dashboard *dash);
static void write_leases(Dashboard *dash);
static void write_dead_letters(Dashboard *dash);
static void write_agents(Dashboard *dash);

/* dashboard() */
Datum
coord_dashboard(PG_FUNCTION_ARGS pg_attribute_unused())
{
	Dashboard  *dash = palloc0(sizeof(Dashboard));
	StoreScope	scope;

	initStringInfo(&dash->page);
	store_open(&scope);
	store_pin_settings();		/* also for conversions of encodings */
	gather(dash);
	write_head(dash);
	write_worker(dash);
	appendStringInfoString(&dash->page, "</header>\n<main>\n");
	write_glance(dash);
	write_throughput(dash);
	write_queues(dash);
	write_leases(dash);
	write_dead_letters(dash);
	write_agents(dash);
	appendStringInfoString(&dash->page, "</main>\n<footer><p>All times are UTC. Made by <code>SELECT "
						   "coord.dashboard()</code>; load it anew for what is true then.</p></footer>\n"
						   "</body>\n</html>\n");
	store_close(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(dash->page.data, dash->page.len));
}

/* ---- what several sections show ---- */

/* The longest period of which what has finished can be read quickly. */
static int
bearable_period(TimestampTz now)
{
	static const int periods[] = {3600, 600, 60};

	for (int i = 0; i < (int) lengthof(periods) - 1; i++)
	{
		if (!store_finished_more_than(now - periods[i] * USECS_PER_SEC, FINISHED_READ))
			return periods[i];
	}
	return periods[lengthof(periods) - 1];
}

static void
gather(Dashboard *dash)
{
	ListCell   *cell;

	dash->now = coord_now();
	dash->reader = store_caller();
	dash->sees_all = coord_sees_every_queue(dash->reader);
	dash->sees_any = dash->sees_all || coord_queues(dash->reader, COORD_ANY) != NIL;
	dash->queues = store_queue_sights(dash->reader, QUEUES_READ, &dash->more_queues);
	dash->total.oldest_pending_age = -1;
	foreach(cell, dash->queues)
	{
		const QueueSight *queue = lfirst(cell);

		dash->total.pending += queue->pending;
		dash->total.scheduled += queue->scheduled;
		dash->total.blocked += queue->blocked;
		dash->total.claimed += queue->claimed;
		dash->total.dead += queue->dead;
		dash->total.oldest_pending_age = Max(dash->total.oldest_pending_age, queue->oldest_pending_age);
	}
	dash->period = bearable_period(dash->now);
	store_done_by_parts(dash->reader, dash->now - dash->period * USECS_PER_SEC,
						dash->period * USECS_PER_SEC / NPARTS,
						NPARTS, dash->done);
	for (int i = 0; i < NPARTS; i++)
	{
		dash->all_done.completed += dash->done[i].completed;
		dash->all_done.dead += dash->done[i].dead;
	}
}

static int64
tasks_of(const QueueSight *queue)
{
	return queue->pending + queue->scheduled + queue->blocked + queue->claimed + queue->dead;
}

static const char *
period_name(const Dashboard *dash)
{
	return dash->period == 3600 ? "hour" : dash->period == 600 ? "10 minutes" : "minute";
}

static const char *
part_name(const Dashboard *dash)
{
	return dash->period == 3600 ? "minute" : dash->period == 600 ? "10 seconds" : "second";
}

/* ---- pieces ---- */

static void
add(Dashboard *dash, const char *text)
{
	appendStringInfoString(&dash->page, text);
}

static void
begin_table(Dashboard *dash, const char *id, const char *caption)
{
	appendStringInfo(&dash->page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
					 "aria-label=\"%s\"><table id=\"%s\"><caption>%s</caption>\n", caption, id, caption);
}

static void
cell_name(Dashboard *dash, const char *value)
{
	add(dash, "<td class=\"name\">");
	html_value(&dash->page, value, HTML_NAME);
	add(dash, "</td>");
}

static void
cell_count(Dashboard *dash, int64 count)
{
	add(dash, count == 0 ? "<td class=\"n zero\">" : "<td class=\"n\">");
	html_count(&dash->page, count);
	add(dash, "</td>");
}

/* A duration, or two of them; a negative one is none. */
static void
cell_durations(Dashboard *dash, int64 first, int64 second)
{
	if (first < 0)
	{
		add(dash, "<td class=\"n zero\">&#x2013;</td>");
		return;
	}
	add(dash, "<td class=\"n\">");
	html_duration(&dash->page, first);
	if (second >= 0)
	{
		add(dash, " / ");
		html_duration(&dash->page, second);
	}
	add(dash, "</td>");
}

static void
cell_instant(Dashboard *dash, TimestampTz at)
{
	add(dash, "<td class=\"w\">");
	html_instant(&dash->page, at);
	add(dash, "</td>");
}

/* ---- the page's head, and the worker ---- */

static void
write_head(Dashboard *dash)
{
	StringInfo	page = &dash->page;
	char	   *database = get_database_name(MyDatabaseId);

	add(dash, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
		"img-src data:; base-uri 'none'; form-action 'none'\"/>\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<link rel=\"icon\" "
		"href=\"data:,\"/>\n<title>coord: ");
	html_value(page, database, HTML_NAME);
	add(dash,
		"</title>\n<style>\n" DASHBOARD_STYLE "</style>\n</head>\n<body>\n" DASHBOARD_PATTERNS "<header>\n<h1>coord: ");
	html_value(page, database, HTML_NAME);
	add(dash, "</h1>\n<p class=\"facts\">");
	html_instant(page, dash->now);
	add(dash, " UTC &#xB7; coord " COORD_VERSION " &#xB7; PostgreSQL ");
	html_value(page, GetConfigOption("server_version", false, false), HTML_NAME);
	add(dash, "</p>\n");
	if (!dash->sees_all)
	{
		add(dash, dash->sees_any ? "<p class=\"state\" id=\"narrow\">Shown are the queues, and the leases, "
			"that role " :
			"<p class=\"state warning\" id=\"narrow\">&#x26A0; Nothing is shown, since nothing was granted to "
			"role ");
		html_value(page, GetUserNameFromId(dash->reader, false), HTML_NAME);
		add(dash, dash->sees_any ? " may see; there may be others.</p>\n" :
			". To let it see all: <code>SELECT coord.grant_monitor(role)</code>.</p>\n");
	}
}

static void
write_worker_trouble(Dashboard *dash)
{
	add(dash, "<p class=\"state warning\" id=\"worker\">&#x26A0; <strong>");
	if (RecoveryInProgress())
		add(dash, "This is a standby.</strong> A worker starts when it is promoted; until then the primary's "
			"does the work.");
	else if (!coord_is_preloaded())
		add(dash, "No worker runs: coord is not preloaded.</strong> What runs out is given back, and events "
			"are delivered, only when somebody calls <code>coord.sweep()</code>. Add coord to "
			"<code>shared_preload_libraries</code> and restart the server.");
	else
		add(dash, "No worker runs in this database.</strong> What runs out is not given back, and events are "
			"not delivered. It starts by itself within seconds of a start or an error; if it does not, the "
			"server's log says why.");
	add(dash, "</p>\n");
}

static void
write_worker(Dashboard *dash)
{
	WorkerSight *worker = store_worker_sight(dash->reader);
	StringInfo	page = &dash->page;

	if (!worker->runs)
	{
		write_worker_trouble(dash);
		return;
	}
	add(dash, "<p class=\"state\" id=\"worker\">&#x25CF; <strong>The worker runs</strong>");
	if (worker->may_be_read)
	{
		add(dash, " since ");
		html_instant(page, worker->started_at);
		add(dash, "; it was late by at most ");
		html_duration(page, worker->sweep_lag_max);
		add(dash, worker->errors == 0 ? ", and met no error" : "");
	}
	add(dash, ".</p>\n");
	if (worker->may_be_read && worker->errors > 0)
	{
		add(dash, "<p class=\"state warning\" id=\"worker-error\">&#x26A0; It has met ");
		html_count(page, worker->errors);
		add(dash, worker->errors == 1 ? " error, at " : " errors, the last at ");
		html_instant(page, worker->last_error_at);
		add(dash, ": ");
		html_value(page, worker->last_error != NULL ? worker->last_error : "", HTML_PROSE);
		add(dash, "</p>\n");
	}
}

/* ---- at a glance ---- */

static void
begin_figure(Dashboard *dash, const char *name)
{
	appendStringInfo(&dash->page, "<div><dt>%s</dt><dd>", name);
}

static void
glance(Dashboard *dash, const char *name, int64 count)
{
	begin_figure(dash, name);
	html_count(&dash->page, count);
	add(dash, "</dd></div>\n");
}

static void
write_glance(Dashboard *dash)
{
	add(dash, "<dl class=\"glance\" id=\"glance\">\n");
	glance(dash, "Pending", dash->total.pending);
	begin_figure(dash, "Oldest pending");
	if (dash->total.oldest_pending_age >= 0)
		html_duration(&dash->page, dash->total.oldest_pending_age);
	else
		add(dash, "&#x2013;");
	add(dash, "</dd></div>\n");
	glance(dash, "Claimed", dash->total.claimed);
	glance(dash, "Scheduled", dash->total.scheduled);
	glance(dash, "Blocked", dash->total.blocked);
	glance(dash, "Dead letters", dash->total.dead);
	begin_figure(dash, "Completed");
	html_count(&dash->page, dash->all_done.completed);
	appendStringInfo(&dash->page, "<small>in the last %s</small></dd></div>\n</dl>\n", period_name(dash));
}

/* ---- throughput ---- */

static TimestampTz
part_begins(const Dashboard *dash, int part)
{
	return dash->now - dash->period * USECS_PER_SEC + part * (dash->period * USECS_PER_SEC / NPARTS);
}

/* The bars of one half of the chart: upwards from its foot, or downwards from its head. */
static void
write_bars(Dashboard *dash, bool dead, int64 peak)
{
	for (int i = 0; i < NPARTS; i++)
	{
		int64		n = dead ? dash->done[i].dead : dash->done[i].completed;
		double		height = (double) n / Max(peak, 1) * (dead ? DEAD_HEIGHT - 4 : COMPLETED_HEIGHT - 2);

		if (n == 0)
			continue;
		height = Max(height, 2);
		appendStringInfo(&dash->page, "<rect class=\"%s\" x=\"%.2f%%\" width=\"1.4%%\" y=\"%.1f\" "
						 "height=\"%.1f\"/>",
						 dead ? "dead" : "claimed", 100.0 * i / NPARTS,
						 dead ? COMPLETED_HEIGHT + 2 : COMPLETED_HEIGHT - height, height);
	}
}

/* A label of the scale: the peak, at the head or foot of its half. */
static void
write_scale(Dashboard *dash, int64 completed, int64 dead)
{
	add(dash, "<div class=\"plot\"><div class=\"scale\" aria-hidden=\"true\"><span><b>");
	html_count(&dash->page, completed);
	add(dash, "</b><b>0</b></span><span><b></b><b>");
	if (dead > 0)
		html_count(&dash->page, dead);
	add(dash, "</b></span></div>\n");
}

/* The chart in words, for who does not see it. */
static void
write_chart(Dashboard *dash, int64 completed_peak, int64 dead_peak)
{
	StringInfo	page = &dash->page;

	write_scale(dash, completed_peak, dead_peak);
	add(dash, "<svg role=\"img\" aria-labelledby=\"chart-title chart-desc\"><title id=\"chart-title\">Tasks "
		"finished in each ");
	appendStringInfo(page, "%s of the last %s</title><desc "
					 "id=\"chart-desc\">Upwards: ", part_name(dash), period_name(dash));
	html_count(page, dash->all_done.completed);
	appendStringInfo(page, " completed, at most ");
	html_count(page, completed_peak);
	appendStringInfo(page, " in one %s. Downwards: ", part_name(dash));
	html_count(page, dash->all_done.dead);
	add(dash, " that became dead letters, at most ");
	html_count(page, dead_peak);
	appendStringInfo(page, " in one. The table below the chart has the figures.</desc><line class=\"grid\" "
					 "x1=\"0\" x2=\"100%%\" y1=\"1\" y2=\"1\"/><line class=\"grid\" x1=\"0\" x2=\"100%%\" "
					 "y1=\"%d\" y2=\"%d\"/>", COMPLETED_HEIGHT / 2, COMPLETED_HEIGHT / 2);
	write_bars(dash, false, completed_peak);
	write_bars(dash, true, dead_peak);
	appendStringInfo(page, "<line class=\"base\" x1=\"0\" x2=\"100%%\" y1=\"%d\" y2=\"%d\"/></svg>\n<div "
					 "class=\"axis\" aria-hidden=\"true\">",
					 COMPLETED_HEIGHT + 1, COMPLETED_HEIGHT + 1);
	for (int i = 0; i <= NPARTS; i += NPARTS / 4)
	{
		add(dash, "<span>");
		html_clock(page, part_begins(dash, i), dash->period < 3600);
		add(dash, "</span>");
	}
	add(dash, "</div></div>\n");
}

static void
write_done_table(Dashboard *dash)
{
	add(dash, "<details><summary>The figures as a table</summary>\n");
	begin_table(dash, "done", "Tasks finished, the latest first");
	add(dash, "<thead><tr><th scope=\"col\">From (UTC)</th><th scope=\"col\" class=\"n\">Completed</th><th "
		"scope=\"col\" class=\"n\">Dead letters</th></tr></thead>\n<tbody>\n");
	for (int i = NPARTS - 1; i >= 0; i--)
	{
		add(dash, "<tr><td class=\"w\">");
		html_instant(&dash->page, part_begins(dash, i));
		add(dash, "</td>");
		cell_count(dash, dash->done[i].completed);
		cell_count(dash, dash->done[i].dead);
		add(dash, "</tr>\n");
	}
	add(dash, "</tbody></table></div></details>\n");
}

static void
write_throughput(Dashboard *dash)
{
	int64		completed_peak = 0;
	int64		dead_peak = 0;

	for (int i = 0; i < NPARTS; i++)
	{
		completed_peak = Max(completed_peak, dash->done[i].completed);
		dead_peak = Max(dead_peak, dash->done[i].dead);
	}
	appendStringInfo(&dash->page, "<section id=\"throughput\"><h2>Throughput of the last %s, by the %s</h2>\n",
					 period_name(dash), part_name(dash));
	if (dash->period < 3600)
	{
		add(dash, "<p class=\"note\">More than ");
		html_count(&dash->page, FINISHED_READ);
		add(dash, " tasks have finished in the last hour, so a shorter time is shown.</p>\n");
	}
	if (completed_peak == 0 && dead_peak == 0)
		appendStringInfo(&dash->page, "<p class=\"note\">No task was completed in the last %s. An agent claims "
						 "one with <code>coord.task_claim</code> and completes it with "
						 "<code>coord.task_complete</code>.</p></section>\n",
						 period_name(dash));
	else
	{
		appendStringInfo(&dash->page, "<figure><figcaption><ul class=\"key\"><li><svg "
						 "aria-hidden=\"true\"><rect class=\"claimed\" width=\"100%%\" "
						 "height=\"100%%\"/></svg>completed (upwards): ");
		html_count(&dash->page, dash->all_done.completed);
		add(dash, "</li><li><svg aria-hidden=\"true\"><rect class=\"dead\" width=\"100%\" "
			"height=\"100%\"/></svg>became dead letters (downwards, on their own scale): ");
		html_count(&dash->page, dash->all_done.dead);
		add(dash, "</li></ul></figcaption>\n");
		write_chart(dash, completed_peak, dead_peak);
		add(dash, "</figure>\n");
		write_done_table(dash);
		add(dash, "</section>\n");
	}
}

/* ---- queues ---- */

static int
by_tasks(const ListCell *a, const ListCell *b)
{
	int64		left = tasks_of(lfirst(a));
	int64		right = tasks_of(lfirst(b));

	return left > right ? -1 : left < right ? 1 : strcmp(((QueueSight *) lfirst(a))->name,
		((QueueSight *) lfirst(b))->name);
}

static int
by_name(const ListCell *a, const ListCell *b)
{
	return strcmp(((QueueSight *) lfirst(a))->name, ((QueueSight *) lfirst(b))->name);
}

/* What a queue's tasks are, as parts of a bar that is as long as it has tasks, the longest being 100 %. */
static void
cell_bar(Dashboard *dash, const QueueSight *queue, int64 longest)
{
	const struct
	{
		const char *state;
		int64		n;
	}			parts[] = {
		{"claimed", queue->claimed}, {"pending", queue->pending}, {"scheduled", queue->scheduled},
		{"blocked", queue->blocked}, {"dead", queue->dead},
	};
	double		x = 0;

	add(dash, "<td><svg class=\"bar\" aria-hidden=\"true\">");
	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		double		width = 100.0 * parts[i].n / Max(longest, 1);

		if (parts[i].n == 0)
			continue;
		appendStringInfo(&dash->page, "<rect class=\"%s\" x=\"%.2f%%\" width=\"%.2f%%\" height=\"100%%\"/>",
						 parts[i].state, x, Max(width, 0.8));
		x += width;
	}
	add(dash, "</svg></td>");
}

static const QueueStat *
stat_of(List *stats, const char *queue)
{
	static const QueueStat none = {.waiting_p50 = -1, .waiting_p95 = -1, .running_p50 = -1, .running_p95 = -1};
	ListCell   *cell;

	foreach(cell, stats)
	{
		const QueueStat *stat = lfirst(cell);

		if (strcmp(stat->queue, queue) == 0)
			return stat;
	}
	return &none;
}

static void
write_queue(Dashboard *dash, const QueueSight *queue, const QueueStat *stat, int64 longest)
{
	add(dash, "<tr><th scope=\"row\" class=\"name\">");
	html_value(&dash->page, queue->name, HTML_NAME);
	if (queue->paused)
		add(dash, " <span class=\"tag\">paused</span>");
	if (queue->counted_ago >= 0)
	{
		add(dash, "<small>as of ");
		html_duration(&dash->page, queue->counted_ago);
		add(dash, " ago</small>");
	}
	add(dash, "</th>");
	cell_bar(dash, queue, longest);
	cell_count(dash, queue->pending);
	cell_durations(dash, queue->oldest_pending_age, -1);
	cell_count(dash, queue->claimed);
	cell_count(dash, queue->scheduled);
	cell_count(dash, queue->blocked);
	cell_count(dash, queue->dead);
	cell_count(dash, stat->completed);
	cell_count(dash, stat->failed_attempts);
	cell_durations(dash, stat->waiting_p50, stat->waiting_p95);
	cell_durations(dash, stat->running_p50, stat->running_p95);
	add(dash, "</tr>\n");
}

static void
write_queue_key(Dashboard *dash)
{
	static const char *const states[] = {"claimed", "pending", "scheduled", "blocked", "dead"};

	add(dash, "<ul class=\"key\" aria-hidden=\"true\">");
	for (int i = 0; i < (int) lengthof(states); i++)
		appendStringInfo(&dash->page, "<li><svg><rect class=\"%s\" width=\"100%%\" "
						 "height=\"100%%\"/></svg>%s</li>", states[i], states[i]);
	add(dash, "</ul>\n");
}

/* Of many queues, those with most tasks. */
static void
write_queues(Dashboard *dash)
{
	List	   *stats = store_queue_stat_list(dash->now - dash->period * USECS_PER_SEC, dash->reader);
	int			nread = list_length(dash->queues);
	int64		longest = 0;
	ListCell   *cell;

	list_sort(dash->queues, by_tasks);
	if (nread > 0)
		longest = tasks_of(linitial(dash->queues));
	dash->queues = list_truncate(dash->queues, QUEUES_SHOWN);
	list_sort(dash->queues, by_name);

	add(dash, "<section><h2>Queues</h2>\n");
	if (longest == 0)
		add(dash, "<p class=\"note\">There are no unfinished tasks. Create one: <code>SELECT "
			"coord.task_create('hello')</code></p>\n");
	else
		write_queue_key(dash);
	begin_table(dash, "queues", "Queues");
	appendStringInfo(&dash->page, "<thead><tr><th scope=\"col\">Queue</th><th scope=\"col\">Tasks</th><th "
					 "scope=\"col\" class=\"n\">Pending</th><th scope=\"col\" "
					 "class=\"n\">Oldest<br/>pending</th><th scope=\"col\" class=\"n\">Claimed</th><th "
					 "scope=\"col\" class=\"n\">Scheduled</th><th scope=\"col\" class=\"n\">Blocked</th><th "
					 "scope=\"col\" class=\"n\">Dead</th><th scope=\"col\" class=\"n\">Completed<br/>last "
					 "%s</th><th scope=\"col\" class=\"n\">Failed<br/>attempts</th><th scope=\"col\" "
					 "class=\"n\">Waited<br/>median / 95 %%</th><th scope=\"col\" class=\"n\">Ran<br/>median / "
					 "95 %%</th></tr></thead>\n<tbody>\n",
					 dash->period == 3600 ? "hour" : dash->period == 600 ? "10 min" : "minute");
	foreach(cell, dash->queues)
	{
		const QueueSight *queue = lfirst(cell);

		write_queue(dash, queue, stat_of(stats, queue->name), longest);
	}
	add(dash, "</tbody></table></div>\n");
	if (dash->more_queues)
		appendStringInfo(&dash->page, "<p class=\"note\" id=\"more-queues\">There are more than %d queues; of "
						 "the first %d, by name, the %d with most tasks are "
						 "shown.</p>\n", QUEUES_READ, QUEUES_READ, QUEUES_SHOWN);
	else if (nread > QUEUES_SHOWN)
		appendStringInfo(&dash->page, "<p class=\"note\" id=\"more-queues\">and %d more, with fewer tasks; "
						 "<code>SELECT * FROM coord.queue</code> has them all.</p>\n", nread - QUEUES_SHOWN);
	add(dash, "</section>\n");
}

/* ---- leases ---- */

static void
write_leases(Dashboard *dash)
{
	List	   *leases = dash->sees_any ?
		store_leases_ending(dash->reader, dash->now + LEASE_ENDS_SOON, LEASES_READ, LEASES_SHOWN + 1) : NIL;
	int			nshown = 0;
	ListCell   *cell;

	add(dash, "<section><h2>Leases about to end</h2>\n");
	if (leases == NIL)
	{
		add(dash, "<p class=\"note\" id=\"no-leases\">No lease ends within a minute, but for those that the "
			"server renews. All of them: <code>SELECT * FROM coord.lease WHERE state = "
			"'active'</code></p></section>\n");
		return;
	}
	begin_table(dash, "leases", "Leases that end within a minute");
	add(dash, "<thead><tr><th scope=\"col\">Resource</th><th scope=\"col\">Held by</th><th scope=\"col\" "
		"class=\"n\">Ends in</th><th scope=\"col\">Ends at (UTC)</th><th "
		"scope=\"col\">Renewal</th></tr></thead>\n<tbody>\n");
	foreach(cell, leases)
	{
		const LeaseSight *lease = lfirst(cell);

		if (nshown++ == LEASES_SHOWN)
			break;
		add(dash, "<tr><th scope=\"row\" class=\"name\">");
		html_value(&dash->page, lease->resource_key, HTML_NAME);
		add(dash, "</th>");
		cell_name(dash, lease->agent);
		cell_durations(dash, Max(lease->expires_at - dash->now, 0), -1);
		cell_instant(dash, lease->expires_at);
		add(dash, lease->auto_renew ? "<td class=\"w\">has ended</td></tr>\n" : "<td class=\"w\">by its "
			"holder</td></tr>\n");
	}
	add(dash, "</tbody></table></div>\n");
	if (list_length(leases) > LEASES_SHOWN)
		add(dash, "<p class=\"note\" id=\"more-leases\">and more.</p>\n");
	add(dash, "</section>\n");
}

/* ---- dead letters ---- */

static void
write_dead_letters(Dashboard *dash)
{
	List	   *letters = store_dead_sights(dash->reader, DEAD_SHOWN);
	ListCell   *cell;

	add(dash, "<section><h2>Dead letters</h2>\n");
	if (letters == NIL)
	{
		add(dash, "<p class=\"note\" id=\"no-dead\">None: no task has used up its attempts.</p></section>\n");
		return;
	}
	begin_table(dash, "dead-letters", "The newest dead letters");
	add(dash, "<thead><tr><th scope=\"col\">Queue</th><th scope=\"col\">Type</th><th scope=\"col\" "
		"class=\"n\">Attempts</th><th scope=\"col\">Error</th><th scope=\"col\">Since (UTC)</th><th "
		"scope=\"col\">Drive it again</th></tr></thead>\n<tbody>\n");
	foreach(cell, letters)
	{
		const DeadSight *letter = lfirst(cell);

		add(dash, "<tr>");
		cell_name(dash, letter->queue);
		cell_name(dash, letter->type);
		cell_count(dash, letter->attempts);
		add(dash, "<td class=\"long\">");
		if (letter->error != NULL)
			html_value(&dash->page, letter->error, HTML_PROSE);
		add(dash, "</td>");
		cell_instant(dash, letter->finished_at);
		appendStringInfo(&dash->page, "<td class=\"long\"><code>SELECT "
						 "coord.task_redrive(&#x27;%s&#x27;);</code></td></tr>\n", letter->id);
	}
	add(dash, "</tbody></table></div>\n");
	if (dash->total.dead > list_length(letters))
	{
		add(dash, "<p class=\"note\" id=\"more-dead\">and ");
		html_count(&dash->page, dash->total.dead - list_length(letters));
		add(dash, " more. All of a queue at once: <code>SELECT coord.task_redrive(queue =&gt; "
			"&#x27;&#x2026;&#x27;);</code></p>\n");
	}
	add(dash, "</section>\n");
}

/* ---- agents ---- */

static void
write_lost_agents(Dashboard *dash)
{
	List	   *agents = store_lost_agents(dash->now, AGENTS_SHOWN);
	ListCell   *cell;

	if (agents == NIL)
	{
		add(dash, "<p class=\"note\" id=\"no-lost\">None was lost lately.</p>\n");
		return;
	}
	begin_table(dash, "lost-agents", "Agents that were lost last, and are not back");
	add(dash, "<thead><tr><th scope=\"col\">Lost agent</th><th scope=\"col\">Type</th><th scope=\"col\">Since "
		"(UTC)</th><th scope=\"col\" class=\"n\">Ago</th></tr></thead>\n<tbody>\n");
	foreach(cell, agents)
	{
		const LostAgentSight *agent = lfirst(cell);

		add(dash, "<tr><th scope=\"row\" class=\"name\">");
		html_value(&dash->page, agent->name, HTML_NAME);
		add(dash, "</th>");
		cell_name(dash, agent->type);
		cell_instant(dash, agent->inactive_since);
		cell_durations(dash, Max(dash->now - agent->inactive_since, 0), -1);
		add(dash, "</tr>\n");
	}
	add(dash, "</tbody></table></div>\n");
}

static void
write_agents(Dashboard *dash)
{
	AgentCounts counts = {0};
	int64		n = dash->sees_any ? store_agent_counts(AGENTS_READ, &counts) : 0;

	add(dash, "<section><h2>Agents</h2>\n");
	if (n == 0)
	{
		add(dash, "<p class=\"note\" id=\"no-agents\">None has registered yet: <code>SELECT id FROM "
			"coord.agent_register('worker 1')</code></p></section>\n");
		return;
	}
	add(dash, "<dl class=\"glance\" id=\"agents\">\n");
	glance(dash, "Active", counts.active);
	glance(dash, "Inactive", counts.inactive);
	glance(dash, "Retired", counts.retired);
	add(dash, "</dl>\n");
	if (n == AGENTS_READ)
	{
		add(dash, "<p class=\"note\" id=\"more-agents\">These are the newest ");
		html_count(&dash->page, AGENTS_READ);
		add(dash, " to register; there may be more.</p>\n");
	}
	write_lost_agents(dash);
	add(dash, "</section>\n");
}
