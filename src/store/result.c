/*
 * result.c
 *		What a function of coord's returns: a row, or rows.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator_d.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "args.h"
#include "store/store.h"

/* The one row, of one column, that the last statement gave. */
Datum
store_result(void)
{
	bool		isnull;
	Datum		row;

	if (SPI_processed != 1)
		elog(ERROR, "expected one row, got " UINT64_FORMAT, SPI_processed);
	row = store_value(0, 1, &isnull);
	Assert(!isnull);
	return row;
}

/* Close the scope and keep "row", a datum of variable length, for the caller. */
Datum
store_close_with(StoreScope *scope, Datum row)
{
	Datum		kept = scope->connected ? SPI_datumTransfer(row, false, -1) : row;

	store_close(scope);
	return kept;
}

/*
 * A row as the calling statement expects it: it may have been planned before an update of
 * the extension added columns at the end of the row's type.
 */
Datum
store_as_expected(FunctionCallInfo fcinfo, Datum row)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	TupleDesc	desc;
	TupleDesc	expected;
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum	   *values;
	bool	   *nulls;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) || rsinfo->expectedDesc == NULL)
		return row;
	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	if (rsinfo->expectedDesc->natts >= desc->natts)
		return row;
	/* not of the type that it has by name, which has the columns of now */
	expected = CreateTupleDescCopy(rsinfo->expectedDesc);
	expected->tdtypeid = RECORDOID;
	expected->tdtypmod = -1;
	BlessTupleDesc(expected);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(&tuple, desc, values, nulls);
	return HeapTupleGetDatum(heap_form_tuple(expected, values, nulls));
}

/* Add a row, a composite datum, to a SETOF result. */
void
store_add_result(FunctionCallInfo fcinfo, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuplestore_puttuple(((ReturnSetInfo *) fcinfo->resultinfo)->setResult, &tuple);
}

/*
 * How long a row is in JSON, more or less: what is compressed is as long as it was, and of a few
 * bytes many may come.
 */
Size
store_tuple_bytes(HeapTuple tuple, TupleDesc desc)
{
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	Size		bytes = tuple->t_len;

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		struct varlena *value;

		if (nulls[i] || TupleDescAttr(desc, i)->attlen != -1)
			continue;
		value = PG_DETOAST_DATUM(values[i]);
		bytes += VARSIZE(value) - VARSIZE_ANY(values[i]);
		if (type == JSONBOID)
			bytes += coord_json_growth((Jsonb *) value, MaxAllocSize);
		else if (type == TEXTOID)
			bytes += coord_escaped_growth(VARDATA(value), VARSIZE(value) - VARHDRSZ);
		if (PointerGetDatum(value) != values[i])
			pfree(value);
	}
	pfree(values);
	pfree(nulls);
	return bytes;
}

/* The same of a composite datum. */
Size
store_row_bytes(Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header),.t_data = header};
	Size		bytes = store_tuple_bytes(&tuple, desc);

	ReleaseTupleDesc(desc);
	return bytes;
}

/* ---- rows that are made in another order than they are returned in ---- */

struct OrderedRows
{
	Tuplesortstate *sort;
	TupleTableSlot *in;			/* of the place and the row, as is the other */
	TupleTableSlot *out;
};

/* Rows to be sorted, which may be more than there is memory for: what is more than work_mem is on disk. */
OrderedRows *
store_order_rows(void)
{
	OrderedRows *rows = palloc(sizeof(OrderedRows));
	TupleDesc	desc = CreateTemplateTupleDesc(2);
	AttrNumber	key = 1;
	Oid			less = Int8LessOperator;
	Oid			collation = InvalidOid;
	bool		nulls_first = false;

	TupleDescInitEntry(desc, 1, "place", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 2, "row", RECORDOID, -1, 0);
	rows->in = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	rows->out = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	rows->sort = tuplesort_begin_heap(desc, 1, &key, &less, &collation, &nulls_first, work_mem, NULL, TUPLESORT_NONE);
	return rows;
}

void
store_order_row(OrderedRows *rows, int64 place, Datum row)
{
	ExecClearTuple(rows->in);
	rows->in->tts_values[0] = Int64GetDatum(place);
	rows->in->tts_values[1] = row;
	memset(rows->in->tts_isnull, false, 2 * sizeof(bool));
	ExecStoreVirtualTuple(rows->in);
	tuplesort_puttupleslot(rows->sort, rows->in);
}

/* Add them to a SETOF result, in order. */
void
store_add_ordered(FunctionCallInfo fcinfo, OrderedRows *rows)
{
	tuplesort_performsort(rows->sort);
	while (tuplesort_gettupleslot(rows->sort, true, false, rows->out, NULL))
	{
		bool		isnull;

		store_add_result(fcinfo, slot_getattr(rows->out, 2, &isnull));
	}
	ExecDropSingleTupleTableSlot(rows->in);
	ExecDropSingleTupleTableSlot(rows->out);
	tuplesort_end(rows->sort);
}

/* ---- rows of a statement ---- */

typedef struct RowReceiver
{
	DestReceiver base;
	FunctionCallInfo fcinfo;
} RowReceiver;

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	bool		isnull;
	Datum		row = slot_getattr(slot, 1, &isnull);

	Assert(!isnull);
	store_add_result(((RowReceiver *) self)->fcinfo, row);
	return true;
}

static void
receive_begin(DestReceiver *self pg_attribute_unused(), int operation pg_attribute_unused(),
			  TupleDesc desc pg_attribute_unused())
{
}

static void
receive_end(DestReceiver *self pg_attribute_unused())
{
}

/*
 * Where a statement's rows, of one composite column, go to be added to a SETOF result.  They
 * may have a megabyte each, and be 10,000, so that they are not collected before: what is
 * more than work_mem, the result has on disk.
 */
DestReceiver *
store_result_rows(FunctionCallInfo fcinfo)
{
	RowReceiver *receiver = palloc0(sizeof(RowReceiver));

	receiver->base.receiveSlot = receive_row;
	receiver->base.rStartup = receive_begin;
	receiver->base.rShutdown = receive_end;
	receiver->base.rDestroy = receive_end;
	receiver->base.mydest = DestTuplestore;
	receiver->fcinfo = fcinfo;
	return &receiver->base;
}
