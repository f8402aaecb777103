/*
 * new_key.c
 *		Inserting into a unique index without waiting for another transaction.
 *
 * An INSERT whose key another open transaction has inserted waits for that one
 * to end; coord's calls never do.  So the index is asked first, with a snapshot
 * that sees what is in progress.  Between the answer and the insertion nobody
 * else may insert the key: that is what the lock is for, and all that it is for.
 * It is released right after the insertion, from when on others find the new
 * entry in the index.  So it may be waited for, and a transaction that inserts
 * 100,000 keys has no more than two such locks at any time.
 *
 * The same look tells the sweep whether a task is being changed, without a lock
 * that would get in the way of who wants to change it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "locks.h"
#include "store/new_key.h"
#include "store/rows.h"
#include "store/store.h"

static const struct
{
	const char *relation;
	const char *index;
}			key_indexes[] = {
	[STORE_KEY_AGENT_NAME] = {"agent_data", "agent_data_name_key"},
	[STORE_KEY_AGENT_ID] = {"agent_data", "agent_data_pkey"},
	[STORE_KEY_RESOURCE] = {"lease_data", "lease_data_resource_key_key"},
	[STORE_KEY_QUEUE] = {"queue_data", "queue_data_pkey"},
	[STORE_KEY_TASK_ID] = {"task_live", "task_live_pkey"},
	[STORE_KEY_UNIQUE] = {"task_live", "task_live_unique_key"},
};

typedef struct NewKey
{
	StoreKeyKind kind;
	int			nkeys;
	ScanKeyData keys[2];
	StoreAction insert;
	void	   *arg;
	StoreKeyState state;
} NewKey;

/*
 * Whether the index has the key, also from a transaction in progress; in *changed_by
 * the one that is inserting, changing or deleting its row, if there is one.
 */
static StoreKeyState
probe(StoreKeyKind kind, int nkeys, ScanKey keys, TransactionId *changed_by)
{
	Oid			nspid = get_namespace_oid("coord", false);
	Relation	rel = table_open(get_relname_relid(key_indexes[kind].relation, nspid), AccessShareLock);
	Relation	index = index_open(get_relname_relid(key_indexes[kind].index, nspid), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	StoreKeyState state = STORE_KEY_FREE;
	SnapshotData dirty;
	IndexScanDesc scan;

	InitDirtySnapshot(dirty);
	scan = coord_index_beginscan(rel, index, &dirty, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
		state = TransactionIdIsValid(dirty.xmin) ? STORE_KEY_IN_FLIGHT : STORE_KEY_EXISTS;
	*changed_by = state == STORE_KEY_FREE ? InvalidTransactionId :
		state == STORE_KEY_IN_FLIGHT ? dirty.xmin : dirty.xmax;
	index_endscan(scan);

	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return state;
}

/* Whether the transaction's snapshot shows a row of that key. */
static bool
is_visible(NewKey *key)
{
	RowsTable  *table = rows_open(key_indexes[key->kind].relation, RowExclusiveLock);

	return rows_find(table, key_indexes[key->kind].index, key->nkeys, key->keys, NULL, NULL);
}

/* A StoreAction. */
static void
insert_if_free(void *arg)
{
	NewKey	   *key = arg;
	TransactionId changed_by;

	key->state = probe(key->kind, key->nkeys, key->keys, &changed_by);
	if (key->state == STORE_KEY_FREE && IsolationUsesXactSnapshot() && is_visible(key))
		coord_error_serialization();	/* it would be there twice */
	if (key->state == STORE_KEY_FREE)
		key->insert(key->arg);
}

static StoreKeyState
insert_new(NewKey *key, uint32 hash)
{
	LOCKTAG		tag;

	coord_new_key_tag(&tag, key->kind, hash);
	store_under_lock(&tag, insert_if_free, key);

	/* what exists is not visible to an older snapshot, so the caller cannot find it */
	if (key->state == STORE_KEY_EXISTS && IsolationUsesXactSnapshot())
		coord_error_serialization();
	return key->state;
}

/*
 * Ask for a key that the caller has not found, and when it is free insert it.  "name2" is
 * NULL for keys of one name.
 */
StoreKeyState
store_insert_new(StoreKeyKind kind, const char *name, const char *name2, StoreAction insert, void *arg)
{
	NewKey		key = {.kind = kind,.nkeys = name2 == NULL ? 1 : 2,.insert = insert,.arg = arg};
	const char *names[] = {name, name2};
	uint32		hash = 0;

	for (int i = 0; i < (int) lengthof(names) && names[i] != NULL; i++)
	{
		ScanKeyEntryInitialize(&key.keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(names[i]));
		hash = hash_combine(hash, hash_bytes((const unsigned char *) names[i], strlen(names[i])));
	}
	return insert_new(&key, hash);
}

StoreKeyState
store_insert_new_id(StoreKeyKind kind, const pg_uuid_t *id, StoreAction insert, void *arg)
{
	NewKey		key = {.kind = kind,.nkeys = 1,.insert = insert,.arg = arg};

	ScanKeyInit(&key.keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	return insert_new(&key, hash_bytes(id->data, UUID_LEN));
}

/*
 * Whether an unfinished task is there and no other transaction has changed or
 * deleted its row.
 */
bool
store_task_is_still(const pg_uuid_t *id)
{
	ScanKeyData key;
	TransactionId changed_by;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	return probe(STORE_KEY_TASK_ID, 1, &key, &changed_by) == STORE_KEY_EXISTS &&
		!TransactionIdIsValid(changed_by);
}

/* The backend that is inserting or changing the row of a name; 0 when none is. */
pid_t
store_changed_by(StoreKeyKind kind, const char *name)
{
	ScanKeyData key;
	TransactionId changed_by;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(name));
	(void) probe(kind, 1, &key, &changed_by);
	if (!TransactionIdIsValid(changed_by))
		return 0;
	return BackendXidGetPid(SubTransGetTopmostTransaction(changed_by));
}
