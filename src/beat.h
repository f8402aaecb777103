/*
 * beat.h
 *		Heartbeats in shared memory.
 */
#ifndef COORD_BEAT_H
#define COORD_BEAT_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

extern Size coord_beats_size(void);
extern void coord_beats_init(void);

extern bool coord_beat(const pg_uuid_t *agent_id, Oid owner, TimestampTz now, TimestampTz ends_at);
extern void coord_beats_end(const pg_uuid_t *agent_id);
extern void coord_beats_go_on(const pg_uuid_t *agent_id);
extern void coord_beats_at_xact_end(bool commit);
extern void coord_beats_at_subxact_abort(SubTransactionId since);
extern TimestampTz coord_last_beat(const pg_uuid_t *agent_id);
extern TimestampTz coord_beats_since(void);

extern void coord_beat_is_written_aside(void);
extern uint32 coord_beats_written_aside(void);

#endif							/* COORD_BEAT_H */
