/*
 * rows_write.c
 *		Locking and writing rows of the stored relations, without the executor.
 *
 * Only rows that are right are written: no constraint is checked but the unique ones of
 * indexes, and no trigger fires.
 *
 * What is written is visible to what the same transaction does next: every change ends a
 * command.  Writing follows the executor (nodeModifyTable.c, and execReplication.c,
 * which applies changes row by row as is done here): the heap first, then an entry
 * in each index unless the update was HOT.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "errors.h"
#include "store/rows.h"

static void
serialization_failure(void)
{
	if (IsolationUsesXactSnapshot())
		coord_error_serialization();
}

/*
 * Lock a row where it was read.  When it has changed since: with "follow" its latest
 * version is locked and read, unless it is gone; else nothing is locked.
 */
StoreRowState
rows_lock(RowsTable *table, StoredRow *row, LockTupleMode mode, LockWaitPolicy policy, bool follow)
{
	TupleTableSlot *slot = rows_slot_of(table);
	uint8		flags = 0;
	TM_FailureData failure;
	TM_Result	result;

	PreventCommandIfReadOnly("SELECT FOR UPDATE");
	if (follow && !IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	/* this lock goes with an update that is not committed yet: its version is to have it, too */
	if (mode == LockTupleKeyShare)
		flags |= TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	result = table_tuple_lock(table->rel, &row->place, GetActiveSnapshot(), slot, GetCurrentCommandId(false), mode,
							  policy, flags, &failure);
	if (result == TM_Ok && follow)
		rows_read_slot(slot, row);
	ExecClearTuple(slot);
	if (result == TM_Ok)
		return STORE_ROW_LOCKED;
	if (result == TM_WouldBlock)
		return STORE_ROW_BUSY;
	serialization_failure();
	return STORE_ROW_CHANGED;
}

/* Put a row that is to be written in the slot for that. */
static TupleTableSlot *
form(RowsTable *table, StoredRow *row)
{
	MemoryContext old;

	if (table->new_row == NULL)
	{
		old = MemoryContextSwitchTo(store_scope()->context);
		table->new_row = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
	}
	ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(table->rel), row->values, row->nulls), table->new_row, true);
	return table->new_row;
}

/* Whether an index that somebody has added may call functions. */
static bool
calls_functions(const ResultRelInfo *result_rel)
{
	for (int i = 0; i < result_rel->ri_NumIndices; i++)
	{
		IndexInfo  *index = result_rel->ri_IndexRelationInfo[i];
		ListCell   *cell;

		if (index->ii_Expressions != NIL)
			return true;
		foreach(cell, index->ii_Predicate)
		{
			if (!IsA(lfirst(cell), NullTest))
				return true;
		}
	}
	return false;
}

/* Add the entries of a row that was written to the indexes. */
static void
add_index_entries(RowsTable *table, TupleTableSlot *slot, bool of_update, bool only_summarizing)
{
	MemoryContext old;

	if (table->result_rel == NULL)
	{
		old = MemoryContextSwitchTo(store_scope()->context);
		table->estate = CreateExecutorState();
		table->result_rel = makeNode(ResultRelInfo);
		InitResultRelInfo(table->result_rel, table->rel, 0, NULL, 0);
		ExecOpenIndices(table->result_rel, false);
		if (calls_functions(table->result_rel))
			store_pin_settings();
		MemoryContextSwitchTo(old);
	}
	coord_insert_index_tuples(table->result_rel, slot, table->estate, of_update, only_summarizing);
	ResetPerTupleExprContext(table->estate);
}

/* Add a row; its place is set. */
void
rows_insert(RowsTable *table, StoredRow *row)
{
	TupleTableSlot *slot;

	PreventCommandIfReadOnly("INSERT");
	slot = form(table, row);
	table_tuple_insert(table->rel, slot, GetCurrentCommandId(true), 0, NULL);
	add_index_entries(table, slot, false, false);
	row->place = slot->tts_tid;
	ExecClearTuple(slot);
	CommandCounterIncrement();
}

/*
 * Add many rows, which are written together where they go to one page; their places
 * are not set.
 */
void
rows_insert_many(RowsTable *table, StoredRow *rows, int n)
{
	TupleDesc	desc = RelationGetDescr(table->rel);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);

	PreventCommandIfReadOnly("INSERT");
	for (int i = 0; i < n; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
		ExecStoreHeapTuple(heap_form_tuple(desc, rows[i].values, rows[i].nulls), slots[i], true);
	}
	table_multi_insert(table->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		add_index_entries(table, slots[i], false, false);
		ExecDropSingleTupleTableSlot(slots[i]);
	}
	pfree(slots);
	CommandCounterIncrement();
}

/*
 * Write a row anew that is at its place still; its place is set.  One that the
 * transaction has not locked may be another's by now: then nothing is written.
 * Without "wait", which is for such a one, whoever is at it is not waited for either.
 */
StoreRowState
rows_update(RowsTable *table, StoredRow *row, bool wait)
{
	TupleTableSlot *slot;
	TM_FailureData failure;
	LockTupleMode mode;
	CoordUpdateIndexes update_indexes;
	TM_Result	result;

	PreventCommandIfReadOnly("UPDATE");
#ifdef USE_ASSERT_CHECKING

	/*
	 * tableam.h offers an update that does not wait, and heapam.c does it; but it also
	 * asserts that nobody is at the row then.  Where that is checked, lock first.
	 */
	if (!wait)
	{
		StoreRowState state = rows_lock(table, row, LockTupleExclusive, LockWaitSkip, false);

		if (state != STORE_ROW_LOCKED)
			return state;
		wait = true;
	}
#endif
	slot = form(table, row);
	result = table_tuple_update(table->rel, &row->place, slot, GetCurrentCommandId(true), GetActiveSnapshot(),
								InvalidSnapshot, wait, &failure, &mode, &update_indexes);
	if (result == TM_Ok)
	{
		if (update_indexes)
			add_index_entries(table, slot, true, coord_only_summarizing(update_indexes));
		row->place = slot->tts_tid;
		CommandCounterIncrement();
	}
	ExecClearTuple(slot);
	if (result == TM_Ok)
		return STORE_ROW_LOCKED;
	if (result == TM_BeingModified)
		return STORE_ROW_BUSY;
	serialization_failure();
	return STORE_ROW_CHANGED;
}

/* Delete a row that is at its place still; as rows_update(). */
StoreRowState
rows_delete(RowsTable *table, const ItemPointerData *place, bool wait)
{
	ItemPointerData tid = *place;
	TM_FailureData failure;
	TM_Result	result;

	PreventCommandIfReadOnly("DELETE");
	result = table_tuple_delete(table->rel, &tid, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot,
								wait, &failure, false);
	if (result == TM_Ok)
	{
		CommandCounterIncrement();
		return STORE_ROW_LOCKED;
	}
	if (result == TM_BeingModified)
		return STORE_ROW_BUSY;
	serialization_failure();
	return STORE_ROW_CHANGED;
}
