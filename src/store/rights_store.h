/*
 * rights_store.h
 *		Stored grants: coord.queue_grant and coord.monitor_grant.
 */
#ifndef COORD_STORE_RIGHTS_STORE_H
#define COORD_STORE_RIGHTS_STORE_H

#include "nodes/pg_list.h"
#include "utils/array.h"

extern bool store_knows_grant(Oid role, const char *queue, int rights);
extern bool store_has_grant(Oid role, const char *queue, int rights);
extern List *store_granted_queues(Oid role, int rights);
extern bool store_is_monitor(Oid role, bool payloads);
extern ArrayType *store_text_array_of(List *texts);

#endif							/* COORD_STORE_RIGHTS_STORE_H */
