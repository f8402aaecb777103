/*
 * restore.c
 *		Sessions that restore a dump, meanwhile the worker rests.
 *
 * A restore commits one relation after the other, in any order, and pg_restore -j in
 * several sessions.  What is there of a database in between means something else than the
 * whole: a batch of claims whose tasks are still to come speaks for nothing, and a
 * blocked task whose dependencies are still to come waits for nothing.  So a session that
 * writes a stored relation by itself, by COPY or INSERT, is entered here before it does,
 * and until it ends: psql restores in one session, and the sessions of pg_restore -j end
 * together.  One that stays, though it has filled nothing for IDLE_LIMIT, does
 * something else by now.
 *
 * Each backend has an entry, which only it writes.  The worker asks before each batch,
 * and undoes a batch during which a session was entered (jobs.c), since it may have seen
 * some of what that has committed, and not the rest.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "clock.h"
#include "worker/prepared.h"
#include "worker/restore.h"
#include "worker/shared.h"
#include "worker/wakeup.h"

#define IDLE_LIMIT (10 * USECS_PER_SEC)

typedef struct RestoringSession
{
	pg_atomic_uint64 dbid;		/* 0: it does not restore */
	pg_atomic_uint64 idle_since;	/* DT_NOEND: it is at a COPY */
} RestoringSession;

typedef struct Restoring
{
	pg_atomic_uint32 nsessions;
	RestoringSession sessions[FLEXIBLE_ARRAY_MEMBER];	/* of each backend */
} Restoring;

static Restoring *restoring = NULL;
static bool entered = false;
static int	commands = 0;		/* to fill a relation, that this session is at, one within the other */

Size
coord_restoring_size(void)
{
	return add_size(offsetof(Restoring, sessions), mul_size(MaxBackends, sizeof(RestoringSession)));
}

void
coord_restoring_init(void)
{
	bool		found;

	restoring = ShmemInitStruct("coord restoring", coord_restoring_size(), &found);
	if (found)
		return;
	pg_atomic_init_u32(&restoring->nsessions, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u64(&restoring->sessions[i].dbid, 0);
		pg_atomic_init_u64(&restoring->sessions[i].idle_since, 0);
	}
}

static RestoringSession *
my_session(void)
{
	return &restoring->sessions[MyProc - ProcGlobal->allProcs];
}

/* Whether it is one of coord's stored relations, and the current role may write it. */
bool
coord_may_fill(Oid relid)
{
	char	   *schema;
	bool		ours;

	if (!OidIsValid(relid))
		return false;
	schema = get_namespace_name(get_rel_namespace(relid));
	ours = schema != NULL && strcmp(schema, "coord") == 0;
	if (schema != NULL)
		pfree(schema);
	return ours && pg_class_aclcheck(relid, GetUserId(), ACL_INSERT) == ACLCHECK_OK;
}

/* It does not restore any more. */
static void
leave(void)
{
	entered = false;
	pg_atomic_write_u64(&my_session()->dbid, 0);
	pg_atomic_fetch_sub_u32(&restoring->nsessions, 1);
}

/* The session ends: all that it wrote is to be looked at. */
static void
at_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	if (!entered)
		return;
	leave();
	coord_all_due();
	coord_tell_now();
}

/* Whether this session restores; one that was idle for too long does not any more, as the worker has seen. */
static bool
restores(TimestampTz now)
{
	if (entered && commands == 0 && (TimestampTz) pg_atomic_read_u64(&my_session()->idle_since) + IDLE_LIMIT <= now)
		leave();
	return entered;
}

/* This session is about to write a stored relation by itself. */
void
coord_restore_begins(void)
{
	static bool registered = false;
	TimestampTz now = coord_now();
	CoordDatabase *db;

	coord_prepared_concerns_us();
	if (restores(now))
		return;
	/* after the abort of the open transaction */
	if (!registered)
		on_shmem_exit(at_exit, (Datum) 0);
	registered = true;

	entered = true;
	commands = 0;
	pg_atomic_write_u64(&my_session()->idle_since, (uint64) now);
	pg_atomic_write_u64(&my_session()->dbid, MyDatabaseId);
	pg_atomic_fetch_add_u32(&restoring->nsessions, 1);
	/* a worker that is only about to start sees the session */
	if ((db = coord_find_database(MyDatabaseId)) != NULL)
		pg_atomic_fetch_add_u32(&db->restores_begun, 1);
}

/* This session begins to fill a relation, of whomever, or is done with it. */
void
coord_restore_at_work(bool begins)
{
	TimestampTz now;

	if (!entered || !restores(now = coord_now()))
		return;
	if (begins)
		commands++;
	else if (commands > 0)
		commands--;
	pg_atomic_write_u64(&my_session()->idle_since, (uint64) (commands > 0 ? DT_NOEND : now));
}

/* What this session has restored is complete. */
void
coord_restore_ends(void)
{
	if (!entered)
		return;
	leave();
	coord_all_due();
}

/*
 * Until when this database is being restored, as far as one can tell now; COORD_DUE_NOW:
 * it is not.
 */
TimestampTz
coord_restored_at(TimestampTz now)
{
	TimestampTz until = COORD_DUE_NOW;

	if (restoring == NULL || pg_atomic_read_u32(&restoring->nsessions) == 0)
		return COORD_DUE_NOW;
	for (int i = 0; i < MaxBackends; i++)
	{
		RestoringSession *session = &restoring->sessions[i];

		if ((Oid) pg_atomic_read_u64(&session->dbid) == MyDatabaseId)
			until = coord_later(until, coord_earlier((TimestampTz) pg_atomic_read_u64(&session->idle_since), now) + IDLE_LIMIT);
	}
	return until > now ? until : COORD_DUE_NOW;
}

/* How many sessions of this database have been entered so far: one that is not among them has written nothing yet. */
uint32
coord_restores_begun(void)
{
	CoordDatabase *db = restoring != NULL ? coord_find_database(MyDatabaseId) : NULL;
	uint32		begun = db != NULL ? pg_atomic_read_u32(&db->restores_begun) : 0;

	pg_memory_barrier();
	return begun;
}
