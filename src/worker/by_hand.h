/*
 * by_hand.h
 *		sweep(): upkeep at once, in the worker or in the caller's transaction.
 */
#ifndef COORD_BY_HAND_H
#define COORD_BY_HAND_H

extern void coord_by_hand_init(void);

#endif							/* COORD_BY_HAND_H */
