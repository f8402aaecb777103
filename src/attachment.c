/*
 * attachment.c
 *		Agents whose life is bound to a connection.
 *
 * An attached agent has the id of its attachment in its row, and no heartbeat
 * timeout.  The attachment itself is in shared memory: that a connection lives
 * cannot be stored.  A session's exit, whatever the reason, marks its attachments
 * as ended and wakes the worker, which ends the agents and frees what they held.
 * After a crash or a restart no attachment is known any more, and an attachment
 * that is not known has ended.  A standby does not know those of the primary, and
 * takes each for alive.
 *
 * An id is a place in the array (its low bits) and a number that grows, so that
 * an attachment is found at once and a place can be used again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "agent.h"
#include "args.h"
#include "attachment.h"
#include "beat.h"
#include "clock.h"
#include "errors.h"
#include "quota.h"
#include "rights.h"
#include "settings.h"
#include "store/store.h"
#include "uuid7.h"
#include "worker/shared.h"

#define PLACE_BITS 16
#define PLACE_OF(id) ((int) ((id) & ((1 << PLACE_BITS) - 1)))

typedef enum AttachmentState
{
	ATTACHMENT_FREE,			/* what is there may still be asked for */
	ATTACHMENT_LIVE,
	ATTACHMENT_ENDED
} AttachmentState;

typedef struct Attachment
{
	AttachmentState state;
	int64		id;				/* 0: the place was never used */
	Oid			dbid;
	pg_uuid_t	agent_id;
	Oid			role;
	TimestampTz ended_at;
} Attachment;

/* all under coord_shared->attachment_lock */
typedef struct Attachments
{
	int64		last_number;
	int			nplaces;
	Attachment	places[FLEXIBLE_ARRAY_MEMBER];
} Attachments;

/* an attachment of this session */
typedef struct OwnAttachment
{
	int64		id;
	pg_uuid_t	agent_id;
	SubTransactionId subid;		/* in which it was made; invalid: that is committed */
} OwnAttachment;

static Attachments *attachments = NULL;
static List *own = NIL;			/* in TopMemoryContext */
static SubTransactionId attached_in = InvalidSubTransactionId; /* the outermost that has attached an agent */

static int64 attach(const pg_uuid_t *agent_id);
static int64 take_place(const pg_uuid_t *agent_id, Oid role, int share);
static int64 enter(const pg_uuid_t *agent_id, Oid role, int share);
static bool settle_unused(void);
static void end_own(int code, Datum arg);

PG_FUNCTION_INFO_V1(coord_agent_attach);
PG_FUNCTION_INFO_V1(coord_attachment_ended_at);

/* agent_attach(agent_id) */
Datum
coord_agent_attach(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = coord_arg_uuid(fcinfo, 0, "agent_id");
	StoreScope	scope;
	AgentRow   *agent;
	TimestampTz now;
	int64		attachment;

	if (!coord_is_preloaded())
		coord_error_not_preloaded("agent_attach");
	coord_check_session("agent_attach");

	store_open(&scope);
	agent = coord_revived_agent(id, &now);
	attachment = attach(id);
	if (attached_in == InvalidSubTransactionId)
		attached_in = GetCurrentSubTransactionId();
	attached_in = Min(attached_in, GetCurrentSubTransactionId());
	store_agent_attach(agent, attachment, now);
	PG_RETURN_DATUM(store_close_with(&scope, store_agent_result(id)));
}

/* attachment_ended_at(agent_id, attachment, attached_at): NULL while it lives */
Datum
coord_attachment_ended_at(PG_FUNCTION_ARGS)
{
	TimestampTz ended_at = coord_attachment_ends_at(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1),
													PG_GETARG_TIMESTAMPTZ(2));

	if (ended_at == DT_NOEND)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(ended_at);
}

/*
 * When an attachment ended; DT_NOEND while it lives.  One that is not known ended with
 * the server that knew it, as far as this one can tell, but not before "attached_at".
 */
TimestampTz
coord_attachment_ends_at(const pg_uuid_t *agent_id, int64 id, TimestampTz attached_at)
{
	TimestampTz ended_at;

	if (RecoveryInProgress())
		return DT_NOEND;
	ended_at = coord_later(coord_beats_since(), attached_at);
	if (attachments == NULL)
		return ended_at;

	LWLockAcquire(coord_shared->attachment_lock, LW_SHARED);
	if (PLACE_OF(id) < attachments->nplaces)
	{
		Attachment *place = &attachments->places[PLACE_OF(id)];

		if (place->id == id && place->dbid == MyDatabaseId && coord_uuid_equal(&place->agent_id, agent_id))
			ended_at = place->state == ATTACHMENT_LIVE ? DT_NOEND : place->ended_at;
	}
	LWLockRelease(coord_shared->attachment_lock);
	return ended_at;
}

/*
 * The attachments of this database that have ended and are not settled, "max" at most,
 * beginning at a place.  It is moved on: to where to go on, or to 0 at the end.
 */
int
coord_attachments_ended(AttachmentRef *ended, int max, int *place_no)
{
	int			n = 0;

	if (attachments == NULL)
		return 0;
	LWLockAcquire(coord_shared->attachment_lock, LW_SHARED);
	for (; *place_no < attachments->nplaces && n < max; (*place_no)++)
	{
		Attachment *place = &attachments->places[*place_no];

		if (place->state == ATTACHMENT_ENDED && place->dbid == MyDatabaseId)
		{
			ended[n].id = place->id;
			ended[n++].agent_id = place->agent_id;
		}
	}
	if (*place_no >= attachments->nplaces)
		*place_no = 0;
	LWLockRelease(coord_shared->attachment_lock);
	return n;
}

int
coord_attachment_place(int64 id)
{
	return PLACE_OF(id);
}

/*
 * Its agent has ended, or has another attachment now.  The id may be one that was stored under
 * another server, or in another database of this one.
 */
void
coord_attachment_settled(int64 id)
{
	Attachment *place = &attachments->places[PLACE_OF(id)];

	if (PLACE_OF(id) >= attachments->nplaces)
		return;
	LWLockAcquire(coord_shared->attachment_lock, LW_EXCLUSIVE);
	if (place->id == id && place->dbid == MyDatabaseId)
	{
		if (place->state == ATTACHMENT_LIVE)
			place->ended_at = coord_now();
		place->state = ATTACHMENT_FREE;
	}
	LWLockRelease(coord_shared->attachment_lock);
}

/* There is no extension in that database any more. */
void
coord_attachments_forget(Oid dbid)
{
	LWLockAcquire(coord_shared->attachment_lock, LW_EXCLUSIVE);
	for (int i = 0; i < attachments->nplaces; i++)
	{
		if (attachments->places[i].dbid == dbid && attachments->places[i].state == ATTACHMENT_ENDED)
			attachments->places[i].state = ATTACHMENT_FREE;
	}
	LWLockRelease(coord_shared->attachment_lock);
}

/* Before a transaction is prepared: this session may be gone when it is committed. */
void
coord_attachments_before_prepare(void)
{
	if (attached_in != InvalidSubTransactionId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has attached an agent")));
}

/* At the end of a transaction: what it attached is attached, or is not. */
void
coord_attachments_at_xact_end(bool commit)
{
	ListCell   *cell;

	if (!commit)
		coord_attachments_at_subxact_abort(TopSubTransactionId);
	attached_in = InvalidSubTransactionId;
	foreach(cell, own)
		((OwnAttachment *) lfirst(cell))->subid = InvalidSubTransactionId;
}

/* What has been attached since that subtransaction began, which is rolled back, is not. */
void
coord_attachments_at_subxact_abort(SubTransactionId since)
{
	ListCell   *cell;

	if (attached_in >= since)
		attached_in = InvalidSubTransactionId;
	foreach(cell, own)
	{
		OwnAttachment *attachment = lfirst(cell);

		if (attachment->subid == InvalidSubTransactionId || attachment->subid < since)
			continue;
		own = foreach_delete_current(own, cell);
		coord_attachment_settled(attachment->id);
		pfree(attachment);
	}
}

Size
coord_attachments_size(void)
{
	return add_size(offsetof(Attachments, places), mul_size(coord_max_attached_agents, sizeof(Attachment)));
}

void
coord_attachments_init(void)
{
	bool		found;

	attachments = ShmemInitStruct("coord attachments", coord_attachments_size(), &found);
	if (!found)
	{
		memset(attachments, 0, coord_attachments_size());
		attachments->last_number = coord_shared->made_at / 1000;
		attachments->nplaces = coord_max_attached_agents;
	}
}

/*
 * Whether a place is free.  So is one whose session has ended after the extension was dropped
 * from its database: there is nobody to settle it.
 */
static bool
is_free(const Attachment *place)
{
	return place->state == ATTACHMENT_FREE ||
		(place->state == ATTACHMENT_ENDED && coord_find_database(place->dbid) == NULL);
}

/*
 * Find a place that has been free for longest, and take it; 0 when there is none, or when
 * the role has its share of them.
 */
static int64
take_place(const pg_uuid_t *agent_id, Oid role, int share)
{
	int			nown = 0;
	Attachment *oldest = NULL;
	int64		id = 0;

	LWLockAcquire(coord_shared->attachment_lock, LW_EXCLUSIVE);
	for (int i = 0; i < attachments->nplaces; i++)
	{
		Attachment *place = &attachments->places[i];

		if (!is_free(place))
			nown += place->role == role;
		else if (oldest == NULL || place->id >> PLACE_BITS < oldest->id >> PLACE_BITS)
			oldest = place;
	}
	if (oldest != NULL && nown < share)
	{
		id = ++attachments->last_number << PLACE_BITS | (oldest - attachments->places);
		oldest->state = ATTACHMENT_LIVE;
		oldest->id = id;
		oldest->dbid = MyDatabaseId;
		oldest->agent_id = *agent_id;
		oldest->role = role;
	}
	LWLockRelease(coord_shared->attachment_lock);
	return id;
}

/*
 * Give up places of this session whose agents have been retired, or are attached to
 * another session by now; true when there were any.
 */
static bool
settle_unused(void)
{
	ListCell   *cell;
	bool		any = false;

	foreach(cell, own)
	{
		OwnAttachment *attachment = lfirst(cell);
		bool		committed = attachment->subid == InvalidSubTransactionId;
		AgentRow   *agent = committed ? store_agent(&attachment->agent_id, STORE_NO_LOCK) : NULL;

		if (!committed || (agent != NULL && agent->attachment == attachment->id))
			continue;
		coord_attachment_settled(attachment->id);
		own = foreach_delete_current(own, cell);
		pfree(attachment);
		any = true;
	}
	return any;
}

/* Attach an agent to this session, unless it is; returns the attachment's id. */
static int64
attach(const pg_uuid_t *agent_id)
{
	static bool registered = false;
	Oid			role = store_caller();
	int			share = coord_share_of(role, attachments->nplaces);
	int64		id;
	ListCell   *cell;

	foreach(cell, own)
	{
		OwnAttachment *attachment = lfirst(cell);

		if (coord_uuid_equal(&attachment->agent_id, agent_id))
			return attachment->id;
	}

	/* after the abort of the open transaction, so that the worker meets no lock of ours */
	if (!registered)
		on_shmem_exit(end_own, (Datum) 0);
	registered = true;

	id = enter(agent_id, role, share);
	if (id == 0 && settle_unused())
		id = enter(agent_id, role, share);
	if (id == 0)
		coord_error_full("agents are attached", "coord.max_attached_agents");
	return id;
}

/* Take a place, and remember it; 0: there is none.  Between the two no error can come. */
static int64
enter(const pg_uuid_t *agent_id, Oid role, int share)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	OwnAttachment *attachment = palloc0(sizeof(OwnAttachment));
	int64		id;

	attachment->agent_id = *agent_id;
	attachment->subid = GetCurrentSubTransactionId();
	own = lappend(own, attachment);
	MemoryContextSwitchTo(old);

	id = attachment->id = take_place(agent_id, role, share);
	if (id == 0)
	{
		own = list_delete_last(own);
		pfree(attachment);
	}
	return id;
}

/* The session ends, and with it its agents. */
static void
end_own(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);
	ListCell   *cell;

	LWLockAcquire(coord_shared->attachment_lock, LW_EXCLUSIVE);
	foreach(cell, own)
	{
		OwnAttachment *attachment = lfirst(cell);
		Attachment *place = &attachments->places[PLACE_OF(attachment->id)];

		if (place->id == attachment->id)
		{
			place->state = ATTACHMENT_ENDED;
			place->ended_at = coord_now();
		}
	}
	LWLockRelease(coord_shared->attachment_lock);
	if (db != NULL)
		coord_tell_worker(db, JOB_AGENTS, COORD_DUE_NOW);
}
