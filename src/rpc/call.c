/*
 * call.c
 *		Calling the function behind a method.
 *
 * It is called by a statement that names it in full and gives all its arguments, NULL
 * for those that were left out, which for coord's functions means their default.  It
 * runs as the caller: the executor checks his right to it, as ever.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "errors.h"
#include "lease.h"
#include "rpc/argument.h"
#include "rpc/rpc.h"
#include "store/store.h"

/* so many rows of a result are asked for at a time */
#define FETCH_ROWS 100

static void check_names(const RpcRequest *request, const RpcMethod *method, const RpcFunction *function,
						JsonbContainer *arguments);
static JsonbValue *find_value(const RpcRequest *request, const RpcMethod *method,
							  const RpcArgument *argument, JsonbContainer *arguments);
static JsonbValue *each_with_defaults(const JsonbValue *array, const RpcMethod *elements, JsonbContainer *defaults);
static Jsonb *run(const RpcRequest *request, const RpcMethod *method, RpcFunction *function, Datum *values, char *nulls);

/*
 * Call a method with arguments by name (NULL: none), and return its result, an object.
 * An error is raised, with its facts.
 */
Jsonb *
rpc_call(const RpcRequest *request, const RpcMethod *method, JsonbContainer *arguments)
{
	RpcFunction *function = rpc_function(method);
	Datum	   *values = palloc0(sizeof(Datum) * (function->nargs + 1));
	char	   *nulls = palloc0(function->nargs + 1);

	check_names(request, method, function, arguments);
	for (int i = 0; i < function->nargs; i++)
	{
		const RpcArgument *argument = &function->args[i];
		JsonbValue *value = find_value(request, method, argument, arguments);

		nulls[i] = value == NULL ? 'n' : ' ';
		if (value != NULL)
			values[i] = rpc_argument(argument, value);
		else if (argument->required)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 coord_errargument(argument->name),
					 coord_errexpected(rpc_expected(argument->type)),
					 errmsg("argument \"%s\" is missing", argument->name)));
	}
	return run(request, method, function, values, nulls);
}

/* Whether a bridge tries a method again, until an argument of its own, "wait", is over. */
static bool
is_waited_for(const RpcRequest *request, const RpcMethod *method, const char *argument)
{
	return request->session->defaults != NULL && strcmp(argument, "wait") == 0 &&
		(method->shape == RPC_LEASE || strcmp(method->name, "task.claim") == 0);
}

static void
check_wait(const JsonbValue *value)
{
	RpcArgument wait = {"wait", INTERVALOID, false};

	if (value->type != jbvNull && DatumGetIntervalP(rpc_argument(&wait, value))->time < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("wait"),
				 errmsg("argument \"wait\" must not be negative")));
}

static void
check_names(const RpcRequest *request, const RpcMethod *method, const RpcFunction *function,
			JsonbContainer *arguments)
{
	JsonbIterator *members;
	JsonbValue	member;

	if (arguments == NULL)
		return;
	members = JsonbIteratorInit(arguments);
	(void) JsonbIteratorNext(&members, &member, true);
	while (JsonbIteratorNext(&members, &member, true) == WJB_KEY)
	{
		char	   *name = json_string_value(&member);

		CHECK_FOR_INTERRUPTS();
		(void) JsonbIteratorNext(&members, &member, true);
		if (is_waited_for(request, method, name))
			check_wait(&member);
		else if (rpc_find_argument(function, name) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 coord_errargument(name),
					 coord_errexpected(psprintf("one of: %s", rpc_argument_names(function))),
					 errmsg("unknown argument \"%s\"", name)));
	}
}

/* The value that an argument is to have; NULL when it is left out, as is what is null. */
static JsonbValue *
find_value(const RpcRequest *request, const RpcMethod *method, const RpcArgument *argument,
		   JsonbContainer *arguments)
{
	JsonbContainer *defaults = request->session->defaults;
	JsonbValue *value = json_member(arguments, argument->name);

	if (value != NULL && is_waited_for(request, method, argument->name))
		value = NULL;
	if ((value == NULL || value->type == jbvNull) && rpc_takes_default(method, argument))
		value = json_member(defaults, argument->name);
	if (value == NULL || value->type == jbvNull)
		return NULL;
	if (defaults != NULL && method->elements != NULL && value->type == jbvBinary &&
		JsonContainerIsArray(value->val.binary.data))
		return each_with_defaults(value, rpc_find_method(method->elements), defaults);
	return value;
}

/*
 * Add an object, with defaults (of the function's arguments, NULL: none) for what it leaves out,
 * or has as null.  False when an argument is missing all the same.
 */
static bool
add_with_defaults(Json *json, JsonbContainer *object, const RpcFunction *function, JsonbValue *const *defaults)
{
	JsonbIterator *members = JsonbIteratorInit(object);
	JsonbValue	key;
	JsonbValue	value;
	bool		complete = true;

	json_begin_object(json);
	for (int i = 0; i < function->nargs; i++)
	{
		const char *name = function->args[i].name;

		if (defaults[i] != NULL)
		{
			json_key(json, name);
			json_copy(json, defaults[i]);
		}
		else if (function->args[i].required)
			complete &= getKeyJsonValueFromContainer(object, name, strlen(name), &value) != NULL && value.type != jbvNull;
	}
	(void) JsonbIteratorNext(&members, &key, true);
	while (JsonbIteratorNext(&members, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&members, &value, true);
		if (value.type != jbvNull)
		{
			json_copy_key(json, &key);	/* of two that are the same, the last counts */
			json_copy(json, &value);
		}
	}
	json_end_object(json);
	return complete;
}

/*
 * An array with the session's defaults for each object in it.  It ends with the first that
 * cannot be right, which the function will refuse: there may be millions after it.
 */
static JsonbValue *
each_with_defaults(const JsonbValue *array, const RpcMethod *elements, JsonbContainer *defaults)
{
	RpcFunction *function = rpc_function(elements);
	JsonbValue **of_arguments = palloc(sizeof(JsonbValue *) * Max(function->nargs, 1));
	JsonbIterator *iterator = JsonbIteratorInit(array->val.binary.data);
	JsonbValue	element;
	Json		json = {0};
	bool		complete = true;

	for (int i = 0; i < function->nargs; i++)
	{
		of_arguments[i] = json_member(defaults, function->args[i].name);
		if (of_arguments[i] != NULL && of_arguments[i]->type == jbvNull)
			of_arguments[i] = NULL;
	}
	json_begin_array(&json);
	(void) JsonbIteratorNext(&iterator, &element, true);
	while (complete && JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM)
	{
		CHECK_FOR_INTERRUPTS();
		complete = json_is_object(&element);
		if (complete)
			complete = add_with_defaults(&json, element.val.binary.data, function, of_arguments);
		else
			json_copy(&json, &element);
	}
	json_end_array(&json);
	return json.value;
}

static SPIPlanPtr
prepare(const RpcMethod *method, const RpcFunction *function)
{
	StringInfoData sql;
	Oid		   *types = palloc(sizeof(Oid) * Max(function->nargs, 1));
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM coord.%s(", method->function);
	for (int i = 0; i < function->nargs; i++)
	{
		appendStringInfo(&sql, "%s$%d", i == 0 ? "" : ", ", i + 1);
		types[i] = function->args[i].type;
	}
	appendStringInfoChar(&sql, ')');
	plan = SPI_prepare(sql.data, function->nargs, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql.data, SPI_result_code_string(SPI_result));
	return plan;
}

static void
add_row(Json *json, uint64 row)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;

	json_begin_object(json);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[row], desc, i + 1, &isnull);

		json_key(json, NameStr(column->attname));
		json_value(json, column->atttypid, value, isnull);
	}
	json_end_object(json);
}

static void
add_value(Json *json, uint64 row)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);

	json_value(json, SPI_gettypeid(SPI_tuptable->tupdesc, 1), value, isnull);
}

/*
 * Add the rows that a cursor gives.  They are not asked for all at once: when what there is
 * so far makes the answer too large, that is the error.
 */
static void
add_rows(Json *json, const RpcRequest *request, const RpcMethod *method, Portal rows)
{
	MemoryContext context = CurrentMemoryContext;
	Size		bytes = 0;

	do
	{
		SPI_cursor_fetch(rows, true, FETCH_ROWS);
		MemoryContextSwitchTo(context); /* SPI leaves its own */
		for (uint64 row = 0; row < SPI_processed; row++)
		{
			bytes += store_tuple_bytes(SPI_tuptable->vals[row], SPI_tuptable->tupdesc);
			rpc_check_answer(request, bytes);
			if (method->shape == RPC_ROWS)
				add_row(json, row);
			else
				add_value(json, row);
		}
	} while (SPI_processed == FETCH_ROWS);
	SPI_cursor_close(rows);
	MemoryContextSwitchTo(context);
}

/* What SPI has, or a cursor gives, in the shape that the method's result has. */
static JsonbValue *
form_result(const RpcRequest *request, const RpcMethod *method, Portal rows)
{
	Json		json = {0};

	if (method->shape == RPC_ROW || method->shape == RPC_LEASE)
	{
		add_row(&json, 0);
		return json.value;
	}
	json_begin_object(&json);
	if (method->member != NULL)
		json_key(&json, method->member);
	if (method->shape == RPC_VALUE)
		add_value(&json, 0);
	else if (method->shape != RPC_NOTHING)
	{
		json_begin_array(&json);
		add_rows(&json, request, method, rows);
		json_end_array(&json);
	}
	json_end_object(&json);
	return json.value;
}

static Jsonb *
run(const RpcRequest *request, const RpcMethod *method, RpcFunction *function, Datum *values, char *nulls)
{
	bool		is_set = method->shape == RPC_ROWS || method->shape == RPC_VALUES;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	Portal		rows = NULL;
	Jsonb	   *result;

	SPI_connect();
	if (function->plan == NULL)
		function->plan = prepare(method, function);
	if (is_set)
		rows = SPI_cursor_open(NULL, function->plan, values, nulls, false);
	else if (SPI_execute_plan(function->plan, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call %s", method->function);
	if (method->shape == RPC_LEASE && SPI_processed == 0)
		coord_lease_refuse(TextDatumGetCString(values[0]));

	old = MemoryContextSwitchTo(context);
	result = JsonbValueToJsonb(form_result(request, method, rows));
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}
