/*
 * commands.h
 *		Commands that the workers have to know of.
 */
#ifndef COORD_WORKER_COMMANDS_H
#define COORD_WORKER_COMMANDS_H

extern void coord_commands_init(void);

#endif							/* COORD_WORKER_COMMANDS_H */
