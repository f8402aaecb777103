/*
 * short_lock.c
 *		Doing something under a lock that others wait for.
 *
 * Who waits for such a lock must not wait for a client.  One that does not read what it is
 * sent has the server wait as soon as that fills its buffers, in the middle of whatever it
 * does; and it can have the server say much (debug_print_plan).  So while it has the lock
 * a session says nothing, and when there is an error it gives up the lock before it says that.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/resowner.h"

#include "locks.h"
#include "store/short_lock.h"

/* What there was before. */
typedef struct Before
{
	int			told;			/* client_min_messages */
	ResourceOwner owner;
} Before;

static void
leave(const LOCKTAG *tag, const Before *before)
{
	client_min_messages = before->told;
	CurrentResourceOwner = before->owner;
	coord_unlock(tag);
}

/* Lock, waiting; do it; and unlock. */
void
store_under_lock(const LOCKTAG *tag, StoreAction action, void *arg)
{
	const Before before = {client_min_messages, CurrentResourceOwner};

	/* not as a setting is set, which takes longer than many an action: it is so until we leave */
	client_min_messages = ERROR;
	PG_TRY();
	{
		coord_lock_shortly(tag);
		action(arg);
	}
	PG_CATCH();
	{
		leave(tag, &before);
		PG_RE_THROW();
	}
	PG_END_TRY();
	leave(tag, &before);
}
