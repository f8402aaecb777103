/*
 * failing_query.c
 *		Lets a query fail, whoever runs it.
 *
 * In a session that has set failing_query.text and failing_query.id, a query whose text has
 * the one in it, and whose first parameter is the other, a uuid, ends in an error.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/uuid.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static char *part_of_text;
static char *id;
static ExecutorStart_hook_type prev_start;

static void
on_start(QueryDesc *query, int flags)
{
	if (part_of_text[0] != '\0' && strstr(query->sourceText, part_of_text) != NULL && query->params != NULL &&
		query->params->numParams > 0 && query->params->params[0].ptype == UUIDOID &&
		strcmp(DatumGetCString(DirectFunctionCall1(uuid_out, query->params->params[0].value)), id) == 0)
		ereport(ERROR, (errmsg("the query is made to fail")));
	(prev_start != NULL ? prev_start : standard_ExecutorStart) (query, flags);
}

void
_PG_init(void)
{
	DefineCustomStringVariable("failing_query.text", "Queries that have it in their text fail.", NULL,
							   &part_of_text, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("failing_query.id", "As far as this is their first parameter.", NULL,
							   &id, "", PGC_USERSET, 0, NULL, NULL, NULL);
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = on_start;
}
