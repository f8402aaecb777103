/*
 * committing.h
 *		Transactions whose events are visible, or about to be, and are not told of yet.
 */
#ifndef COORD_COMMITTING_H
#define COORD_COMMITTING_H

#include "storage/block.h"

extern Size coord_committing_size(void);
extern void coord_committing_init(void);
extern void coord_commits_events(BlockNumber from);
extern void coord_events_are_told(void);
extern BlockNumber coord_committing_from(void);

#endif							/* COORD_COMMITTING_H */
