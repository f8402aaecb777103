/*
 * errors.h
 *		The errors of the contract, each raised in one place.
 *
 * An error's text is for people.  What a program wants of it beyond the SQLSTATE
 * is noted beside it, as facts: whoever turns the error into an answer reads them.
 */
#ifndef COORD_ERRORS_H
#define COORD_ERRORS_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"

typedef struct ErrorFacts
{
	char		argument[NAMEDATALEN];	/* the argument that is bad; may be empty */
	const char *expected;		/* what it should have been; NULL: not said */
	bool		lost;			/* the caller's lease or claim is not his, or no more */
	bool		held;			/* by whom and until when is known */
	pg_uuid_t	holder;
	TimestampTz until;
	int			fault;			/* a code of JSON-RPC that the SQLSTATE does not tell; 0: none */
	const char *requested;		/* the revision of a protocol that is not spoken; NULL: does not apply */
} ErrorFacts;

/* of the last error; cleared by whoever is going to read them */
extern ErrorFacts coord_error_facts;

/* for use among the arguments of ereport() */
extern int	coord_errargument(const char *name);
extern int	coord_errexpected(const char *expected);
extern int	coord_errfault(int code);

/* 40001 */
pg_noreturn extern void coord_error_serialization(void);

/* P0002 */
pg_noreturn extern void coord_error_no_agent(const pg_uuid_t *id);
pg_noreturn extern void coord_error_no_lease(const pg_uuid_t *id);
pg_noreturn extern void coord_error_no_task(const pg_uuid_t *id);
pg_noreturn extern void coord_error_no_queue(const char *name);

/* 55P03 */
pg_noreturn extern void coord_error_task_claimed(const pg_uuid_t *id, const pg_uuid_t *agent_id,
												 TimestampTz until);
pg_noreturn extern void coord_error_task_busy(const pg_uuid_t *id);
pg_noreturn extern void coord_error_resource_held(const char *resource_key, const pg_uuid_t *agent_id,
												  TimestampTz until);
pg_noreturn extern void coord_error_resource_busy(const char *resource_key);
pg_noreturn extern void coord_error_name_busy(const char *what, const char *name);
pg_noreturn extern void coord_error_agent_busy(const char *name);
pg_noreturn extern void coord_error_queue_busy(const char *name);
pg_noreturn extern void coord_error_schedule_busy(const char *name);
pg_noreturn extern void coord_error_queue_full(const char *name, int max_claimed);

/* 55000 */
pg_noreturn extern void coord_error_stale_token(const pg_uuid_t *task_id, int64 token, const char *state);
pg_noreturn extern void coord_error_claim_ran_out(const pg_uuid_t *task_id, TimestampTz since,
												  bool agent_inactive);
pg_noreturn extern void coord_error_lease_ended(const pg_uuid_t *id, const char *how);
pg_noreturn extern void coord_error_stale_resource_token(const char *resource_key, int64 token,
														 const char *detail);
pg_noreturn extern void coord_error_agent_not_active(const char *name, const char *status, TimestampTz since);
pg_noreturn extern void coord_error_not_preloaded(const char *what);
pg_noreturn extern void coord_error_no_pg_cron(const char *detail, const char *hint);
pg_noreturn extern void coord_error_task_state(const pg_uuid_t *id, const char *state, const char *verb);

/* 22023 */
pg_noreturn extern void coord_error_dependency_cycle(const pg_uuid_t *id);

/* 53400 */
pg_noreturn extern void coord_error_limit(const char *what, Oid role, const char *setting, int limit,
										  const char *remedy);
pg_noreturn extern void coord_error_full(const char *what, const char *setting);

/* 42501 */
pg_noreturn extern void coord_error_not_owner(const char *agent_name, Oid owner);
pg_noreturn extern void coord_error_pg_cron_right(const char *detail, const char *hint);
pg_noreturn extern void coord_error_task_right(const pg_uuid_t *id, Oid role);
pg_noreturn extern void coord_error_queue_right(const char *queue, Oid role, const char *verb);

#endif							/* COORD_ERRORS_H */
