/*
 * pg_cron.h
 *		What coord asks of pg_cron.
 */
#ifndef COORD_CRON_PG_CRON_H
#define COORD_CRON_PG_CRON_H

typedef enum CronAction
{
	CRON_SCHEDULE,				/* answers the job's id */
	CRON_UNSCHEDULE,			/* 1, or 0 when there is no such job */
	CRON_KNOWS_SECONDS,			/* 1 or 0 */
	CRON_FINISH					/* only said to a worker: nothing more comes */
} CronAction;

typedef struct CronRequest
{
	CronAction	action;
	int			lock_timeout;	/* ms */
	/* NULL where the action has none */
	char	   *job;
	char	   *schedule;
	char	   *command;
	char	   *database;		/* where the command is to run */
} CronRequest;

extern const char *coord_cron_database(void);
extern int coord_cron_encoding(void);
extern int64 coord_cron_perform(const CronRequest *request);

#endif							/* COORD_CRON_PG_CRON_H */
