/*
 * beat.c
 *		Heartbeats in shared memory.
 *
 * A heartbeat says that its agent was alive a moment ago, which need not survive the
 * server.  So most are only noted here; every so often one is written to the agent's
 * row (see agent_store.c), and who reads the row takes the later of the two.  Thus a
 * heartbeat costs no flush, and leaves no dead row in a small relation that everybody
 * reads.  A heartbeat that is noted here stays though its transaction is rolled back.
 *
 * What was only noted is lost in a crash, and while there is no server, or only a standby,
 * none can come.  So a timeout does not begin before the server takes heartbeats: whoever
 * was active when it went down has one timeout's grace (coord_beats_since).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "args.h"
#include "beat.h"
#include "clock.h"
#include "quota.h"
#include "settings.h"
#include "uuid7.h"
#include "worker/shared.h"

typedef struct BeatKey
{
	pg_uuid_t	agent_id;
	Oid			dbid;
} BeatKey;

/* in a hash table under coord_shared->beat_lock */
typedef struct Beat
{
	BeatKey		key;
	TimestampTz ends_at;		/* from then on it says nothing */
	pg_atomic_uint64 at;
	Oid			owner;			/* of the agent */
} Beat;

/* how many of them are a role's, in another one */
typedef struct Share
{
	Oid			owner;
	int			n;
} Share;

/* an agent that this transaction has retired */
typedef struct Retired
{
	pg_uuid_t	agent_id;
	SubTransactionId subid;
} Retired;

static HTAB *beats = NULL;
static HTAB *shares = NULL;
static List *retired = NIL;		/* in TopTransactionContext */

PG_FUNCTION_INFO_V1(coord_last_beat_of);
PG_FUNCTION_INFO_V1(coord_beats_since_of);

Size
coord_beats_size(void)
{
	return add_size(hash_estimate_size(coord_max_beating_agents, sizeof(Beat)),
					hash_estimate_size(coord_max_beating_agents, sizeof(Share)));
}

void
coord_beats_init(void)
{
	HASHCTL		ctl = {.keysize = sizeof(BeatKey), .entrysize = sizeof(Beat)};
	HASHCTL		ctl_of_shares = {.keysize = sizeof(Oid), .entrysize = sizeof(Share)};

	beats = ShmemInitHash("coord heartbeats", coord_max_beating_agents, coord_max_beating_agents,
						  &ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	shares = ShmemInitHash("coord heartbeats of roles", coord_max_beating_agents, coord_max_beating_agents,
						   &ctl_of_shares, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static BeatKey
make_key(const pg_uuid_t *agent_id)
{
	BeatKey		key;

	memset(&key, 0, sizeof(key));
	key.agent_id = *agent_id;
	key.dbid = MyDatabaseId;
	return key;
}

static int
share_of(Oid owner)
{
	Share	   *share = hash_search(shares, &owner, HASH_FIND, NULL);

	return share != NULL ? share->n : 0;
}

/* Forget one.  The lock is held exclusively, as for what follows. */
static void
forget(Beat *beat)
{
	Share	   *share = hash_search(shares, &beat->owner, HASH_FIND, NULL);

	if (--share->n == 0)
		hash_search(shares, &beat->owner, HASH_REMOVE, NULL);
	hash_search(beats, &beat->key, HASH_REMOVE, NULL);
}

/* Forget those of agents that have ended, or have been silent for long: when there is no room, but not more than once a second. */
static void
forget_old(TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Beat	   *beat;

	if (now >= coord_shared->beats_looked_through_at &&
		now - coord_shared->beats_looked_through_at < USECS_PER_SEC)
		return;
	coord_shared->beats_looked_through_at = now;
	hash_seq_init(&status, beats);
	while ((beat = hash_seq_search(&status)) != NULL)
	{
		if (beat->ends_at <= now)
			forget(beat);
	}
}

static bool
has_room(Oid owner, int share)
{
	return share_of(owner) < share && hash_get_num_entries(beats) < coord_max_beating_agents;
}

/* The entry of an agent that has none yet; NULL when there is no room, or its owner has its share. */
static Beat *
enter(const BeatKey *key, Oid owner, int share_of_owner, TimestampTz now)
{
	Beat	   *beat;
	Share	   *share;
	bool		found;

	if (!has_room(owner, share_of_owner))
		forget_old(now);
	if (!has_room(owner, share_of_owner))
		return NULL;
	beat = hash_search(beats, key, HASH_ENTER_NULL, &found);
	if (beat == NULL)
		return NULL;
	share = hash_search(shares, &owner, HASH_ENTER_NULL, &found);
	if (share == NULL)
	{
		hash_search(beats, key, HASH_REMOVE, NULL);
		return NULL;
	}
	share->n = found ? share->n + 1 : 1;
	pg_atomic_init_u64(&beat->at, (uint64) now);
	beat->owner = owner;
	return beat;
}

/*
 * Note a heartbeat of an agent that is active until ends_at.  False when it cannot be
 * noted: there is no shared memory, or no room in it.
 */
bool
coord_beat(const pg_uuid_t *agent_id, Oid owner, TimestampTz now, TimestampTz ends_at)
{
	BeatKey		key = make_key(agent_id);
	Beat	   *beat;

	if (beats == NULL)
		return false;
	LWLockAcquire(coord_shared->beat_lock, LW_SHARED);
	beat = hash_search(beats, &key, HASH_FIND, NULL);
	if (beat == NULL || beat->owner != owner)
	{
		int			share;

		LWLockRelease(coord_shared->beat_lock);
		share = coord_share_of(owner, coord_max_beating_agents);
		LWLockAcquire(coord_shared->beat_lock, LW_EXCLUSIVE);
		beat = hash_search(beats, &key, HASH_FIND, NULL);
		if (beat != NULL && beat->owner != owner)
		{
			forget(beat);		/* of one that had the id before, and was deleted */
			beat = NULL;
		}
		if (beat == NULL)
			beat = enter(&key, owner, share, now);
	}
	if (beat != NULL)
	{
		if ((TimestampTz) pg_atomic_read_u64(&beat->at) < now)
			pg_atomic_write_u64(&beat->at, (uint64) now);
		beat->ends_at = ends_at;
	}
	LWLockRelease(coord_shared->beat_lock);
	return beat != NULL;
}

/* This transaction retires an agent, which makes no use of its place any more. */
void
coord_beats_end(const pg_uuid_t *agent_id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Retired    *agent = palloc(sizeof(Retired));

	*agent = (Retired) {*agent_id, GetCurrentSubTransactionId()};
	retired = lappend(retired, agent);
	MemoryContextSwitchTo(old);
}

/* It is active again. */
void
coord_beats_go_on(const pg_uuid_t *agent_id)
{
	ListCell   *cell;

	foreach(cell, retired)
	{
		if (coord_uuid_equal(&((Retired *) lfirst(cell))->agent_id, agent_id))
			retired = foreach_delete_current(retired, cell);
	}
}

/* At the end of a transaction: forget the beats of those that it has retired. */
void
coord_beats_at_xact_end(bool commit)
{
	ListCell   *cell;

	if (commit && retired != NIL && beats != NULL)
	{
		LWLockAcquire(coord_shared->beat_lock, LW_EXCLUSIVE);
		foreach(cell, retired)
		{
			BeatKey		key = make_key(&((Retired *) lfirst(cell))->agent_id);
			Beat	   *beat = hash_search(beats, &key, HASH_FIND, NULL);

			if (beat != NULL)
				forget(beat);
		}
		LWLockRelease(coord_shared->beat_lock);
	}
	retired = NIL;
}

/* What has been retired since that subtransaction began, which is rolled back, is not. */
void
coord_beats_at_subxact_abort(SubTransactionId since)
{
	ListCell   *cell;

	foreach(cell, retired)
	{
		if (((Retired *) lfirst(cell))->subid >= since)
			retired = foreach_delete_current(retired, cell);
	}
}

/* An agent's last heartbeat that was noted here; DT_NOBEGIN when none is. */
TimestampTz
coord_last_beat(const pg_uuid_t *agent_id)
{
	BeatKey		key = make_key(agent_id);
	Beat	   *beat;
	TimestampTz at = DT_NOBEGIN;

	if (beats == NULL)
		return at;
	LWLockAcquire(coord_shared->beat_lock, LW_SHARED);
	beat = hash_search(beats, &key, HASH_FIND, NULL);
	if (beat != NULL)
		at = (TimestampTz) pg_atomic_read_u64(&beat->at);
	LWLockRelease(coord_shared->beat_lock);
	return at;
}

/*
 * Since when the server takes heartbeats: its start, the re-initialisation of its shared
 * memory after a crash, or its promotion.  DT_NOBEGIN on a standby, which takes none and
 * shows agents as far as it knows.  Who asks first sets it, which is the launcher if
 * nobody else.  Without shared memory a promotion is not known.
 */
TimestampTz
coord_beats_since(void)
{
	uint64		since;
	uint64		now;

	if (RecoveryInProgress())
		return DT_NOBEGIN;
	if (coord_shared == NULL)
		return PgStartTime;
	since = pg_atomic_read_u64(&coord_shared->beats_since);
	if (since != 0)
		return (TimestampTz) since;
	now = (uint64) coord_now();
	if (pg_atomic_compare_exchange_u64(&coord_shared->beats_since, &since, now))
		return (TimestampTz) now;
	return (TimestampTz) since;
}

/* A heartbeat is being written to agent_beat. */
void
coord_beat_is_written_aside(void)
{
	if (coord_shared != NULL)
		pg_atomic_fetch_add_u32(&coord_shared->beats_aside, 1);
}

/* Grows with each that is; 0 when nobody counts. */
uint32
coord_beats_written_aside(void)
{
	return coord_shared != NULL ? pg_atomic_read_u32(&coord_shared->beats_aside) : 0;
}

/* coord.last_beat(agent_id): NULL when none is noted */
Datum
coord_last_beat_of(PG_FUNCTION_ARGS)
{
	TimestampTz at = coord_last_beat(PG_GETARG_UUID_P(0));

	if (at == DT_NOBEGIN)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

/* coord.beats_since(): NULL on a standby */
Datum
coord_beats_since_of(PG_FUNCTION_ARGS)
{
	TimestampTz since = coord_beats_since();

	if (since == DT_NOBEGIN)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(since);
}
