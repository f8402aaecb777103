/*
 * trouble.c
 *		What somebody may have to see to: leases about to end, dead letters, lost agents.
 */
#include "postgres.h"

#include "dashboard/page.h"

/* so much is read, and so much of that is shown */
#define AGENTS_READ 10000
#define AGENTS_SHOWN 10
#define LEASES_READ 1000
#define LEASES_SHOWN 20
#define DEAD_SHOWN 20

/* a lease is about to end */
#define LEASE_ENDS_SOON USECS_PER_MINUTE

/* ---- leases ---- */

void
dash_write_leases(Dashboard *dash)
{
	List	   *leases = dash->sees_any ?
		store_leases_ending(dash->reader, dash->now + LEASE_ENDS_SOON, LEASES_READ, LEASES_SHOWN + 1) : NIL;
	int			nshown = 0;
	ListCell   *cell;

	dash_add(dash, "<section><h2>Leases about to end</h2>\n");
	if (leases == NIL)
	{
		dash_add(dash, "<p class=\"note\" id=\"no-leases\">No lease ends within a minute, but for those that the "
			"server renews. All of them: <code>SELECT * FROM coord.lease WHERE state = "
			"'active'</code></p></section>\n");
		return;
	}
	dash_begin_table(dash, "leases", "Leases that end within a minute");
	dash_add(dash, "<thead><tr><th scope=\"col\">Resource</th><th scope=\"col\">Held by</th><th scope=\"col\" "
		"class=\"n\">Ends in</th><th scope=\"col\">Ends at (UTC)</th><th "
		"scope=\"col\">Renewal</th></tr></thead>\n<tbody>\n");
	foreach(cell, leases)
	{
		const LeaseSight *lease = lfirst(cell);

		if (nshown++ == LEASES_SHOWN)
			break;
		dash_add(dash, "<tr><th scope=\"row\" class=\"name\">");
		html_value(&dash->page, lease->resource_key, HTML_NAME);
		dash_add(dash, "</th>");
		dash_cell_name(dash, lease->agent);
		dash_cell_durations(dash, Max(lease->expires_at - dash->now, 0), -1);
		dash_cell_instant(dash, lease->expires_at);
		dash_add(dash, lease->auto_renew ? "<td class=\"w\">has ended</td></tr>\n" : "<td class=\"w\">by its "
			"holder</td></tr>\n");
	}
	dash_add(dash, "</tbody></table></div>\n");
	if (list_length(leases) > LEASES_SHOWN)
		dash_add(dash, "<p class=\"note\" id=\"more-leases\">and more.</p>\n");
	dash_add(dash, "</section>\n");
}

/* ---- dead letters ---- */

void
dash_write_dead_letters(Dashboard *dash)
{
	List	   *letters = store_dead_sights(dash->reader, DEAD_SHOWN);
	ListCell   *cell;

	dash_add(dash, "<section><h2>Dead letters</h2>\n");
	if (letters == NIL)
	{
		dash_add(dash, "<p class=\"note\" id=\"no-dead\">None: no task has used up its attempts.</p></section>\n");
		return;
	}
	dash_begin_table(dash, "dead-letters", "The newest dead letters");
	dash_add(dash, "<thead><tr><th scope=\"col\">Queue</th><th scope=\"col\">Type</th><th scope=\"col\" "
		"class=\"n\">Attempts</th><th scope=\"col\">Error</th><th scope=\"col\">Since (UTC)</th><th "
		"scope=\"col\">Drive it again</th></tr></thead>\n<tbody>\n");
	foreach(cell, letters)
	{
		const DeadSight *letter = lfirst(cell);

		dash_add(dash, "<tr>");
		dash_cell_name(dash, letter->queue);
		dash_cell_name(dash, letter->type);
		dash_cell_count(dash, letter->attempts);
		dash_add(dash, "<td class=\"long\">");
		if (letter->error != NULL)
			html_value(&dash->page, letter->error, HTML_PROSE);
		dash_add(dash, "</td>");
		dash_cell_instant(dash, letter->finished_at);
		appendStringInfo(&dash->page, "<td class=\"long\"><code>SELECT "
						 "coord.task_redrive(&#x27;%s&#x27;);</code></td></tr>\n", letter->id);
	}
	dash_add(dash, "</tbody></table></div>\n");
	if (dash->total.dead > list_length(letters))
	{
		dash_add(dash, "<p class=\"note\" id=\"more-dead\">and ");
		html_count(&dash->page, dash->total.dead - list_length(letters));
		dash_add(dash, " more. All of a queue at once: <code>SELECT coord.task_redrive(queue =&gt; "
			"&#x27;&#x2026;&#x27;);</code></p>\n");
	}
	dash_add(dash, "</section>\n");
}

/* ---- agents ---- */

static void
write_lost_agents(Dashboard *dash)
{
	List	   *agents = store_lost_agents(dash->now, AGENTS_SHOWN);
	ListCell   *cell;

	if (agents == NIL)
	{
		dash_add(dash, "<p class=\"note\" id=\"no-lost\">None was lost lately.</p>\n");
		return;
	}
	dash_begin_table(dash, "lost-agents", "Agents that were lost last, and are not back");
	dash_add(dash, "<thead><tr><th scope=\"col\">Lost agent</th><th scope=\"col\">Type</th><th scope=\"col\">Since "
		"(UTC)</th><th scope=\"col\" class=\"n\">Ago</th></tr></thead>\n<tbody>\n");
	foreach(cell, agents)
	{
		const LostAgentSight *agent = lfirst(cell);

		dash_add(dash, "<tr><th scope=\"row\" class=\"name\">");
		html_value(&dash->page, agent->name, HTML_NAME);
		dash_add(dash, "</th>");
		dash_cell_name(dash, agent->type);
		dash_cell_instant(dash, agent->inactive_since);
		dash_cell_durations(dash, Max(dash->now - agent->inactive_since, 0), -1);
		dash_add(dash, "</tr>\n");
	}
	dash_add(dash, "</tbody></table></div>\n");
}

void
dash_write_agents(Dashboard *dash)
{
	AgentCounts counts = {0};
	int64		n = dash->sees_any ? store_agent_counts(AGENTS_READ, &counts) : 0;

	dash_add(dash, "<section><h2>Agents</h2>\n");
	if (n == 0)
	{
		dash_add(dash, "<p class=\"note\" id=\"no-agents\">None has registered yet: <code>SELECT id FROM "
			"coord.agent_register('worker 1')</code></p></section>\n");
		return;
	}
	dash_add(dash, "<dl class=\"glance\" id=\"agents\">\n");
	dash_figure(dash, "Active", counts.active);
	dash_figure(dash, "Inactive", counts.inactive);
	dash_figure(dash, "Retired", counts.retired);
	dash_add(dash, "</dl>\n");
	if (n == AGENTS_READ)
	{
		dash_add(dash, "<p class=\"note\" id=\"more-agents\">These are the newest ");
		html_count(&dash->page, AGENTS_READ);
		dash_add(dash, " to register; there may be more.</p>\n");
	}
	write_lost_agents(dash);
	dash_add(dash, "</section>\n");
}
