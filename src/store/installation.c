/*
 * installation.c
 *		When the extension was created in this database, and how far its tokens are.
 *
 * The former is remembered for as long as the table is the same one: DROP EXTENSION and
 * CREATE EXTENSION in a living session make another.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

#include "store/installation.h"
#include "store/store.h"

TimestampTz
store_installed_at(void)
{
	static StorePlan plan = {.sql = "SELECT max(created_at) FROM coord.installation"};
	static Oid	known_relid = InvalidOid;
	static TimestampTz known;
	Oid			relid = get_relname_relid("installation", get_namespace_oid("coord", false));

	if (relid != known_relid)
	{
		store_run(&plan, 0, NULL);
		known = store_time(0, 1, 0);
		known_relid = relid;
	}
	return known;
}

/* The last fencing token that was drawn, here or where a dump came from. */
int64
store_last_fencing_token(void)
{
	static StorePlan plan = {.sql = "SELECT last_value FROM coord.fencing_token"};

	store_run(&plan, 0, NULL);
	return store_int8(0, 1, 0);
}
