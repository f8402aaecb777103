/*
 * head.c
 *		The dashboard's head: whose page it is, who reads it, and whether the worker runs.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "coord.h"
#include "dashboard/page.h"
#include "dashboard/style.h"
#include "worker/shared.h"

void
dash_write_head(Dashboard *dash)
{
	StringInfo	page = &dash->page;
	char	   *database = get_database_name(MyDatabaseId);

	dash_add(dash, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
		"img-src data:; base-uri 'none'; form-action 'none'\"/>\n"
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<link rel=\"icon\" "
		"href=\"data:,\"/>\n<title>coord: ");
	html_value(page, database, HTML_NAME);
	dash_add(dash,
		"</title>\n<style>\n" DASHBOARD_STYLE "</style>\n</head>\n<body>\n" DASHBOARD_PATTERNS "<header>\n<h1>coord: ");
	html_value(page, database, HTML_NAME);
	dash_add(dash, "</h1>\n<p class=\"facts\">");
	html_instant(page, dash->now);
	dash_add(dash, " UTC &#xB7; coord " COORD_VERSION " &#xB7; PostgreSQL ");
	html_value(page, GetConfigOption("server_version", false, false), HTML_NAME);
	dash_add(dash, "</p>\n");
	if (!dash->sees_all)
	{
		dash_add(dash, dash->sees_any ? "<p class=\"state\" id=\"narrow\">Shown are the queues, and the leases, "
			"that role " :
			"<p class=\"state warning\" id=\"narrow\">&#x26A0; Nothing is shown, since nothing was granted to "
			"role ");
		html_value(page, GetUserNameFromId(dash->reader, false), HTML_NAME);
		dash_add(dash, dash->sees_any ? " may see; there may be others.</p>\n" :
			". To let it see all: <code>SELECT coord.grant_monitor(role)</code>.</p>\n");
	}
}

static void
write_worker_trouble(Dashboard *dash)
{
	dash_add(dash, "<p class=\"state warning\" id=\"worker\">&#x26A0; <strong>");
	if (RecoveryInProgress())
		dash_add(dash, "This is a standby.</strong> A worker starts when it is promoted; until then the primary's "
			"does the work.");
	else if (!coord_is_preloaded())
		dash_add(dash, "No worker runs: coord is not preloaded.</strong> What runs out is given back, and events "
			"are delivered, only when somebody calls <code>coord.sweep()</code>. Add coord to "
			"<code>shared_preload_libraries</code> and restart the server.");
	else
		dash_add(dash, "No worker runs in this database.</strong> What runs out is not given back, and events are "
			"not delivered. It starts by itself within seconds of a start or an error; if it does not, the "
			"server's log says why.");
	dash_add(dash, "</p>\n");
}

void
dash_write_worker(Dashboard *dash)
{
	WorkerSight *worker = store_worker_sight(dash->reader);
	StringInfo	page = &dash->page;

	if (!worker->runs)
	{
		write_worker_trouble(dash);
		return;
	}
	dash_add(dash, "<p class=\"state\" id=\"worker\">&#x25CF; <strong>The worker runs</strong>");
	if (worker->may_be_read)
	{
		dash_add(dash, " since ");
		html_instant(page, worker->started_at);
		dash_add(dash, "; it was late by at most ");
		html_duration(page, worker->sweep_lag_max);
		dash_add(dash, worker->errors == 0 ? ", and met no error" : "");
	}
	dash_add(dash, ".</p>\n");
	if (worker->may_be_read && worker->errors > 0)
	{
		dash_add(dash, "<p class=\"state warning\" id=\"worker-error\">&#x26A0; It has met ");
		html_count(page, worker->errors);
		dash_add(dash, worker->errors == 1 ? " error, at " : " errors, the last at ");
		html_instant(page, worker->last_error_at);
		dash_add(dash, ": ");
		html_value(page, worker->last_error != NULL ? worker->last_error : "", HTML_PROSE);
		dash_add(dash, "</p>\n");
	}
}
