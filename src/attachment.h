/*
 * attachment.h
 *		Agents whose life is bound to a connection.
 */
#ifndef COORD_ATTACHMENT_H
#define COORD_ATTACHMENT_H

#include "store/agent_store.h"

typedef struct AttachmentRef
{
	int64		id;
	pg_uuid_t	agent_id;
} AttachmentRef;

extern Size coord_attachments_size(void);
extern void coord_attachments_init(void);
extern TimestampTz coord_attachment_ends_at(const pg_uuid_t *agent_id, int64 id, TimestampTz attached_at);
extern int	coord_attachments_ended(AttachmentRef *ended, int max, int *place_no);
extern int	coord_attachment_place(int64 id);
extern void coord_attachment_settled(int64 id);
extern void coord_attachments_forget(Oid dbid);
extern void coord_attachments_before_prepare(void);
extern void coord_attachments_at_xact_end(bool commit);
extern void coord_attachments_at_subxact_abort(SubTransactionId since);

#endif							/* COORD_ATTACHMENT_H */
