/*
 * page.h
 *		The page that is being written, and who writes which part of it.
 */
#ifndef COORD_DASHBOARD_PAGE_H
#define COORD_DASHBOARD_PAGE_H

#include "dashboard/html.h"
#include "store/dashboard_store.h"

/* so much is read */
#define DASH_QUEUES_READ 500
#define DASH_FINISHED_READ 300000

/* the throughput, in parts of a period */
#define DASH_PARTS 60

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
	DoneSight	done[DASH_PARTS];
	DoneSight	all_done;
} Dashboard;

/* pieces.c: name and caption are constants, and not escaped; a negative duration is none */
extern const char *dash_period_name(const Dashboard *dash);
extern const char *dash_part_name(const Dashboard *dash);
extern void dash_add(Dashboard *dash, const char *text);
extern void dash_begin_table(Dashboard *dash, const char *id, const char *caption);
extern void dash_cell_name(Dashboard *dash, const char *value);
extern void dash_cell_count(Dashboard *dash, int64 count);
extern void dash_cell_durations(Dashboard *dash, int64 first, int64 second);
extern void dash_cell_instant(Dashboard *dash, TimestampTz at);
extern void dash_begin_figure(Dashboard *dash, const char *name);
extern void dash_figure(Dashboard *dash, const char *name, int64 count);

/* each writes its section; dash_write_queues() reorders and cuts the list of queues */
extern void dash_write_head(Dashboard *dash);
extern void dash_write_worker(Dashboard *dash);
extern void dash_write_throughput(Dashboard *dash);
extern void dash_write_queues(Dashboard *dash);
extern void dash_write_leases(Dashboard *dash);
extern void dash_write_dead_letters(Dashboard *dash);
extern void dash_write_agents(Dashboard *dash);

#endif							/* COORD_DASHBOARD_PAGE_H */
