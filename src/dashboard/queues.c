/*
 * queues.c
 *		The queues: what their tasks are, and how they fare.
 */
#include "postgres.h"

#include "dashboard/page.h"
#include "store/stats_store.h"

#define QUEUES_SHOWN 50

static int64
tasks_of(const QueueSight *queue)
{
	return queue->pending + queue->scheduled + queue->blocked + queue->claimed + queue->dead;
}

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

	dash_add(dash, "<td><svg class=\"bar\" aria-hidden=\"true\">");
	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		double		width = 100.0 * parts[i].n / Max(longest, 1);

		if (parts[i].n == 0)
			continue;
		appendStringInfo(&dash->page, "<rect class=\"%s\" x=\"%.2f%%\" width=\"%.2f%%\" height=\"100%%\"/>",
						 parts[i].state, x, Max(width, 0.8));
		x += width;
	}
	dash_add(dash, "</svg></td>");
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
	dash_add(dash, "<tr><th scope=\"row\" class=\"name\">");
	html_value(&dash->page, queue->name, HTML_NAME);
	if (queue->paused)
		dash_add(dash, " <span class=\"tag\">paused</span>");
	if (queue->counted_ago >= 0)
	{
		dash_add(dash, "<small>as of ");
		html_duration(&dash->page, queue->counted_ago);
		dash_add(dash, " ago</small>");
	}
	dash_add(dash, "</th>");
	cell_bar(dash, queue, longest);
	dash_cell_count(dash, queue->pending);
	dash_cell_durations(dash, queue->oldest_pending_age, -1);
	dash_cell_count(dash, queue->claimed);
	dash_cell_count(dash, queue->scheduled);
	dash_cell_count(dash, queue->blocked);
	dash_cell_count(dash, queue->dead);
	dash_cell_count(dash, stat->completed);
	dash_cell_count(dash, stat->failed_attempts);
	dash_cell_durations(dash, stat->waiting_p50, stat->waiting_p95);
	dash_cell_durations(dash, stat->running_p50, stat->running_p95);
	dash_add(dash, "</tr>\n");
}

static void
write_queue_key(Dashboard *dash)
{
	static const char *const states[] = {"claimed", "pending", "scheduled", "blocked", "dead"};

	dash_add(dash, "<ul class=\"key\" aria-hidden=\"true\">");
	for (int i = 0; i < (int) lengthof(states); i++)
		appendStringInfo(&dash->page, "<li><svg><rect class=\"%s\" width=\"100%%\" "
						 "height=\"100%%\"/></svg>%s</li>", states[i], states[i]);
	dash_add(dash, "</ul>\n");
}

/* Of many queues, those with most tasks. */
void
dash_write_queues(Dashboard *dash)
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

	dash_add(dash, "<section><h2>Queues</h2>\n");
	if (longest == 0)
		dash_add(dash, "<p class=\"note\">There are no unfinished tasks. Create one: <code>SELECT "
			"coord.task_create('hello')</code></p>\n");
	else
		write_queue_key(dash);
	dash_begin_table(dash, "queues", "Queues");
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
	dash_add(dash, "</tbody></table></div>\n");
	if (dash->more_queues)
		appendStringInfo(&dash->page, "<p class=\"note\" id=\"more-queues\">There are more than %d queues; of "
						 "the first %d, by name, the %d with most tasks are "
						 "shown.</p>\n", DASH_QUEUES_READ, DASH_QUEUES_READ, QUEUES_SHOWN);
	else if (nread > QUEUES_SHOWN)
		appendStringInfo(&dash->page, "<p class=\"note\" id=\"more-queues\">and %d more, with fewer tasks; "
						 "<code>SELECT * FROM coord.queue</code> has them all.</p>\n", nread - QUEUES_SHOWN);
	dash_add(dash, "</section>\n");
}
