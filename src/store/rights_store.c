/*
 * rights_store.c
 *		Stored grants: coord.queue_grant and coord.monitor_grant.
 *
 * They are read as catalogs are: as they are now, whatever the transaction's snapshot is,
 * and without a scope, since views need them too.  What was found is remembered until
 * it may have changed: a trigger on queue_grant invalidates what backends know of that
 * relation, as ALTER TABLE would, and so tells all of them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "errors.h"
#include "rights.h"
#include "store/rights_store.h"

enum
{
	GRANT_ROLE = 1, GRANT_QUEUE, GRANT_CAN_CREATE, GRANT_CAN_CLAIM
};

enum
{
	MONITOR_ROLE = 1, MONITOR_PAYLOADS
};

#define KNOWN 16

/* what this backend knows that roles have been granted */
typedef struct KnownGrant
{
	Oid			role;			/* InvalidOid: nothing */
	char	   *queue;			/* NULL: every queue */
	int			rights;
} KnownGrant;

static KnownGrant known[KNOWN + 1];
static Oid	known_of = InvalidOid;	/* the relation */
static uint64 times_forgotten = 0;

PG_FUNCTION_INFO_V1(coord_grants_changed);

static void check_snapshot(const char *name);

/* grants_changed(): a trigger */
Datum
coord_grants_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"grants_changed\" was not called by trigger manager")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	if (IsolationUsesXactSnapshot())
	{
		check_snapshot("queue_grant");
		check_snapshot("monitor_grant");
	}
	return PointerGetDatum(NULL);
}

static void
forget(void)
{
	times_forgotten++;
	for (int i = 0; i <= KNOWN; i++)
		known[i].role = InvalidOid;
}

static void
forget_for_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	if (!OidIsValid(relid) || relid == known_of)
		forget();
}

static void
forget_for_catalog(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(), uint32 hash pg_attribute_unused())
{
	forget();
}

/* Before anything is remembered that a change to a relation makes untrue. */
static void
watch(Oid relid)
{
	if (!OidIsValid(known_of))
	{
		CacheRegisterRelcacheCallback(forget_for_relation, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_for_catalog, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, forget_for_catalog, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_for_catalog, (Datum) 0);
	}
	if (known_of != relid)
		forget();				/* the extension was made anew */
	known_of = relid;
}

static KnownGrant *
known_at(const char *queue)
{
	return queue == NULL ? &known[KNOWN] : &known[hash_bytes((const unsigned char *) queue, (int) strlen(queue)) % KNOWN];
}

/* Whether it is known that store_has_grant() is true. */
bool
store_knows_grant(Oid role, const char *queue, int rights)
{
	KnownGrant *grant = known_at(queue);

	return grant->role == role && (grant->rights & rights) != 0 &&
		(queue == NULL || strcmp(grant->queue, queue) == 0);
}

static void
remember(Oid role, const char *queue, int rights)
{
	KnownGrant *grant = known_at(queue);
	char	   *name = queue == NULL ? NULL : MemoryContextStrdup(TopMemoryContext, queue);

	if (grant->queue != NULL)
		pfree(grant->queue);
	*grant = (KnownGrant) {role, name, rights};
}

static Oid
relation_oid(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("coord", false));
}

/*
 * Whoever changes grants takes away what was granted before: error when something was
 * that the transaction's snapshot does not show.
 */
static void
check_snapshot(const char *name)
{
	Relation	rel = table_open(relation_oid(name), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		if (!TransactionIdIsCurrentTransactionId(xmin) && XidInMVCCSnapshot(xmin, GetTransactionSnapshot()))
			coord_error_serialization();
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Whether a role itself still has the USAGE that came with its grants, and not by others that it is in. */
static bool
has_usage(Oid role)
{
	HeapTuple	schema = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(get_namespace_oid("coord", false)));
	bool		found = false;
	bool		isnull = true;
	Datum		acl = 0;

	if (HeapTupleIsValid(schema))
		acl = SysCacheGetAttr(NAMESPACEOID, schema, Anum_pg_namespace_nspacl, &isnull);
	if (!isnull)
	{
		Acl		   *items = DatumGetAclP(acl);

		for (int i = 0; i < ACL_NUM(items) && !found; i++)
			found = ACL_DAT(items)[i].ai_grantee == role && (ACLITEM_GET_PRIVS(ACL_DAT(items)[i]) & ACL_USAGE) != 0;
		if ((Pointer) items != DatumGetPointer(acl))
			pfree(items);
	}
	if (HeapTupleIsValid(schema))
		ReleaseSysCache(schema);
	return found;
}

/* Whether a role has what another one was granted. */
static bool
inherits(Oid role, Oid grantee)
{
	return has_privs_of_role(role, grantee) && has_usage(grantee);
}

static Datum
column(Relation rel, HeapTuple tuple, int number)
{
	bool		isnull;

	return heap_getattr(tuple, number, RelationGetDescr(rel), &isnull);
}

/* The rights that a row of queue_grant gives to a role. */
static int
rights_of(Relation rel, HeapTuple tuple, Oid role)
{
	int			rights = (DatumGetBool(column(rel, tuple, GRANT_CAN_CREATE)) ? COORD_CREATE : 0) |
		(DatumGetBool(column(rel, tuple, GRANT_CAN_CLAIM)) ? COORD_CLAIM : 0);

	return inherits(role, DatumGetObjectId(column(rel, tuple, GRANT_ROLE))) ? rights : 0;
}

/* The rights that the grants for a queue, NULL is every queue, to one role or any give to a role. */
static int
find_rights(Relation rel, const char *queue, Oid grantee, Oid role)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	int			rights = 0;

	if (queue == NULL)
		ScanKeyEntryInitialize(&keys[0], SK_ISNULL | SK_SEARCHNULL, GRANT_QUEUE, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyEntryInitialize(&keys[0], 0, GRANT_QUEUE, BTEqualStrategyNumber,
							   InvalidOid, C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(queue));
	ScanKeyInit(&keys[1], GRANT_ROLE, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(grantee));

	scan = systable_beginscan(rel, relation_oid("queue_grant_queue_role"), true, NULL,
							  OidIsValid(grantee) ? 2 : 1, keys);
	while (rights != COORD_ANY && HeapTupleIsValid(tuple = systable_getnext(scan)))
		rights |= rights_of(rel, tuple, role);
	systable_endscan(scan);
	return rights;
}

/* Whether a role has one of the rights by a grant for that queue; NULL: by one for every queue. */
bool
store_has_grant(Oid role, const char *queue, int rights)
{
	Relation	rel = table_open(relation_oid("queue_grant"), AccessShareLock);
	uint64		before;
	int			found;

	watch(RelationGetRelid(rel));
	before = times_forgotten;
	found = find_rights(rel, queue, role, role);
	if ((found & rights) == 0)
		found = find_rights(rel, queue, InvalidOid, role);
	if (found != 0 && times_forgotten == before)
		remember(role, queue, found);
	table_close(rel, AccessShareLock);
	return (found & rights) != 0;
}

/* The names of the queues for which there is a grant that gives a role one of the rights. */
List *
store_granted_queues(Oid role, int rights)
{
	Relation	rel = table_open(relation_oid("queue_grant"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, relation_oid("queue_grant_queue_role"), true, NULL, 0, NULL);
	List	   *queues = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		queue = heap_getattr(tuple, GRANT_QUEUE, RelationGetDescr(rel), &isnull);
		char	   *name;

		if (isnull || (rights_of(rel, tuple, role) & rights) == 0)
			continue;
		name = TextDatumGetCString(queue);
		if (queues == NIL || strcmp(llast(queues), name) != 0)
			queues = lappend(queues, name);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return queues;
}

/* Whether a role is a monitor; with "payloads", one that sees those of private events. */
bool
store_is_monitor(Oid role, bool payloads)
{
	Relation	rel = table_open(relation_oid("monitor_grant"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = (!payloads || DatumGetBool(column(rel, tuple, MONITOR_PAYLOADS))) &&
			inherits(role, DatumGetObjectId(column(rel, tuple, MONITOR_ROLE)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

ArrayType *
store_text_array_of(List *texts)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(list_length(texts), 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, texts)
		elements[n++] = CStringGetTextDatum(lfirst(cell));
	return construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
}
