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

/*
 * Whether a number is written as a string of digits in JSON.  JavaScript, and so most
 * clients, rounds integers past 2^53, and a rounded token holds nothing.  Numbers of ours
 * get there on the fourth timeline.
 */
static inline bool
coord_needs_digits(int64 number)
{
	return number >= INT64CONST(1) << 53 || number <= -(INT64CONST(1) << 53);
}

#endif							/* COORD_SEQUENCE_H */
