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

#include "fmgr.h"
#include "utils/builtins.h"

#include "clock.h"
#include "dashboard/page.h"
#include "rights.h"

PG_FUNCTION_INFO_V1(coord_dashboard);

static void gather(Dashboard *dash);
static void write_glance(Dashboard *dash);

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
	dash_write_head(dash);
	dash_write_worker(dash);
	appendStringInfoString(&dash->page, "</header>\n<main>\n");
	write_glance(dash);
	dash_write_throughput(dash);
	dash_write_queues(dash);
	dash_write_leases(dash);
	dash_write_dead_letters(dash);
	dash_write_agents(dash);
	appendStringInfoString(&dash->page, "</main>\n<footer><p>All times are UTC. Made by <code>SELECT "
						   "coord.dashboard()</code>; load it anew for what is true then.</p></footer>\n"
						   "</body>\n</html>\n");
	store_close(&scope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(dash->page.data, dash->page.len));
}

/* The longest period of which what has finished can be read quickly. */
static int
bearable_period(TimestampTz now)
{
	static const int periods[] = {3600, 600, 60};

	for (int i = 0; i < (int) lengthof(periods) - 1; i++)
	{
		if (!store_finished_more_than(now - periods[i] * USECS_PER_SEC, DASH_FINISHED_READ))
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
	dash->queues = store_queue_sights(dash->reader, DASH_QUEUES_READ, &dash->more_queues);
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
						dash->period * USECS_PER_SEC / DASH_PARTS,
						DASH_PARTS, dash->done);
	for (int i = 0; i < DASH_PARTS; i++)
	{
		dash->all_done.completed += dash->done[i].completed;
		dash->all_done.dead += dash->done[i].dead;
	}
}

static void
write_glance(Dashboard *dash)
{
	dash_add(dash, "<dl class=\"glance\" id=\"glance\">\n");
	dash_figure(dash, "Pending", dash->total.pending);
	dash_begin_figure(dash, "Oldest pending");
	if (dash->total.oldest_pending_age >= 0)
		html_duration(&dash->page, dash->total.oldest_pending_age);
	else
		dash_add(dash, "&#x2013;");
	dash_add(dash, "</dd></div>\n");
	dash_figure(dash, "Claimed", dash->total.claimed);
	dash_figure(dash, "Scheduled", dash->total.scheduled);
	dash_figure(dash, "Blocked", dash->total.blocked);
	dash_figure(dash, "Dead letters", dash->total.dead);
	dash_begin_figure(dash, "Completed");
	html_count(&dash->page, dash->all_done.completed);
	appendStringInfo(&dash->page, "<small>in the last %s</small></dd></div>\n</dl>\n", dash_period_name(dash));
}
