/*
 * sequence.h
 *		Numbers that never go back: fencing tokens and event positions.
 */
#ifndef COORD_SEQUENCE_H
#define COORD_SEQUENCE_H

extern int64 coord_next_fencing_token(void);
extern int64 coord_next_event_positions(int n);
extern int64 coord_event_positions_above(int64 last, int n);

extern bool coord_numbers_are_long(void);

#endif							/* COORD_SEQUENCE_H */
