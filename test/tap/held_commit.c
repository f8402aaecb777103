/*
 * held_commit.c
 *		Holds a commit where others see it already, and nothing was told of it yet.
 *
 * Preloaded before coord.  As long as there is the file that a session has named in
 * held_commit.file, its commits stop after they have become visible, before other libraries
 * are told of the end of the transaction, and so do its COMMIT PREPAREDs.  A file of that
 * name and ".held" says that one does.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/guc.h"

#define MAX_HOLD_MS (180 * 1000)

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static char *file;
static ProcessUtility_hook_type prev_utility;

static void
hold(void)
{
	char		held[MAXPGPATH];

	if (file[0] == '\0' || access(file, F_OK) != 0)
		return;
	snprintf(held, sizeof(held), "%s.held", file);
	close(open(held, O_CREAT | O_WRONLY, 0600));
	for (int ms = 0; ms < MAX_HOLD_MS && access(file, F_OK) == 0; ms++)
		pg_usleep(1000);
	unlink(held);
}

static void
at_xact_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT)
		hold();
}

/* What is registered last is called first: not while libraries are preloaded, therefore. */
static void
assign_file(const char *new_file pg_attribute_unused(), void *extra pg_attribute_unused())
{
	static bool registered = false;

	if (registered || process_shared_preload_libraries_in_progress)
		return;
	RegisterXactCallback(at_xact_end, NULL);
	registered = true;
}

static void
on_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	bool		commits_prepared = IsA(pstmt->utilityStmt, TransactionStmt) &&
		((TransactionStmt *) pstmt->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED;

	(prev_utility != NULL ? prev_utility : standard_ProcessUtility)
		(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	if (commits_prepared)
		hold();
}

void
_PG_init(void)
{
	DefineCustomStringVariable("held_commit.file", "Commits are held as long as there is that file.", NULL,
							   &file, "", PGC_USERSET, 0, NULL, assign_file, NULL);
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}
