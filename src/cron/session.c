/*
 * session.c
 *		Asking pg_cron, wherever it is: the side of the session that asks.
 *
 * If pg_cron is in another database, a background worker does there what this session
 * cannot.  A transaction has one at most: it is started by the first request, as the role
 * that asks, and its own transaction and subtransactions follow those of the session.  Right
 * before the session commits, the worker has to say that it still can; it then learns from
 * the session's transaction id how that ended, so that a session that dies leaves nothing
 * half done.  What is left is a crash of the whole server in the moment between the two
 * commits, after which the job is not as the session was told.
 *
 * The deadlock detector cannot see that a session waits for its worker.  So the worker waits
 * for no lock for longer than a moment, and the session for the worker no longer than a
 * minute.
 *
 * A transaction that stays open keeps its worker, and all of the cluster share these.  So a
 * role's transactions have no more than a few at once.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database_d.h"
#include "commands/dbcommands.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "clock.h"
#include "compat.h"
#include "cron/protocol.h"
#include "cron/session.h"
#include "errors.h"
#include "locks.h"
#include "rights.h"
#include "sleep.h"

/* for how long locks are waited for, where lock_timeout does not say */
#define LOCK_TIMEOUT_MS 2000

/* which part of all background workers a role may have */
#define ROLES_PART 4
#define PLACE_RETRY (20 * INT64CONST(1000))

/* for how long an answer is waited for, and the end of the worker's transaction after our own */
#define ANSWER_TIMEOUT (60 * USECS_PER_SEC)
#define END_TIMEOUT (10 * USECS_PER_SEC)

/* the worker of this transaction */
static struct
{
	dsm_segment *segment;		/* NULL: there is none */
	CronShared *shared;
	BackgroundWorkerHandle *handle;
	shm_mq_handle *requests;
	shm_mq_handle *answers;
	bool		useful;			/* it has done something */
	bool		busy;			/* it has yet to answer */
	bool		broken;			/* a request was not sent to its end */
	bool		finished;		/* nothing more is to come */
	int64		number;			/* of the last request */
	int			level;			/* of the innermost subtransaction that the worker has, or will have to */
	char	   *ends;			/* of subtransactions that it has yet to be told of */
	int			nends;
	int			ends_size;
} peer;

static void check_right_to_connect(Oid database, const char *name);
static void take_place(int lock_timeout);
static void start(Oid database);
static void close_peer(void);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg);
static int64 ask_peer(const CronRequest *request);
static void send_request(const CronRequest *request, TimestampTz until);
static int64 await_answer(TimestampTz until);
static void finish(void);
static void await_end(void);

/* Have pg_cron do something, in this transaction, as the current user. */
int64
coord_cron_ask(CronRequest *request)
{
	const char *name = coord_cron_database();
	Oid			database = get_database_oid(name, true);

	request->lock_timeout = LockTimeout > 0 ? LockTimeout : LOCK_TIMEOUT_MS;
	if (!OidIsValid(database))
		coord_error_no_pg_cron(psprintf("Its database \"%s\" (cron.database_name) does not exist.", name),
							   "Create the database, and run CREATE EXTENSION pg_cron in it.");
	if (database == MyDatabaseId)
		return coord_cron_perform(request);

	if (peer.segment == NULL)
	{
		check_right_to_connect(database, name);
		take_place(request->lock_timeout);
		start(database);
	}
	else if (peer.shared->role != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a transaction can change the schedules of one role only"),
				 errdetail("pg_cron is in another database, where role \"%s\" has changed some in this transaction.",
						   GetUserNameFromId(peer.shared->role, false))));
	return ask_peer(request);
}

static void
check_right_to_connect(Oid database, const char *name)
{
	char	   *role = GetUserNameFromId(GetUserId(), false);

	if (!coord_may_connect(database, GetUserId()))
		coord_error_pg_cron_right(psprintf("Role \"%s\" has no CONNECT on database \"%s\", where pg_cron keeps its jobs.",
										   role, name),
								  psprintf("Run: GRANT CONNECT ON DATABASE %s TO %s", quote_identifier(name),
										   quote_identifier(role)));
}

/* Wait until the role has one worker less than it may have; for so many milliseconds at most. */
static void
take_place(int lock_timeout)
{
	static TransactionId taken_by = InvalidTransactionId;
	int			nplaces = Max(max_worker_processes / ROLES_PART, 1);
	TimestampTz give_up_at = coord_now() + lock_timeout * INT64CONST(1000);

	/* one whose worker was lost has its place still */
	if (coord_may_everything(GetUserId()) || taken_by == GetTopTransactionId())
		return;
	while (!coord_try_lock_scheduler(GetUserId(), nplaces))
	{
		TimestampTz now = coord_now();

		if (now >= give_up_at)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("open transactions of role \"%s\" have all background workers for pg_cron that a role can have",
							GetUserNameFromId(GetUserId(), false)),
					 errdetail("pg_cron is in another database, and a transaction that has changed schedules keeps one. "
							   "There can be %d, of max_worker_processes.", nplaces),
					 errhint("End such transactions, or try again.")));
		coord_sleep(Min(now + PLACE_RETRY, give_up_at), COORD_WAIT_PG_CRON);
	}
	taken_by = GetTopTransactionId();
}

/* Start the worker. */
static void
start(Oid database)
{
	static bool registered = false;
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_notify_pid = MyProcPid,
	};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		(void) coord_wait_event(COORD_WAIT_PG_CRON);	/* now, since await_end() may raise no error */
		registered = true;
	}
	peer.segment = dsm_create(CRON_SEGMENT_SIZE, 0);
	dsm_pin_mapping(peer.segment);
	peer.level = 1;
	peer.shared = dsm_segment_address(peer.segment);
	*peer.shared = (CronShared)
	{
		.database = database, .role = GetUserId(), .encoding = GetDatabaseEncoding(), .xid = GetTopTransactionId()
	};
	pg_atomic_init_u32(&peer.shared->ended, 0);
	shm_mq_set_sender(shm_mq_create(cron_requests(peer.shared), CRON_QUEUE_SIZE), MyProc);
	shm_mq_set_receiver(shm_mq_create(cron_answers(peer.shared), CRON_QUEUE_SIZE), MyProc);

	strlcpy(worker.bgw_library_name, "coord", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "coord_cron_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "coord pg_cron", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "coord pg_cron for PID %d", MyProcPid);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(peer.segment));
	if (!RegisterDynamicBackgroundWorker(&worker, &peer.handle))
	{
		close_peer();
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is free to reach pg_cron in another database"),
				 errhint("Try again later, or raise max_worker_processes.")));
	}
	peer.requests = shm_mq_attach(cron_requests(peer.shared), peer.segment, peer.handle);
	peer.answers = shm_mq_attach(cron_answers(peer.shared), peer.segment, peer.handle);
	MemoryContextSwitchTo(old);
}

/*
 * Have nothing more to do with the worker, which ends by itself when it is not in the middle
 * of something.  What it has done is undone, unless we have committed.
 */
static void
close_peer(void)
{
	if (peer.handle != NULL && peer.busy)
		TerminateBackgroundWorker(peer.handle);
	if (peer.requests != NULL)
		shm_mq_detach(peer.requests);
	if (peer.answers != NULL)
		shm_mq_detach(peer.answers);
	if (peer.handle != NULL)
		pfree(peer.handle);
	if (peer.ends != NULL)
		pfree(peer.ends);
	if (peer.segment != NULL)
		dsm_detach(peer.segment);
	memset(&peer, 0, sizeof(peer));
}

static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (peer.segment == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			finish();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed schedules of pg_cron in another database")));
			break;
		case XACT_EVENT_COMMIT:
			await_end();
			close_peer();
			break;
		case XACT_EVENT_ABORT:
			close_peer();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
	if ((event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) ||
		peer.segment == NULL || peer.level < GetCurrentTransactionNestLevel())
		return;
	Assert(peer.level == GetCurrentTransactionNestLevel() && peer.nends < peer.ends_size);
	peer.ends[peer.nends++] = event == SUBXACT_EVENT_COMMIT_SUB ? 'C' : 'A';
	peer.level--;
}

static int64
ask_peer(const CronRequest *request)
{
	int64		answer;

	peer.busy = true;
	send_request(request, coord_now() + ANSWER_TIMEOUT);
	answer = await_answer(coord_now() + ANSWER_TIMEOUT);
	Assert(answer != CRON_FAILED);
	peer.useful = true;
	return answer;
}

/* Errors and notices of the worker say where they come from. */
static void
add_context(void *arg pg_attribute_unused())
{
	errcontext("pg_cron in database \"%s\"", coord_cron_database());
}

/* The worker has ended: with that error, if it said one. */
pg_noreturn static void
lost(ErrorData *error)
{
	/* then the next request starts another one, and the transaction may be committed */
	if (!peer.useful)
		close_peer();
	if (error != NULL)
		ThrowErrorData(error);
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the background worker in pg_cron's database has ended"),
			 errhint("See the server's log.")));
}

/* Sleep until there is something new of the worker. */
static void
wait_for_peer(TimestampTz until)
{
	long		timeout = TimestampDifferenceMilliseconds(coord_now(), until);

	if (timeout <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("the background worker in pg_cron's database does not answer")));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
					 coord_wait_event(COORD_WAIT_PG_CRON));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
send_string(StringInfo message, const char *string)
{
	pq_sendbyte(message, string != NULL);
	if (string != NULL)
		appendBinaryStringInfo(message, string, (int) strlen(string) + 1);
}

/* There must be room for the ends of all subtransactions that the worker is going to have. */
static void
reserve_ends(int level)
{
	int			size = Max(level, 64);

	if (level <= peer.ends_size)
		return;
	peer.ends = peer.ends == NULL ? MemoryContextAlloc(TopMemoryContext, size) : repalloc(peer.ends, size);
	peer.ends_size = size;
}

static void
send_request(const CronRequest *request, TimestampTz until)
{
	int			level = GetCurrentTransactionNestLevel();
	StringInfoData message;
	shm_mq_result result;

	if (peer.broken || peer.finished)
		lost(NULL);
	reserve_ends(level);
	initStringInfo(&message);
	pq_sendint64(&message, ++peer.number);
	pq_sendint32(&message, peer.nends);
	appendBinaryStringInfo(&message, peer.ends, peer.nends);
	pq_sendint32(&message, level);
	pq_sendint32(&message, (int) request->action);
	pq_sendint32(&message, request->lock_timeout);
	send_string(&message, request->job);
	send_string(&message, request->schedule);
	send_string(&message, request->command);
	send_string(&message, request->database);

	peer.broken = true;			/* unless it is sent to its end */
	while ((result = shm_mq_send(peer.requests, message.len, message.data, true, true)) == SHM_MQ_WOULD_BLOCK)
		wait_for_peer(until);
	peer.broken = false;
	if (result != SHM_MQ_SUCCESS)
		return;					/* it has ended, and may have said why */
	peer.nends = 0;
	peer.level = level;
	pfree(message.data);
}

/* The next message from the worker, NULL when there is none any more. */
static void *
receive(Size *len, TimestampTz until)
{
	void	   *data;
	shm_mq_result result;

	while ((result = shm_mq_receive(peer.answers, len, &data, true)) == SHM_MQ_WOULD_BLOCK)
		wait_for_peer(until);
	return result == SHM_MQ_SUCCESS ? data : NULL;
}

/* The answer to the last request; an error of the worker's is raised. */
static int64
await_answer(TimestampTz until)
{
	ErrorContextCallback callback;
	ErrorData	error;
	bool		failed = false;

	callback.callback = add_context;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	for (;;)
	{
		StringInfoData message;
		Size		len;
		void	   *data = receive(&len, until);
		int			type;

		if (data == NULL)
			lost(failed ? &error : NULL);
		initStringInfo(&message);
		appendBinaryStringInfo(&message, data, (int) len);
		type = pq_getmsgbyte(&message);
		if (type == 'N')
		{
			ErrorData	notice;

			pq_parse_errornotice(&message, &notice);
			ThrowErrorData(&notice);
		}
		else if (type == 'E')
		{
			pq_parse_errornotice(&message, &error);
			error.elevel = ERROR;
			failed = true;
		}
		else if (type == CRON_ANSWER)
		{
			/* that of a request which was canceled may still be there */
			bool		mine = pq_getmsgint64(&message) == peer.number;
			int64		answer = pq_getmsgint64(&message);

			if (mine)
				peer.busy = false;
			if (mine && failed)
				ThrowErrorData(&error);
			if (mine)
			{
				error_context_stack = callback.previous;
				return answer;
			}
			failed = false;
		}
	}
}

/* Before the commit: the worker can commit, and will not be interrupted before we have. */
static void
finish(void)
{
	CronRequest request = {.action = CRON_FINISH};

	if (!peer.useful)
	{
		close_peer();
		return;
	}
	(void) ask_peer(&request);
	peer.finished = true;
}

/*
 * Let the worker commit, and wait until it has, so that who goes on after the commit finds
 * the job.  Nothing here may fail: this transaction has been committed.
 */
static void
await_end(void)
{
	TimestampTz until = coord_now() + END_TIMEOUT;

	shm_mq_detach(peer.requests);
	peer.requests = NULL;
	while (pg_atomic_read_u32(&peer.shared->ended) == 0)
	{
		pid_t		pid;
		long		timeout = TimestampDifferenceMilliseconds(coord_now(), until);
		bool		stopped = GetBackgroundWorkerPid(peer.handle, &pid) == BGWH_STOPPED;

		/* it may have ended in between */
		if ((stopped && pg_atomic_read_u32(&peer.shared->ended) == 0) || timeout <= 0)
		{
			ereport(WARNING,
					(errmsg("the transaction was committed, but its schedules in pg_cron's database %s",
							stopped ? "were lost" : "are not there yet")));
			break;
		}
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, timeout,
					  coord_wait_event(COORD_WAIT_PG_CRON)) & WL_POSTMASTER_DEATH)
			break;
		ResetLatch(MyLatch);
	}
	SetLatch(MyLatch);			/* it may have been set for something else */
}
