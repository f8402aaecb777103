/*
 * prepared.c
 *		Which prepared transactions have to do with coord.
 *
 * What a transaction leaves for others to do is told when it is committed, from the memory
 * of its process.  Of one that was prepared nobody knows it any more, so COMMIT PREPARED has
 * everything looked at.  That is not for each role to cause that can prepare a transaction:
 * so it is remembered here of each, by its identifier, whether it left anything to be told.
 * What is not remembered, as it was prepared before the server was started, may have.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "worker/prepared.h"
#include "worker/shared.h"

typedef struct PreparedXact
{
	char		gid[GIDSIZE];	/* empty: free */
	bool		ours;
} PreparedXact;

static PreparedXact *prepared = NULL;	/* max_prepared_xacts, under coord_shared->prepared_lock */
static bool ours = false;		/* whether this transaction leaves something */
static char own_gid[GIDSIZE];	/* under which it is being prepared */

Size
coord_prepared_size(void)
{
	return mul_size(max_prepared_xacts, sizeof(PreparedXact));
}

void
coord_prepared_init(void)
{
	Size		size = coord_prepared_size();
	bool		found;

	prepared = ShmemInitStruct("coord prepared transactions", Max(size, 1), &found);
	if (!found)
		memset(prepared, 0, size);
}

/* This transaction leaves something for others to do, or writes coord's relations by itself. */
void
coord_prepared_concerns_us(void)
{
	ours = true;
}

/* This transaction is to be prepared with that identifier. */
void
coord_prepared_as(const char *gid)
{
	strlcpy(own_gid, gid, GIDSIZE);
}

/* The place of an identifier, or with "" a free one; NULL when there is none.  The lock is held. */
static PreparedXact *
find(const char *gid)
{
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		if (strcmp(prepared[i].gid, gid) == 0)
			return &prepared[i];
	}
	return NULL;
}

/* The transaction has ended, or has been prepared. */
void
coord_prepared_at_xact_end(bool is_prepared)
{
	if (is_prepared && own_gid[0] != '\0')
	{
		PreparedXact *place;

		LWLockAcquire(coord_shared->prepared_lock, LW_EXCLUSIVE);
		place = find(own_gid);
		if (place == NULL)
			place = find("");
		if (place != NULL)
		{
			memcpy(place->gid, own_gid, GIDSIZE);
			place->ours = ours;
		}
		LWLockRelease(coord_shared->prepared_lock);
	}
	ours = false;
	own_gid[0] = '\0';
}

/* Whether the prepared transaction of that identifier leaves something, or may. */
bool
coord_prepared_may_be_ours(const char *gid)
{
	PreparedXact *place;
	bool		result;

	LWLockAcquire(coord_shared->prepared_lock, LW_SHARED);
	place = find(gid);
	result = place == NULL || place->ours;
	LWLockRelease(coord_shared->prepared_lock);
	return result;
}

/* It was committed or rolled back. */
void
coord_prepared_ended(const char *gid)
{
	PreparedXact *place;

	LWLockAcquire(coord_shared->prepared_lock, LW_EXCLUSIVE);
	place = gid[0] != '\0' ? find(gid) : NULL;
	if (place != NULL)
		place->gid[0] = '\0';
	LWLockRelease(coord_shared->prepared_lock);
}
