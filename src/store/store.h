/*
 * store.h
 *		Access to the stored relations: running kept plans as their owner.
 *
 * src/store/ is the only place that knows tables, columns and plans.  A
 * SQL-callable function opens a scope, calls the store's functions and closes
 * the scope.  What the store's functions return is in the caller's memory context.
 */
#ifndef COORD_STORE_H
#define COORD_STORE_H

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/lockoptions.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "clock.h"

/* the most relations that one call reaches directly */
#define STORE_MAX_TABLES 16

typedef struct RowsTable RowsTable;
typedef struct OrderedRows OrderedRows;

typedef struct StoreScope
{
	Oid			userid;
	int			sec_context;
	Oid			outer_caller;	/* store_caller() in the scope around it */
	bool		connected;		/* to SPI, from its first statement on */
	int			guc_level;		/* then */
	MemoryContext context;
	int			ntables;
	RowsTable  *tables[STORE_MAX_TABLES];	/* open, see rows.h */
	struct StoreScope *outer;
} StoreScope;

/* A statement, prepared at its first use and kept. */
typedef struct StorePlan
{
	const char *sql;
	SPIPlanPtr	plan;
} StorePlan;

/* An argument of a statement. */
typedef struct StoreArg
{
	Oid			type;
	Datum		value;
	bool		isnull;
} StoreArg;

#define STORE_ARGS(...) \
	lengthof(((StoreArg[]) {__VA_ARGS__})), (StoreArg[]) {__VA_ARGS__}

/* what came of trying to lock a row */
typedef enum StoreRowState
{
	STORE_ROW_LOCKED,
	STORE_ROW_CHANGED,			/* since it was read; it is not locked */
	STORE_ROW_BUSY				/* another transaction has it locked */
} StoreRowState;

typedef struct UuidList
{
	int			n;
	pg_uuid_t  *ids;
} UuidList;

extern void store_open(StoreScope *scope);
extern void store_close(StoreScope *scope);
extern void store_pin_settings(void);
extern StoreScope *store_scope(void);
extern Oid	store_caller(void);
extern Oid	store_owner(void);
extern bool store_hold_extension(void);

extern void store_set_aside(const UuidList *items);
extern bool store_is_set_aside(const pg_uuid_t *item);
extern ArrayType *store_uuid_array(const UuidList *list);

extern uint64 store_run(StorePlan *plan, int nargs, const StoreArg *args);
extern uint64 store_run_latest(StorePlan *plan, int nargs, const StoreArg *args);
extern uint64 store_run_within(StorePlan *plan, int nargs, const StoreArg *args);
extern uint64 store_run_once(const char *sql, int nargs, const StoreArg *args);
extern uint64 store_run_to(DestReceiver *rows, StorePlan *plan, int nargs, const StoreArg *args);
extern uint64 store_run_once_to(DestReceiver *rows, const char *sql, int nargs, const StoreArg *args);
extern uint64 store_run_once_latest(const char *sql);

/* reading the last result */
extern Datum store_value(uint64 row, int column, bool *isnull);
extern pg_uuid_t *store_uuid(uint64 row, int column);
extern char *store_text(uint64 row, int column);
extern TimestampTz store_time(uint64 row, int column, TimestampTz if_null);
extern int64 store_int8(uint64 row, int column, int64 if_null);
extern int32 store_int4(uint64 row, int column, int32 if_null);
extern bool store_bool(uint64 row, int column);
extern Oid	store_oid(uint64 row, int column);
extern ItemPointerData store_place(uint64 row, int column);
extern int64 store_interval(uint64 row, int column, int64 if_null);
extern UuidList store_uuids(void);
extern UuidList store_uuids_of_array(uint64 row, int column);
extern List *store_texts(void);
extern List *store_text_array(uint64 row, int column);
extern ArrayType *store_int8_array(void);

/* handing rows of a user's relation to the caller */
extern Datum store_result(void);
extern Datum store_close_with(StoreScope *scope, Datum row);
extern Datum store_as_expected(FunctionCallInfo fcinfo, Datum row);
extern void store_add_result(FunctionCallInfo fcinfo, Datum row);
extern Size store_tuple_bytes(HeapTuple tuple, TupleDesc desc);
extern Size store_row_bytes(Datum row);
extern OrderedRows *store_order_rows(void);
extern void store_order_row(OrderedRows *rows, int64 place, Datum row);
extern void store_add_ordered(FunctionCallInfo fcinfo, OrderedRows *rows);
extern DestReceiver *store_result_rows(FunctionCallInfo fcinfo);

static inline StoreArg
arg_uuid(const pg_uuid_t *id)
{
	return (StoreArg) {UUIDOID, UUIDPGetDatum(id), id == NULL};
}

static inline StoreArg
arg_text(const char *text)
{
	return (StoreArg) {TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL};
}

static inline StoreArg
arg_time(TimestampTz instant)
{
	return (StoreArg) {TIMESTAMPTZOID, TimestampTzGetDatum(instant), false};
}

static inline StoreArg
arg_time_or_null(bool isnull, TimestampTz instant)
{
	return (StoreArg) {TIMESTAMPTZOID, TimestampTzGetDatum(instant), isnull};
}

static inline StoreArg
arg_int8(int64 value)
{
	return (StoreArg) {INT8OID, Int64GetDatum(value), false};
}

static inline StoreArg
arg_int4(int32 value)
{
	return (StoreArg) {INT4OID, Int32GetDatum(value), false};
}

static inline StoreArg
arg_int4_or_null(bool isnull, int32 value)
{
	return (StoreArg) {INT4OID, Int32GetDatum(value), isnull};
}

static inline StoreArg
arg_int8_or_null(bool isnull, int64 value)
{
	return (StoreArg) {INT8OID, Int64GetDatum(value), isnull};
}

static inline StoreArg
arg_oid(Oid value)
{
	return (StoreArg) {OIDOID, ObjectIdGetDatum(value), false};
}

static inline StoreArg
arg_bool(bool value)
{
	return (StoreArg) {BOOLOID, BoolGetDatum(value), false};
}

static inline StoreArg
arg_interval(int64 usec)
{
	return (StoreArg) {INTERVALOID, IntervalPGetDatum(coord_usec_to_interval(usec)), false};
}

/* a negative duration stands for NULL */
static inline StoreArg
arg_interval_or_null(int64 usec)
{
	return (StoreArg) {INTERVALOID, usec < 0 ? (Datum) 0 : IntervalPGetDatum(coord_usec_to_interval(usec)), usec < 0};
}

static inline StoreArg
arg_uuids(const UuidList *list)
{
	return (StoreArg) {UUIDARRAYOID, PointerGetDatum(store_uuid_array(list)), false};
}

static inline StoreArg
arg_jsonb(Jsonb *value)
{
	return (StoreArg) {JSONBOID, value ? JsonbPGetDatum(value) : (Datum) 0, value == NULL};
}

static inline StoreArg
arg_array(Oid type, ArrayType *value)
{
	return (StoreArg) {type, PointerGetDatum(value), value == NULL};
}

/* the array of what the sweep passes over, see store_set_aside() */
extern StoreArg arg_set_aside(void);

#endif							/* COORD_STORE_H */
