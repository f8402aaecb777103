/*
 * connection.h
 *		The connection to the server.
 */
#ifndef COORD_MCP_CONNECTION_H
#define COORD_MCP_CONNECTION_H

#include <poll.h>

#include "libpq-fe.h"

/* How a query ended. */
typedef struct QueryResult
{
	bool		lost;			/* with the connection: nobody knows what it did */
	const char *sqlstate;		/* NULL: it succeeded */
	const char *message;
	PGresult   *rows;
} QueryResult;

typedef void (*QueryDone) (void *arg, const QueryResult *result);

/* What a failed query was refused with. */
extern bool sqlstate_is_retryable(const char *sqlstate);

/* Told to the rest of the bridge; see coord_mcp.c. */
extern void bridge_query_ended(void);
extern void bridge_connection_lost(void);
extern void bridge_notified(const char *channel);

extern bool connection_init(const char *string);
extern void connection_query(const char *sql, int nparams, const char *const *params, QueryDone done, void *arg);
extern bool connection_is_up(void);
extern bool connection_is_idle(void);
extern const char *connection_trouble(void);
extern void connection_hurry(void);

extern void connection_work(short revents);
extern struct pollfd connection_pollfd(void);
extern int64 connection_due(void);
extern void connection_close(void);

#endif							/* COORD_MCP_CONNECTION_H */
