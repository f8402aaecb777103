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
#include "store/store.h"

/* Lock, waiting; do it; and unlock. */
void
store_under_lock(const LOCKTAG *tag, StoreAction action, void *arg)
{
	ResourceOwner owner = CurrentResourceOwner;
	int			guc_level;

	store_pin_settings();		/* of a level around ours */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("client_min_messages", "error", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	PG_TRY();
	{
		coord_lock_shortly(tag);
		action(arg);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
		coord_unlock(tag);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, guc_level);
}
