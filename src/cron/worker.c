/*
 * worker.c
 *		Asking pg_cron in another database: the worker that is there for a session.
 *
 * It has one transaction, whose subtransactions are those of the session in which requests
 * were made, so that what the session rolls back is rolled back here (protocol.h).  When the
 * session has no more to say, its transaction id tells what becomes of ours.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cron/pg_cron.h"
#include "cron/protocol.h"
#include "worker/worker.h"

/* what came of waiting for a request */
typedef enum Served
{
	SERVED,
	SERVED_LAST,				/* nothing interrupts us any more */
	SESSION_GONE
} Served;

static void begin(const CronShared *shared);
static Served serve(shm_mq_handle *requests, MemoryContext context);
static void end_with_session(CronShared *shared);

void
coord_cron_worker_main(Datum arg)
{
	dsm_segment *segment;
	CronShared *shared;
	shm_mq_handle *requests;
	shm_mq_handle *answers;
	MemoryContext context;
	Served		served;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the session has gone on without us */
	shared = dsm_segment_address(segment);
	shm_mq_set_receiver(cron_requests(shared), MyProc);
	shm_mq_set_sender(cron_answers(shared), MyProc);
	requests = shm_mq_attach(cron_requests(shared), segment, NULL);
	answers = shm_mq_attach(cron_answers(shared), segment, NULL);
	pq_redirect_to_shm_mq(segment, answers);	/* from now on the session is told of errors */

	BackgroundWorkerInitializeConnectionByOid(shared->database, shared->role, 0);
	begin(shared);
	context = AllocSetContextCreate(TopMemoryContext, "coord request", ALLOCSET_DEFAULT_SIZES);
	do
		served = serve(requests, context);
	while (served == SERVED);
	if (served == SERVED_LAST)
	{
		Size		len;
		void	   *data;

		/* nothing comes: until the session has ended its transaction, or is not there any more */
		(void) shm_mq_receive(requests, &len, &data, false);
		end_with_session(shared);
	}
	proc_exit(0);				/* which aborts what was not finished */
}

static void
begin(const CronShared *shared)
{
	coord_prepare_session("coord pg_cron");
	/* the session is told of errors, and logs them */
	SetConfigOption("log_min_messages", "fatal", PGC_SUSET, PGC_S_OVERRIDE);
	/* whatever role the database's settings may have set */
	SetUserIdAndSecContext(shared->role, 0);
	StartTransactionCommand();
	/* from which texts are converted, and to which those of errors are */
	SetConfigOption("client_encoding", pg_encoding_to_char(shared->encoding), PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_IDLEINTRANSACTION, NULL);
}

/* Have the subtransactions that the session has. */
static void
follow(StringInfo message)
{
	int			nends = (int) pq_getmsgint(message, 4);
	const char *ends = pq_getmsgbytes(message, nends);
	int			level = (int) pq_getmsgint(message, 4);

	for (int i = 0; i < nends; i++)
	{
		if (ends[i] == 'C')
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	while (GetCurrentTransactionNestLevel() < level)
		BeginInternalSubTransaction(NULL);
}

static char *
read_string(StringInfo message)
{
	char	   *string;

	if (pq_getmsgbyte(message) == 0)
		return NULL;
	string = (char *) pq_getmsgrawstring(message);
	return pg_client_to_server(string, (int) strlen(string));
}

static CronRequest
read_request(StringInfo message)
{
	CronRequest request;

	request.action = (CronAction) pq_getmsgint(message, 4);
	request.lock_timeout = (int) pq_getmsgint(message, 4);
	request.job = read_string(message);
	request.schedule = read_string(message);
	request.command = read_string(message);
	request.database = read_string(message);
	return request;
}

/* Do what is asked for in a subtransaction of its own, so that we go on after an error. */
static int64
attempt(StringInfo message)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int64 answer = CRON_FAILED;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		CronRequest request = read_request(message);

		PushActiveSnapshot(GetTransactionSnapshot());
		answer = coord_cron_perform(&request);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return answer;
}

static void
send_answer(int64 number, int64 answer)
{
	StringInfoData message;

	pq_beginmessage(&message, CRON_ANSWER);
	pq_sendint64(&message, number);
	pq_sendint64(&message, answer);
	pq_endmessage(&message);
}

/*
 * Serve the next request.  By the last one the session has us promise to commit when it does,
 * so nothing is to interrupt us from then on.
 */
static Served
serve(shm_mq_handle *requests, MemoryContext context)
{
	StringInfoData message;
	Size		len;
	void	   *data;
	int64		number;
	bool		finish;

	if (shm_mq_receive(requests, &len, &data, false) != SHM_MQ_SUCCESS)
		return SESSION_GONE;
	pgstat_report_activity(STATE_RUNNING, "coord: a request to pg_cron");
	MemoryContextReset(context);
	MemoryContextSwitchTo(context);
	initStringInfo(&message);
	appendBinaryStringInfo(&message, data, (int) len);
	number = pq_getmsgint64(&message);
	follow(&message);
	MemoryContextSwitchTo(context);
	finish = pq_getmsgint(&message, 4) == CRON_FINISH;
	message.cursor -= 4;
	if (finish)
		HOLD_INTERRUPTS();
	send_answer(number, finish ? 0 : attempt(&message));
	pgstat_report_activity(STATE_IDLEINTRANSACTION, NULL);
	return finish ? SERVED_LAST : SERVED;
}

/* The session's transaction has ended, or will without our doing: ours ends as it did. */
static void
end_with_session(CronShared *shared)
{
	if (TransactionIdIsInProgress(shared->xid))
		XactLockTableWait(shared->xid, NULL, NULL, XLTW_None);
	if (TransactionIdDidCommit(shared->xid))
		CommitTransactionCommand();
	else
		AbortCurrentTransaction();
	pg_atomic_write_u32(&shared->ended, 1);
	SetLatch(&shm_mq_get_receiver(cron_answers(shared))->procLatch);
	RESUME_INTERRUPTS();
}
