/*
 * worker.h
 *		The launcher, and the worker of a database.
 */
#ifndef COORD_WORKER_WORKER_H
#define COORD_WORKER_WORKER_H

extern void coord_launcher_register(void);
extern bool coord_is_worker(void);
extern void coord_prepare_session(const char *name);

extern PGDLLEXPORT void coord_launcher_main(Datum arg);
extern PGDLLEXPORT void coord_worker_main(Datum arg);

#endif							/* COORD_WORKER_WORKER_H */
