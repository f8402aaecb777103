/*
 * rows.c
 *		Rows of the stored relations, reached without the executor.
 *
 * Opening and reading; rows_write.c locks and writes.  What is read is copied, so that a
 * row outlives the scan and the page's pin.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "storage/smgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "store/rows.h"

static Oid
relation_oid(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("coord", false));
}

/* ---- opening ---- */

static RowsTable *
add_table(const char *name, Relation rel, LOCKMODE mode)
{
	StoreScope *scope = store_scope();
	RowsTable  *table;

	if (scope->ntables == STORE_MAX_TABLES)
		elog(ERROR, "too many relations are open");
	table = MemoryContextAllocZero(scope->context, sizeof(RowsTable));
	table->name = name;
	table->rel = rel;
	table->mode = mode;
	scope->tables[scope->ntables++] = table;
	return table;
}

static RowsTable *
find_table(const char *name)
{
	StoreScope *scope = store_scope();

	for (int i = 0; i < scope->ntables; i++)
	{
		if (scope->tables[i]->name == name || strcmp(scope->tables[i]->name, name) == 0)
			return scope->tables[i];
	}
	return NULL;
}

/* Open a relation by its name, which DROP and CREATE EXTENSION may be giving to another just now. */
static Relation
open_by_name(const char *relation, LOCKMODE mode)
{
	Oid			relid;
	Relation	rel = NULL;

	while (rel == NULL && OidIsValid(relid = relation_oid(relation)))
		rel = try_table_open(relid, mode);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"coord.%s\" does not exist", relation)));
	return rel;
}

/* Open a stored relation. */
RowsTable *
rows_open(const char *relation, LOCKMODE mode)
{
	RowsTable  *table = find_table(relation);

	if (table == NULL)
		return add_table(relation, open_by_name(relation, mode), mode);
	if (table->mode < mode)
	{
		LockRelationOid(RelationGetRelid(table->rel), mode);
		table->mode = mode;
	}
	return table;
}

/* Open one whose name nobody knows. */
RowsTable *
rows_open_by_oid(Oid relid, LOCKMODE mode)
{
	StoreScope *scope = store_scope();

	for (int i = 0; i < scope->ntables; i++)
	{
		if (RelationGetRelid(scope->tables[i]->rel) == relid)
			return scope->tables[i];
	}
	return add_table("", table_open(relid, mode), mode);
}

/* Open an index of it. */
Relation
rows_index(RowsTable *table, const char *name)
{
	for (int i = 0; i < table->nindexes; i++)
	{
		if (strcmp(table->indexes[i].name, name) == 0)
			return table->indexes[i].rel;
	}
	if (table->nindexes == ROWS_MAX_INDEXES)
		elog(ERROR, "too many indexes are open");
	table->indexes[table->nindexes].name = name;
	table->indexes[table->nindexes].rel = index_open(relation_oid(name), AccessShareLock);
	return table->indexes[table->nindexes++].rel;
}

/* The slot for reading. */
TupleTableSlot *
rows_slot_of(RowsTable *table)
{
	if (table->slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(store_scope()->context);

		table->slot = table_slot_create(table->rel, NULL);
		MemoryContextSwitchTo(old);
	}
	return table->slot;
}

/* Close what a scope has opened. */
void
rows_close_all(StoreScope *scope)
{
	for (int i = scope->ntables - 1; i >= 0; i--)
	{
		RowsTable  *table = scope->tables[i];

		if (table->result_rel != NULL)
		{
			ExecCloseIndices(table->result_rel);
			FreeExecutorState(table->estate);
		}
		if (table->new_row != NULL)
			ExecDropSingleTupleTableSlot(table->new_row);
		if (table->slot != NULL)
			ExecDropSingleTupleTableSlot(table->slot);
		for (int j = 0; j < table->nindexes; j++)
			index_close(table->indexes[j].rel, NoLock);
		table_close(table->rel, NoLock);
	}
	scope->ntables = 0;
}

/* ---- finding ---- */

void
rows_key_uuid(ScanKey key, int column, const pg_uuid_t *id)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

void
rows_key_text(ScanKey key, int column, const char *text)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(text));
}

void
rows_key_int8(ScanKey key, int column, int64 value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
}

void
rows_key_time(ScanKey key, int column, TimestampTz value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ, TimestampTzGetDatum(value));
}

/* Copy what is in a slot. */
void
rows_read_slot(TupleTableSlot *slot, StoredRow *row)
{
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

	Assert(slot->tts_tupleDescriptor->natts <= ROWS_MAX_COLUMNS);
	row->place = slot->tts_tid;
	heap_deform_tuple(tuple, slot->tts_tupleDescriptor, row->values, row->nulls);
	ExecClearTuple(slot);
}

/* The last entries first, if the keys name one row: they are of its latest versions, where old ones cannot be pruned. */
static ScanDirection
direction_for(int nkeys, const ScanKeyData *keys, Snapshot snapshot)
{
	for (int i = 0; i < nkeys; i++)
	{
		if (keys[i].sk_strategy != BTEqualStrategyNumber)
			return ForwardScanDirection;
	}
	/* another snapshot shows a version that is being changed, and the one that takes its place */
	return snapshot->snapshot_type == SNAPSHOT_MVCC ? BackwardScanDirection : ForwardScanDirection;
}

/*
 * The first row that an index finds, or the only one if all keys are to be equal, and that is
 * visible to the snapshot; NULL is the snapshot that a statement would have now.  "row" may
 * be NULL.
 */
bool
rows_find(RowsTable *table, const char *index, int nkeys, ScanKey keys, Snapshot snapshot, StoredRow *row)
{
	TupleTableSlot *slot = rows_slot_of(table);
	IndexScanDesc scan;
	bool		found;

	if (snapshot == NULL)
		snapshot = GetTransactionSnapshot();
	if (snapshot->snapshot_type == SNAPSHOT_MVCC)
		snapshot = RegisterSnapshot(snapshot);
	scan = coord_index_beginscan(table->rel, rows_index(table, index), snapshot, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	found = index_getnext_slot(scan, direction_for(nkeys, keys, snapshot), slot);
	if (found && row != NULL)
		rows_read_slot(slot, row);
	else
		ExecClearTuple(slot);
	index_endscan(scan);
	if (snapshot->snapshot_type == SNAPSHOT_MVCC)
		UnregisterSnapshot(snapshot);
	return found;
}

/* The row that an index finds, as another transaction has written it that is open; false when there is none. */
bool
rows_find_in_progress(RowsTable *table, const char *index, int nkeys, ScanKey keys, StoredRow *row)
{
	TupleTableSlot *slot = rows_slot_of(table);
	SnapshotData dirty;
	IndexScanDesc scan;
	bool		found = false;

	InitDirtySnapshot(dirty);
	scan = coord_index_beginscan(table->rel, rows_index(table, index), &dirty, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	while (!found && index_getnext_slot(scan, ForwardScanDirection, slot))
		found = TransactionIdIsValid(dirty.xmin);
	if (found)
		rows_read_slot(slot, row);
	else
		ExecClearTuple(slot);
	index_endscan(scan);
	return found;
}

/*
 * Walk along the rows that are visible to the snapshot: those that an index finds, in its
 * order, or, if it is NULL, all.  No other reading of the relation until rows_end().
 */
void
rows_begin(RowsWalk *walk, RowsTable *table, const char *index, int nkeys, ScanKey keys, Snapshot snapshot)
{
	walk->table = table;
	walk->snapshot = RegisterSnapshot(snapshot);
	walk->scan = NULL;
	walk->index_scan = NULL;
	if (index == NULL)
	{
		walk->scan = table_beginscan(table->rel, walk->snapshot, 0, NULL);
		return;
	}
	walk->index_scan = coord_index_beginscan(table->rel, rows_index(table, index), walk->snapshot, nkeys);
	index_rescan(walk->index_scan, keys, nkeys, NULL, 0);
}

/* The next row; false when there is none. */
bool
rows_next(RowsWalk *walk, StoredRow *row)
{
	TupleTableSlot *slot = rows_slot_of(walk->table);
	bool		found = walk->scan != NULL ? table_scan_getnextslot(walk->scan, ForwardScanDirection, slot) :
		index_getnext_slot(walk->index_scan, ForwardScanDirection, slot);

	if (found)
		rows_read_slot(slot, row);
	return found;
}

void
rows_end(RowsWalk *walk)
{
	if (walk->scan != NULL)
		table_endscan(walk->scan);
	else
		index_endscan(walk->index_scan);
	ExecClearTuple(rows_slot_of(walk->table));
	UnregisterSnapshot(walk->snapshot);
}

bool
rows_exist(const char *relation, const char *index, int nkeys, ScanKey keys, Snapshot snapshot)
{
	return rows_find(rows_open(relation, AccessShareLock), index, nkeys, keys, snapshot, NULL);
}

/* Whether there is nothing in a relation, not even what vacuum has yet to remove. */
bool
rows_is_empty(const char *relation)
{
	return RelationGetNumberOfBlocks(rows_open(relation, AccessShareLock)->rel) == 0;
}

/*
 * Whether a relation, which is locked, has that block still: vacuum may have shortened
 * it since a place was remembered.  The size that smgr remembers is a lower bound:
 * vacuum shortens a relation under an exclusive lock and invalidates what smgr knows of
 * it before it lets go, and our lock has processed that.  Asking the kernel at every
 * call would be dear.
 */
static bool
block_exists(Relation rel, BlockNumber block)
{
	BlockNumber known = RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (known != InvalidBlockNumber && block < known) || block < RelationGetNumberOfBlocks(rel);
}

/* Where this backend has seen or written rows last, by a hash of their ids. */
#define REMEMBERED 256

static struct
{
	Oid			relid;
	pg_uuid_t	id;
	ItemPointerData place;
}			remembered[REMEMBERED];

static int
remembered_at(RowsTable *table, const pg_uuid_t *id)
{
	return (hash_bytes(id->data, UUID_LEN) ^ RelationGetRelid(table->rel)) % REMEMBERED;
}

/* Remember where the row of an id is. */
void
rows_remember(RowsTable *table, const pg_uuid_t *id, const ItemPointerData *place)
{
	int			i = remembered_at(table, id);

	remembered[i].relid = RelationGetRelid(table->rel);
	remembered[i].id = *id;
	remembered[i].place = *place;
}

/*
 * The row that has the id in that column, which is unique, if it is where it was
 * remembered to be and visible to a statement.  Else an index has to be asked; a
 * session mostly comes back to its own few rows, and need not.
 */
bool
rows_find_remembered(RowsTable *table, int column, const pg_uuid_t *id, StoredRow *row)
{
	int			i = remembered_at(table, id);
	TupleTableSlot *slot;
	Snapshot	snapshot;
	bool		found;

	if (remembered[i].relid != RelationGetRelid(table->rel) ||
		memcmp(&remembered[i].id, id, sizeof(pg_uuid_t)) != 0 ||
		!block_exists(table->rel, ItemPointerGetBlockNumber(&remembered[i].place)))
		return false;
	slot = rows_slot_of(table);
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	found = table_tuple_fetch_row_version(table->rel, &remembered[i].place, snapshot, slot);
	UnregisterSnapshot(snapshot);
	if (!found)
		return false;
	rows_read_slot(slot, row);
	return memcmp(rows_uuid(row, column), id, sizeof(pg_uuid_t)) == 0;
}

/*
 * The row at a place, if there is one there now, whatever the snapshot is: also one
 * that the transaction itself has written.  STORE_ROW_BUSY when another transaction
 * is writing it, STORE_ROW_CHANGED when there is none (any more).
 */
StoreRowState
rows_fetch_live(RowsTable *table, const ItemPointerData *place, StoredRow *row)
{
	TupleTableSlot *slot = rows_slot_of(table);
	ItemPointerData tid = *place;
	SnapshotData dirty;
	StoreRowState state;

	InitDirtySnapshot(dirty);
	if (!block_exists(table->rel, ItemPointerGetBlockNumber(place)) ||
		!table_tuple_fetch_row_version(table->rel, &tid, &dirty, slot) || TransactionIdIsValid(dirty.xmin))
	{
		ExecClearTuple(slot);
		return STORE_ROW_CHANGED;
	}
	state = TransactionIdIsValid(dirty.xmax) ? STORE_ROW_BUSY : STORE_ROW_LOCKED;
	if (IsolationUsesXactSnapshot() &&
		!table_tuple_satisfies_snapshot(table->rel, slot, GetTransactionSnapshot()))
		state = STORE_ROW_BUSY;
	rows_read_slot(slot, row);
	return state;
}

/*
 * Whether another transaction has locked the row at a place, where it was just read,
 * and not written it so far; a dirty snapshot does not tell that.
 */
bool
rows_is_locked(RowsTable *table, const ItemPointerData *place)
{
	HeapTupleData tuple = {.t_self = *place};
	Buffer		buffer;
	TransactionId xmax;
	uint16		infomask;

	if (!block_exists(table->rel, ItemPointerGetBlockNumber(place)) ||
		!heap_fetch(table->rel, SnapshotAny, &tuple, &buffer, false))
		return false;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);
	infomask = tuple.t_data->t_infomask;
	UnlockReleaseBuffer(buffer);
	if ((infomask & HEAP_XMAX_INVALID) || !HEAP_XMAX_IS_LOCKED_ONLY(infomask))
		return false;
	if (infomask & HEAP_XMAX_IS_MULTI)
		return MultiXactIdIsRunning(xmax, true);
	return TransactionIdIsInProgress(xmax) && !TransactionIdIsCurrentTransactionId(xmax);
}

/*
 * Whether everybody sees the row at a place, where it was just read, as it is there: no
 * transaction is open that has seen it otherwise.
 */
bool
rows_is_seen_by_all(RowsTable *table, const ItemPointerData *place)
{
	HeapTupleData tuple = {.t_self = *place};
	Buffer		buffer;
	TransactionId xmin;

	if (!block_exists(table->rel, ItemPointerGetBlockNumber(place)) ||
		!heap_fetch(table->rel, SnapshotAny, &tuple, &buffer, false))
		return false;
	xmin = HeapTupleHeaderGetXmin(tuple.t_data);
	ReleaseBuffer(buffer);
	return TransactionIdPrecedes(xmin, GetOldestNonRemovableTransactionId(table->rel));
}

/* ---- results ---- */

/* Take columns of one row for another's; where the number is 0 there is NULL. */
void
rows_project(StoredRow *row, const StoredRow *from, int n, const int *columns)
{
	for (int i = 0; i < n; i++)
	{
		row->nulls[i] = columns[i] == 0 || from->nulls[columns[i] - 1];
		row->values[i] = row->nulls[i] ? (Datum) 0 : from->values[columns[i] - 1];
	}
}

/* A row of a user's relation, made of its columns' values. */
Datum
rows_as_result(const char *relation, const StoredRow *row)
{
	Oid			type = get_rel_type_id(relation_oid(relation));
	TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
	HeapTuple	tuple;

	Assert(desc->natts <= ROWS_MAX_COLUMNS);
	tuple = heap_form_tuple(desc, (Datum *) row->values, (bool *) row->nulls);
	ReleaseTupleDesc(desc);
	return HeapTupleGetDatum(tuple);
}
