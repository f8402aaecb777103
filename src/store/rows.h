/*
 * rows.h
 *		Rows of the stored relations, reached without the executor.
 *
 * For the hot calls, to which planning and running a statement would be the larger
 * part of the work.  Everything else runs statements, see store.h; both are used in
 * the same scopes and see each other's changes.
 *
 * A row is found by one of its relation's indexes, with the snapshot that a
 * statement would have; locked or written where it was found.  Its values are an
 * array by attribute number, less one.
 */
#ifndef COORD_STORE_ROWS_H
#define COORD_STORE_ROWS_H

#include "access/genam.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "nodes/lockoptions.h"
#include "store/store.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#define ROWS_MAX_COLUMNS 32

/* a row as it was read, or is to be written */
typedef struct StoredRow
{
	ItemPointerData place;
	Datum		values[ROWS_MAX_COLUMNS];
	bool		nulls[ROWS_MAX_COLUMNS];
} StoredRow;

/* the most indexes that one call reads of a relation */
#define ROWS_MAX_INDEXES 4

/* a stored relation that is open in a scope, with what else the scope has needed of it */
struct RowsTable
{
	const char *name;
	Relation	rel;
	LOCKMODE	mode;
	TupleTableSlot *slot;		/* for reading */
	int			nindexes;
	struct
	{
		const char *name;
		Relation	rel;
	}			indexes[ROWS_MAX_INDEXES];
	TupleTableSlot *new_row;	/* for writing, from here on; NULL when nothing was written */
	EState	   *estate;
	ResultRelInfo *result_rel;	/* NULL when no index was written */
};

/* opening; it stays open until the scope is closed, and locked until the transaction ends */
extern RowsTable *rows_open(const char *relation, LOCKMODE mode);
extern RowsTable *rows_open_by_oid(Oid relid, LOCKMODE mode);
extern Relation rows_index(RowsTable *table, const char *name);
extern void rows_close_all(StoreScope *scope);

/* the slot of a relation for reading, and what is in it, copied */
extern TupleTableSlot *rows_slot_of(RowsTable *table);
extern void rows_read_slot(TupleTableSlot *slot, StoredRow *row);

/* a walk along a relation, see rows_begin() */
typedef struct RowsWalk
{
	RowsTable  *table;
	Snapshot	snapshot;
	TableScanDesc scan;			/* one of the two */
	IndexScanDesc index_scan;
} RowsWalk;

/* finding */
extern void rows_key_uuid(ScanKey key, int column, const pg_uuid_t *id);
extern void rows_key_text(ScanKey key, int column, const char *text);
extern void rows_key_int8(ScanKey key, int column, int64 value);
extern void rows_key_time(ScanKey key, int column, TimestampTz value);
extern bool rows_find(RowsTable *table, const char *index, int nkeys, ScanKey keys, Snapshot snapshot, StoredRow *row);
extern bool rows_find_in_progress(RowsTable *table, const char *index, int nkeys, ScanKey keys, StoredRow *row);
extern void rows_begin(RowsWalk *walk, RowsTable *table, const char *index, int nkeys, ScanKey keys, Snapshot snapshot);
extern bool rows_next(RowsWalk *walk, StoredRow *row);
extern void rows_end(RowsWalk *walk);
extern bool rows_exist(const char *relation, const char *index, int nkeys, ScanKey keys, Snapshot snapshot);
extern bool rows_is_empty(const char *relation);
extern void rows_remember(RowsTable *table, const pg_uuid_t *id, const ItemPointerData *place);
extern bool rows_find_remembered(RowsTable *table, int column, const pg_uuid_t *id, StoredRow *row);
extern StoreRowState rows_fetch_live(RowsTable *table, const ItemPointerData *place, StoredRow *row);
extern bool rows_is_locked(RowsTable *table, const ItemPointerData *place);
extern bool rows_is_seen_by_all(RowsTable *table, const ItemPointerData *place);

/* locking and writing */
extern StoreRowState rows_lock(RowsTable *table, StoredRow *row, LockTupleMode mode, LockWaitPolicy policy, bool follow);
extern StoreRowState rows_update(RowsTable *table, StoredRow *row, bool wait);
extern StoreRowState rows_delete(RowsTable *table, const ItemPointerData *place, bool wait);
extern void rows_insert(RowsTable *table, StoredRow *row);
extern void rows_insert_many(RowsTable *table, StoredRow *rows, int n);

/* a row of a user's relation, as a function returns it */
extern void rows_project(StoredRow *row, const StoredRow *from, int n, const int *columns);
extern Datum rows_as_result(const char *relation, const StoredRow *row);

/* reading and setting values; columns count from 1.  What may be NULL is read by the functions that say so. */
static inline void
rows_set(StoredRow *row, int column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

static inline void
rows_set_null(StoredRow *row, int column)
{
	row->values[column - 1] = (Datum) 0;
	row->nulls[column - 1] = true;
}

static inline void
rows_set_arg(StoredRow *row, int column, StoreArg arg)
{
	row->values[column - 1] = arg.value;
	row->nulls[column - 1] = arg.isnull;
}

static inline pg_uuid_t *
rows_uuid(const StoredRow *row, int column)
{
	Assert(!row->nulls[column - 1]);
	return DatumGetUUIDP(row->values[column - 1]);
}

static inline pg_uuid_t *
rows_uuid_or_null(const StoredRow *row, int column)
{
	return row->nulls[column - 1] ? NULL : rows_uuid(row, column);
}

static inline char *
rows_text(const StoredRow *row, int column)
{
	Assert(!row->nulls[column - 1]);
	return TextDatumGetCString(row->values[column - 1]);
}

static inline char *
rows_text_or_null(const StoredRow *row, int column)
{
	return row->nulls[column - 1] ? NULL : rows_text(row, column);
}

static inline TimestampTz
rows_time(const StoredRow *row, int column, TimestampTz if_null)
{
	return row->nulls[column - 1] ? if_null : DatumGetTimestampTz(row->values[column - 1]);
}

static inline int64
rows_int8(const StoredRow *row, int column, int64 if_null)
{
	return row->nulls[column - 1] ? if_null : DatumGetInt64(row->values[column - 1]);
}

static inline int32
rows_int4(const StoredRow *row, int column, int32 if_null)
{
	return row->nulls[column - 1] ? if_null : DatumGetInt32(row->values[column - 1]);
}

static inline bool
rows_bool(const StoredRow *row, int column)
{
	return !row->nulls[column - 1] && DatumGetBool(row->values[column - 1]);
}

/* microseconds */
static inline int64
rows_interval(const StoredRow *row, int column, int64 if_null)
{
	int64		usec;

	if (row->nulls[column - 1] || !coord_interval_to_usec(DatumGetIntervalP(row->values[column - 1]), &usec))
		return if_null;
	return usec;
}

#endif							/* COORD_STORE_ROWS_H */
