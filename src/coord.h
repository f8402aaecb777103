/*
 * coord.h
 *		The version of the library.
 */
#ifndef COORD_COORD_H
#define COORD_COORD_H

#define COORD_VERSION "1.1"

#endif							/* COORD_COORD_H */
