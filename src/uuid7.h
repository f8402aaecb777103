/*
 * uuid7.h
 *		UUID version 7 (RFC 9562), and lease ids, which tell their slot.
 */
#ifndef COORD_UUID7_H
#define COORD_UUID7_H

#include "utils/uuid.h"

/* a lease id has room for a slot of this many bits */
#define COORD_SLOT_BITS 40

extern void coord_uuid7(pg_uuid_t *id);
extern void coord_lease_id(pg_uuid_t *id, int64 slot);
extern bool coord_lease_slot(const pg_uuid_t *id, int64 *slot);
extern char *coord_uuid_str(const pg_uuid_t *id);

static inline bool
coord_uuid_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

#endif							/* COORD_UUID7_H */
