/*
 * uuid7.c
 *		UUID version 7 (RFC 9562), and lease ids, which tell their slot.
 *
 * The 12 bits after the millisecond hold its fraction (the RFC's method 3), and
 * the instant is never one that this backend has used: so ids made one after
 * the other in a backend also sort in that order, and events of a transaction
 * keep theirs.
 *
 * In a lease's id the low 40 of the 62 random bits are the slot of its row in
 * lease_data, so that a lease is found by id although no index holds the id.
 */
#include "postgres.h"

#include <sys/time.h>

#include "fmgr.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"

#include "uuid7.h"

/* a step of the 12 bits of sub-millisecond fraction, in nanoseconds */
#define FRACTION_STEP_NS ((1000000 / (1 << 12)) + 1)

PG_FUNCTION_INFO_V1(coord_new_id);

/* Nanoseconds since 1970, later than at every former call by a step at least. */
static int64
next_instant_ns(void)
{
	static int64 last_ns = 0;
	struct timeval tv;
	int64		ns;

	gettimeofday(&tv, NULL);
	ns = (int64) tv.tv_sec * INT64CONST(1000000000) + (int64) tv.tv_usec * 1000;
	if (ns < last_ns + FRACTION_STEP_NS)
		ns = last_ns + FRACTION_STEP_NS;
	last_ns = ns;
	return ns;
}

/* Random bytes, which are fetched many at a time since each fetch is dear. */
static void
random_bytes(unsigned char *to, int n)
{
	static unsigned char store[512];
	static int	left = 0;

	if (left < n)
	{
		if (!pg_strong_random(store, sizeof(store)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = sizeof(store);
	}
	left -= n;
	memcpy(to, store + left, n);
}

void
coord_uuid7(pg_uuid_t *id)
{
	int64		ns = next_instant_ns();
	uint64		ms = ns / 1000000;
	uint32		fraction = (uint32) (((ns % 1000000) << 12) / 1000000);
	uint64		high = pg_hton64((ms << 16) | (UINT64CONST(7) << 12) | fraction);

	memcpy(id->data, &high, sizeof(high));
	random_bytes(id->data + 8, 8);
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

/* coord.new_id() */
Datum
coord_new_id(PG_FUNCTION_ARGS pg_attribute_unused())
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	coord_uuid7(id);
	PG_RETURN_UUID_P(id);
}

void
coord_lease_id(pg_uuid_t *id, int64 slot)
{
	if (slot < 0 || slot >= (INT64CONST(1) << COORD_SLOT_BITS))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("coord has used up its lease slots")));

	coord_uuid7(id);
	for (int i = 0; i < COORD_SLOT_BITS / 8; i++)
		id->data[UUID_LEN - 1 - i] = (unsigned char) (slot >> (8 * i));
}

/* The slot that a lease's id tells; false when it cannot be such an id. */
bool
coord_lease_slot(const pg_uuid_t *id, int64 *slot)
{
	if ((id->data[6] & 0xf0) != 0x70 || (id->data[8] & 0xc0) != 0x80)
		return false;

	*slot = 0;
	for (int i = COORD_SLOT_BITS / 8; i > 0; i--)
		*slot = (*slot << 8) | id->data[UUID_LEN - i];
	return true;
}

char *
coord_uuid_str(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}
