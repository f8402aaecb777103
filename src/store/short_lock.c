/*
 * short_lock.c
 *		Doing something under a lock that others wait for.
 *
 * Who waits for such a lock must not wait for a client.  One that does not read what it is
 * sent has the server wait as soon as that fills its buffers, in the middle of whatever it
 * does; and it can have the server say much (debug_print_plan).  So while it has the lock
 * a session says nothing, and when there is an error it gives up the lock before it says that.
 * If it is terminated meanwhile, it ends without a word: for who is about to end, locks are
 * given up after that has been said.
 */
#include "postgres.h"

#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/resowner.h"

#include "locks.h"
#include "store/short_lock.h"

/* What there was before. */
typedef struct Before
{
	CommandDest output;			/* where what is said goes to */
	ResourceOwner owner;
} Before;

static void
leave(const LOCKTAG *tag, const Before *before)
{
	whereToSendOutput = before->output;
	CurrentResourceOwner = before->owner;
	coord_unlock(tag);
}

/* Lock, waiting; do it; and unlock. */
void
store_under_lock(const LOCKTAG *tag, StoreAction action, void *arg)
{
	const Before before = {whereToSendOutput, CurrentResourceOwner};
	MemoryContext context = CurrentMemoryContext;

	whereToSendOutput = DestNone;
	PG_TRY();
	{
		coord_lock_shortly(tag);
		action(arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		leave(tag, &before);
		/* it was not to be told to the client when it was raised, and is now */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		error->output_to_client = whereToSendOutput == DestRemote;
		ReThrowError(error);
	}
	PG_END_TRY();
	leave(tag, &before);
}
