/*
 * sequence.c
 *		Numbers that never go back: fencing tokens and event positions.
 *
 * A PostgreSQL sequence survives a crash, but goes back when history forks: on
 * a standby that had not received the last commits, or in a restored database.
 * So a number has the epoch in its high bits:
 *
 *		bits 62..51		the timeline, which every promotion and every
 *						point-in-time recovery raises (4,095 at most)
 *		bits 50..0		a counter, which starts at the microseconds from 2025
 *						to the start of this incarnation, and grows by one
 *
 * An incarnation begins when the server starts, when its shared memory is made
 * anew after the crash of a backend (known if the library is preloaded), or when
 * the extension is created in this database, whichever came last.  As long as fewer than a
 * million numbers are drawn in a second, every number is below the microsecond
 * in which it is drawn, so a later incarnation of the same timeline (a restart
 * from a file system snapshot, a restored dump) starts above all numbers of the
 * former one.  A dump carries the sequence's value, and with it the timeline of
 * the cluster that it came from.  The counter has room until 2096.
 *
 * Nothing is stored for this but the sequences themselves: a number below the
 * floor of the present incarnation shows that the sequence has yet to be raised.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "locks.h"
#include "sequence.h"
#include "store/installation.h"
#include "store/short_lock.h"
#include "store/store.h"
#include "worker/shared.h"

#define COUNTER_BITS 51
#define MAX_TIMELINE 4095

/* microseconds from 2000-01-01, PostgreSQL's epoch, to 2025-01-01 */
#define COUNTER_EPOCH (INT64CONST(9132) * USECS_PER_DAY)

/* The number of an instant, on the present timeline or that of "last" if it is later. */
static int64
make_number(int64 last, TimestampTz instant)
{
	int64		timeline = Max(Min(GetWALInsertionTimeLine(), MAX_TIMELINE), last >> COUNTER_BITS);

	return (timeline << COUNTER_BITS) | Max(instant - COUNTER_EPOCH, 0);
}

static TimestampTz
incarnation_began_at(void)
{
	TimestampTz began_at = coord_later(PgStartTime, store_installed_at());

	return coord_shared != NULL ? Max(began_at, coord_shared->made_at) : began_at;
}

/* The smallest number that may follow "last" in this incarnation. */
static int64
incarnation_floor(int64 last)
{
	return make_number(last, incarnation_began_at());
}

typedef struct Raise
{
	Oid			sequence;
	int64		number;			/* drawn */
} Raise;

/*
 * A StoreAction: raise a sequence, unless somebody just has.  Not only to the floor but to
 * the present instant, which is above all that was drawn: a restore may have set it back after
 * numbers were drawn in this incarnation.  The floor is above that if the clock was set back
 * since, and the sequence may not go back with it.
 */
static void
raise_sequence(void *arg)
{
	Raise	   *raise = arg;

	raise->number = nextval_internal(raise->sequence, false);
	if (raise->number < incarnation_floor(raise->number))
	{
		raise->number = make_number(raise->number, coord_later(coord_now(), incarnation_began_at()));
		DirectFunctionCall2(setval_oid, ObjectIdGetDatum(raise->sequence), Int64GetDatum(raise->number));
	}
}

static int64
next_number(const char *sequence)
{
	Oid			relid = get_relname_relid(sequence, get_namespace_oid("coord", false));
	int64		number = nextval_internal(relid, false);
	Raise		raise = {relid, 0};
	LOCKTAG		tag;

	if (number >= incarnation_floor(number))
		return number;

	coord_sequence_tag(&tag, relid);
	store_under_lock(&tag, raise_sequence, &raise);
	return raise.number;
}

/* Whether numbers that are drawn now are beyond 2^53, which is so from the fourth timeline on. */
bool
coord_numbers_are_long(void)
{
	StoreScope	scope;
	TimeLineID	timeline;
	int64		last;

	store_open(&scope);
	last = store_last_fencing_token();
	store_close(&scope);
	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&timeline);
	else
		timeline = GetWALInsertionTimeLine();
	return Max((int64) timeline, last >> COUNTER_BITS) >= INT64CONST(1) << (53 - COUNTER_BITS);
}

int64
coord_next_fencing_token(void)
{
	return next_number("fencing_token");
}

static void
set_event_position(int64 last)
{
	DirectFunctionCall2(setval_oid,
						ObjectIdGetDatum(get_relname_relid("event_position", get_namespace_oid("coord", false))),
						Int64GetDatum(last));
}

/* The first of n positions that follow each other, for who has the delivery lock. */
int64
coord_next_event_positions(int n)
{
	int64		first = next_number("event_position");

	if (n > 1)
		set_event_position(first + n - 1);
	return first;
}

/* The same, above one that was given before, though the sequence does not know: a dump is being restored. */
int64
coord_event_positions_above(int64 last, int n)
{
	set_event_position(last + n);
	return last + 1;
}
