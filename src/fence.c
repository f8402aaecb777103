/*
 * fence.c
 *		A trigger that lets nobody write a row with a stale fencing token.
 *
 * It does for each row what lease_assert does for a transaction: the token in the row
 * must hold the resource in the row, and goes on holding it until the transaction ends.
 * So a worker that has lost its lease cannot write, however late it is.  An UPDATE may
 * not give a row to another resource, whose holder could take it so.  A DELETE brings no
 * token that could be looked at.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "lease.h"

PG_FUNCTION_INFO_V1(coord_fence);

static void
check_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"fence\" was not called by trigger manager")));
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be fired before INSERT or UPDATE for each row",
						data->tg_trigger->tgname)));
	if (data->tg_trigger->tgnargs != 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" must name two columns", data->tg_trigger->tgname),
				 errhint("Write EXECUTE FUNCTION coord.fence('resource_column', 'token_column').")));
}

static int
column_number(Relation rel, const char *name)
{
	int			number = SPI_fnumber(RelationGetDescr(rel), name);

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", name, RelationGetRelationName(rel))));
	return number;
}

static void
null_column(Relation rel, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("column \"%s\" of relation \"%s\" must not be null", name, RelationGetRelationName(rel)),
			 errdetail("A fenced row tells its resource and the fencing token of whoever writes it.")));
}

/* Whether the text of a value is the same whatever the settings of who writes are. */
static bool
has_one_text(Oid type)
{
	type = getBaseType(type);
	switch (type)
	{
		case UUIDOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case OIDOID:
			return true;
	}
	switch (TypeCategory(type))
	{
		case TYPCATEGORY_STRING:
		case TYPCATEGORY_ENUM:
		case TYPCATEGORY_BOOLEAN:
		case TYPCATEGORY_NETWORK:
			return true;
	}
	return false;
}

static char *
resource_of(Relation rel, HeapTuple row, const char *column)
{
	int			number = column_number(rel, column);
	char	   *resource;

	if (!has_one_text(SPI_gettypeid(RelationGetDescr(rel), number)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of relation \"%s\" must be of a type whose text does not depend on settings",
						column, RelationGetRelationName(rel)),
				 errdetail("That of strings, integers, numeric, uuid, enums, booleans and addresses does not.")));
	resource = SPI_getvalue(row, RelationGetDescr(rel), number);
	if (resource == NULL)
		null_column(rel, column);
	return resource;
}

static int64
token_of(Relation rel, HeapTuple row, const char *column)
{
	int			number = column_number(rel, column);
	bool		isnull;
	Datum		token = SPI_getbinval(row, RelationGetDescr(rel), number, &isnull);

	if (getBaseType(SPI_gettypeid(RelationGetDescr(rel), number)) != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of relation \"%s\" must be of type bigint", column, RelationGetRelationName(rel))));
	if (isnull)
		null_column(rel, column);
	return DatumGetInt64(token);
}

/* fence('resource_column', 'token_column'): a trigger */
Datum
coord_fence(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	bool		is_update;
	HeapTuple	row;
	char	  **columns;
	char	   *resource;

	check_trigger(fcinfo);
	is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	row = is_update ? data->tg_newtuple : data->tg_trigtuple;
	columns = data->tg_trigger->tgargs;
	resource = resource_of(data->tg_relation, row, columns[0]);
	if (is_update && strcmp(resource, resource_of(data->tg_relation, data->tg_trigtuple, columns[0])) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" of fenced relation \"%s\" must not change",
						columns[0], RelationGetRelationName(data->tg_relation)),
				 errhint("Delete the row, and insert one for the other resource.")));
	coord_lease_check(resource, token_of(data->tg_relation, row, columns[1]));
	return PointerGetDatum(row);
}
