/*
 * prepared.h
 *		Which prepared transactions have to do with coord.
 */
#ifndef COORD_PREPARED_H
#define COORD_PREPARED_H

#include "nodes/parsenodes.h"

extern Size coord_prepared_size(void);
extern void coord_prepared_init(void);

extern void coord_prepared_concerns_us(void);
extern void coord_prepared_as(const char *gid);
extern void coord_prepared_at_xact_end(bool prepared);

extern bool coord_prepared_may_be_ours(const char *gid);
extern void coord_prepared_ended(const char *gid);

#endif							/* COORD_PREPARED_H */
