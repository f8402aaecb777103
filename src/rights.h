/*
 * rights.h
 *		Who may do what in which queue.
 */
#ifndef COORD_RIGHTS_H
#define COORD_RIGHTS_H

#include "nodes/pg_list.h"
#include "utils/uuid.h"

/* rights to a queue; where several are asked for, one of them is enough */
#define COORD_CREATE 0x01
#define COORD_CLAIM 0x02
#define COORD_ANY (COORD_CREATE | COORD_CLAIM)

extern bool coord_may_everything(Oid role);
extern bool coord_may(Oid role, const char *queue, int rights);
extern List *coord_queues(Oid role, int rights);
extern bool coord_sees_every_queue(Oid role);
extern bool coord_sees_queue(Oid role, const char *queue);

extern void coord_check_queue(Oid role, const char *queue, int right);
extern void coord_check_task(Oid role, const pg_uuid_t *task_id, int right);
extern void coord_check_settings(Oid role, const char *queue);
extern void coord_check_session(const char *function);
extern void coord_check_unrestricted(const char *function);

#endif							/* COORD_RIGHTS_H */
