/*
 * queue_listen.c
 *		Telling who listens to a queue that something is claimable.
 *
 * Each queue that some session listens to has an entry in shared memory, with the
 * earliest instant at which something in it becomes claimable that its listeners
 * have not been told of.  A commit lowers it.  When it has come, the worker raises
 * it, notifies all listeners, and looks up the next one.  So wake-ups are merged:
 * what many commits make claimable while the worker is at it is one notification.
 *
 * Who listens and then claims until there is nothing, then waits for a notification,
 * misses none: what is committed after its last look is notified after that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "args.h"
#include "characters.h"
#include "clock.h"
#include "errors.h"
#include "event_listen.h"
#include "queue_listen.h"
#include "quota.h"
#include "rights.h"
#include "settings.h"
#include "store/task_store.h"
#include "worker/shared.h"

#define NAME_SIZE 516
#define QUEUE_BATCH 64

typedef struct QueueKey
{
	Oid			dbid;
	char		name[NAME_SIZE];	/* padded with zeros */
} QueueKey;

/* a queue that is listened to; in a hash table under coord_shared->listener_lock */
typedef struct ListenedQueue
{
	QueueKey	key;
	Oid			role;			/* whose session was the first */
	int			listeners;		/* sessions */
	pg_atomic_uint64 ready_at;
} ListenedQueue;

/* a queue that this session listens to */
typedef struct OwnQueue
{
	QueueKey	key;
	bool		entered;		/* counted among the queue's listeners */
	SubTransactionId subid;		/* in which its listening began; invalid: that is committed */
	bool		listened;		/* in this transaction, perhaps again */
	bool		leaves;			/* at the commit */
} OwnQueue;

static HTAB *listened = NULL;
static List *own = NIL;			/* in TopMemoryContext */

static char *listen_name(const char *queue);
static OwnQueue *find_own(const QueueKey *key);
static bool enter(const QueueKey *key);
static void have_look(const QueueKey *key);
static void leave(const QueueKey *key);
static void leave_all(int code, Datum arg);

PG_FUNCTION_INFO_V1(coord_queue_listen);
PG_FUNCTION_INFO_V1(coord_queue_unlisten);

static QueueKey
make_key(const char *queue)
{
	QueueKey	key;

	memset(&key, 0, sizeof(key));
	key.dbid = MyDatabaseId;
	strlcpy(key.name, queue, NAME_SIZE);
	return key;
}

static char *
arg_queue(FunctionCallInfo fcinfo)
{
	char	   *queue = coord_arg_name_or_null(fcinfo, 0, "queue");

	return queue != NULL ? queue : "default";
}

/* queue_listen(queue) */
Datum
coord_queue_listen(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	char	   *queue = arg_queue(fcinfo);
	QueueKey	key = make_key(queue);
	char	   *name = listen_name(queue);
	OwnQueue   *mine = find_own(&key);
	MemoryContext old;

	if (!coord_is_preloaded())
		coord_error_not_preloaded("queue_listen");
	PreventCommandDuringRecovery("queue_listen");	/* as LISTEN: nobody is notified there */
	coord_check_session("queue_listen");
	coord_check_queue(GetUserId(), queue, COORD_CLAIM);

	if (!registered)
		on_shmem_exit(leave_all, (Datum) 0);
	registered = true;
	if (mine == NULL)
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		mine = palloc0(sizeof(OwnQueue));
		mine->key = key;
		mine->subid = GetCurrentSubTransactionId();
		own = lappend(own, mine);
		MemoryContextSwitchTo(old);
		mine->entered = enter(&key);
		if (!mine->entered)
		{
			own = list_delete_last(own);
			pfree(mine);
			coord_error_full("queues are listened to", "coord.max_listened_queues");
		}
	}
	mine->listened = true;
	mine->leaves = false;
	Async_Listen(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* queue_unlisten(queue) */
Datum
coord_queue_unlisten(PG_FUNCTION_ARGS)
{
	char	   *queue = arg_queue(fcinfo);
	QueueKey	key = make_key(queue);
	OwnQueue   *mine = find_own(&key);
	char	   *name = listen_name(queue);

	coord_check_unrestricted("queue_unlisten");
	if (mine != NULL)
		mine->leaves = true;
	Async_Unlisten(name);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* The session does not listen to that queue, which is to be taken off the list. */
static void
forget_own(OwnQueue *mine)
{
	if (mine->entered)
		leave(&mine->key);
	pfree(mine);
}

/*
 * At the end of a transaction: what it listened to, or does not listen to any more.  What
 * it began to listen to is looked at even if the session is on the list already: it may
 * have stopped listening without telling, by UNLISTEN or DISCARD.
 */
void
coord_listeners_at_xact_end(bool commit)
{
	ListCell   *cell;

	foreach(cell, own)
	{
		OwnQueue   *mine = lfirst(cell);

		if (commit ? mine->leaves : mine->subid != InvalidSubTransactionId)
		{
			own = foreach_delete_current(own, cell);
			forget_own(mine);
			continue;
		}
		if (commit && mine->listened)
			have_look(&mine->key);	/* LISTEN holds from now on */
		mine->subid = InvalidSubTransactionId;
		mine->listened = false;
		mine->leaves = false;
	}
}

/*
 * What has been listened to since that subtransaction began, which is rolled back, is not.
 * What it did not want to listen to any more, it does again; too much is no harm.
 */
void
coord_listeners_at_subxact_abort(SubTransactionId since)
{
	ListCell   *cell;

	foreach(cell, own)
	{
		OwnQueue   *mine = lfirst(cell);

		mine->leaves = false;
		if (mine->subid == InvalidSubTransactionId || mine->subid < since)
			continue;
		own = foreach_delete_current(own, cell);
		forget_own(mine);
	}
}

/*
 * Something in a queue is claimable from that instant on, which others can see.  True
 * when there is somebody to be told of it, so that the worker has to know.
 */
bool
coord_queue_is_ready_at(const char *queue, TimestampTz instant)
{
	QueueKey	key;
	ListenedQueue *entry;

	if (listened == NULL || hash_get_num_entries(listened) == 0)
		return false;
	key = make_key(queue);
	LWLockAcquire(coord_shared->listener_lock, LW_SHARED);
	entry = hash_search(listened, &key, HASH_FIND, NULL);
	if (entry != NULL)
		coord_lower(&entry->ready_at, instant);
	LWLockRelease(coord_shared->listener_lock);
	return entry != NULL;
}

/* The worker does not know what listeners were told: tell them all to look. */
void
coord_all_queues_ready(void)
{
	HASH_SEQ_STATUS status;
	ListenedQueue *entry;

	LWLockAcquire(coord_shared->listener_lock, LW_SHARED);
	hash_seq_init(&status, listened);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.dbid == MyDatabaseId)
			coord_lower(&entry->ready_at, COORD_DUE_NOW);
	}
	LWLockRelease(coord_shared->listener_lock);
}

/* Queues of this database whose instant has come, QUEUE_BATCH at most; it is raised. */
static int
take_ready(TimestampTz now, QueueKey *queues)
{
	int			n = 0;
	HASH_SEQ_STATUS status;
	ListenedQueue *entry;

	LWLockAcquire(coord_shared->listener_lock, LW_SHARED);
	hash_seq_init(&status, listened);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.dbid != MyDatabaseId || (TimestampTz) pg_atomic_read_u64(&entry->ready_at) > now)
			continue;
		if (n == QUEUE_BATCH)
		{
			hash_seq_term(&status);
			break;
		}
		pg_atomic_write_u64(&entry->ready_at, (uint64) DT_NOEND);
		queues[n++] = entry->key;
	}
	LWLockRelease(coord_shared->listener_lock);
	return n;
}

/*
 * Notify the listeners of queues that have something, at the end of this transaction,
 * and look up when these have something next.  Returns how many queues.
 */
int
coord_notify_ready_queues(TimestampTz now)
{
	QueueKey   *queues = palloc(sizeof(QueueKey) * QUEUE_BATCH);
	int			n = take_ready(now, queues);

	for (int i = 0; i < n; i++)
	{
		char	   *queue = queues[i].name;
		StringInfoData notice;

		initStringInfo(&notice);
		appendStringInfoString(&notice, "{\"queue\": ");
		coord_escape_json_ascii(&notice, queue);
		appendStringInfoChar(&notice, '}');
		Async_Notify(listen_name(queue), notice.data);
		(void) coord_queue_is_ready_at(queue, store_queue_next_ready(queue, now));
	}
	return n;
}

/* The earliest instant at which a listener of this database is to be notified. */
TimestampTz
coord_queues_next_ready(void)
{
	TimestampTz next = DT_NOEND;
	HASH_SEQ_STATUS status;
	ListenedQueue *entry;

	LWLockAcquire(coord_shared->listener_lock, LW_SHARED);
	hash_seq_init(&status, listened);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.dbid == MyDatabaseId)
			next = coord_earlier(next, (TimestampTz) pg_atomic_read_u64(&entry->ready_at));
	}
	LWLockRelease(coord_shared->listener_lock);
	return next;
}

static HASHCTL
hash_control(void)
{
	return (HASHCTL) {.keysize = sizeof(QueueKey), .entrysize = sizeof(ListenedQueue)};
}

Size
coord_listeners_size(void)
{
	return hash_estimate_size(coord_max_listened_queues, sizeof(ListenedQueue));
}

void
coord_listeners_init(void)
{
	HASHCTL		control = hash_control();

	listened = ShmemInitHash("coord listened queues", coord_max_listened_queues, coord_max_listened_queues,
							 &control, HASH_ELEM | HASH_BLOBS);
}

/* The name of the NOTIFY channel of a queue. */
static char *
listen_name(const char *queue)
{
	return coord_notify_name("coord:queue:", "coord:queue-sha256:", queue);
}

static OwnQueue *
find_own(const QueueKey *key)
{
	ListCell   *cell;

	foreach(cell, own)
	{
		OwnQueue   *mine = lfirst(cell);

		if (memcmp(&mine->key, key, sizeof(QueueKey)) == 0)
			return mine;
	}
	return NULL;
}

/* Whether a role has its share of the entries; they are counted when it could. */
static bool
has_its_share(Oid role, int share)
{
	int			n = 0;
	HASH_SEQ_STATUS status;
	ListenedQueue *entry;

	if (hash_get_num_entries(listened) < share)
		return false;
	hash_seq_init(&status, listened);
	while ((entry = hash_seq_search(&status)) != NULL)
		n += entry->role == role;
	return n >= share;
}

/* One more session listens to a queue; false when there is no room, or none for the role. */
static bool
enter(const QueueKey *key)
{
	ListenedQueue *entry;
	bool		found;
	Oid			role = GetUserId();
	int			share = coord_share_of(role, coord_max_listened_queues);

	LWLockAcquire(coord_shared->listener_lock, LW_EXCLUSIVE);
	entry = hash_search(listened, key, HASH_FIND, NULL);
	if (entry == NULL && hash_get_num_entries(listened) < coord_max_listened_queues && !has_its_share(role, share))
	{
		entry = hash_search(listened, key, HASH_ENTER_NULL, &found);
		if (entry != NULL)
		{
			entry->role = role;
			entry->listeners = 0;
			pg_atomic_init_u64(&entry->ready_at, (uint64) DT_NOEND);
		}
	}
	if (entry != NULL)
		entry->listeners++;
	LWLockRelease(coord_shared->listener_lock);
	return entry != NULL;
}

/* Who listens to a queue is to look at it. */
static void
have_look(const QueueKey *key)
{
	CoordDatabase *db = coord_find_database(MyDatabaseId);

	if (coord_queue_is_ready_at(key->name, COORD_DUE_NOW) && db != NULL)
		coord_tell_worker(db, JOB_QUEUES, COORD_DUE_NOW);
}

static void
leave(const QueueKey *key)
{
	ListenedQueue *entry;

	LWLockAcquire(coord_shared->listener_lock, LW_EXCLUSIVE);
	entry = hash_search(listened, key, HASH_FIND, NULL);
	if (entry != NULL && --entry->listeners <= 0)
		hash_search(listened, key, HASH_REMOVE, NULL);
	LWLockRelease(coord_shared->listener_lock);
}

static void
leave_all(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	ListCell   *cell;

	foreach(cell, own)
	{
		OwnQueue   *mine = lfirst(cell);

		if (mine->entered)
			leave(&mine->key);
	}
	own = NIL;
}
