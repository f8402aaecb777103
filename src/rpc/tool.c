/*
 * tool.c
 *		The list of tools: what the catalog knows of the functions, as JSON Schema.
 *
 * The texts are the functions' comments, which have this form: a line that says what
 * the function does; "argument: text. other, another: text."; a line that begins with
 * "Returns"; and one that begins with "Errors".
 *
 * A tool may answer with its result or with a refusal, and clients hold both against
 * its outputSchema.  So that schema allows either.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "commands/comment.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "rpc/rpc.h"
#include "sequence.h"

#define DIGITS "^-?[0-9]+$"

/* the parts of a function's comment */
typedef struct Texts
{
	char	   *summary;
	char	   *arguments;
	char	   *returns;
} Texts;

/* what an argument that is a word may be */
typedef struct Words
{
	const char *function;		/* NULL: any */
	const char *argument;
	const char *const words[8];
} Words;

static const Words words[] = {
	{NULL, "severity", {"debug", "info", "warning", "error", "critical"}},
	{"task_list", "state", {"blocked", "pending", "claimed", "completed", "dead", "cancelled"}},
	{"lease_list", "state", {"active", "released", "expired"}},
	{"agent_list", "status", {"active", "inactive", "retired"}},
};

static void add_tool(Json *json, const RpcMethod *method, const RpcSession *session);
static void add_input_schema(Json *json, const RpcMethod *method, const RpcSession *session);
static void add_output_schema(Json *json, const RpcMethod *method);

/* All tools, as an array. */
void
mcp_list_tools(Json *json, const RpcSession *session)
{
	json_begin_array(json);
	for (int i = 0; i < rpc_nmethods; i++)
	{
		if (rpc_has_function(&rpc_methods[i]))
			add_tool(json, &rpc_methods[i], session);
	}
	json_end_array(json);
}

/* The text up to a line that begins with that word. */
static char *
until_line(const char *text, const char *word)
{
	const char *end = strstr(text, psprintf("\n%s", word));

	return end != NULL ? pnstrdup(text, end - text) : pstrdup(text);
}

static Texts
read_texts(const RpcFunction *function)
{
	char	   *comment = GetComment(function->oid, ProcedureRelationId, 0);
	char	   *returns;
	char	   *line;
	Texts		texts = {"", "", ""};

	if (comment == NULL)
		return texts;
	returns = strstr(comment, "\nReturns ");
	if (returns != NULL)
		texts.returns = until_line(returns + 1, "Errors");
	texts.summary = until_line(comment, "Returns ");
	line = strchr(texts.summary, '\n');
	if (line != NULL)
	{
		*line = '\0';
		texts.arguments = line + 1;
	}
	return texts;
}

/* The length of a head "name, other: " at the start of a text, 0 if there is none; *found if it has that name. */
static int
head_length(const char *text, const RpcFunction *function, const char *name, bool *found)
{
	const char *c = text;

	for (;;)
	{
		size_t		len = strspn(c, "abcdefghijklmnopqrstuvwxyz_");
		char	   *word = pnstrdup(c, len);

		if (rpc_find_argument(function, word) == NULL)
			return 0;
		if (strcmp(word, name) == 0)
			*found = true;
		c += len;
		if (strncmp(c, ": ", 2) == 0)
			return c + 2 - text;
		if (strncmp(c, ", ", 2) != 0)
			return 0;
		c += 2;
	}
}

/* What a comment says of an argument; empty if it says nothing. */
static char *
argument_text(const Texts *texts, const RpcFunction *function, const char *name)
{
	const char *c = texts->arguments;

	while (*c != '\0')
	{
		bool		found = false;
		bool		ignored;
		const char *text = c + head_length(c, function, name, &found);

		/* to the next sentence, or line, that begins with a head */
		for (c = text; *c != '\0'; c++)
			if ((c[-1] == '\n' || (c - text >= 2 && strncmp(c - 2, ". ", 2) == 0)) &&
				head_length(c, function, name, &ignored) > 0)
				break;
		if (found)
			return pnstrdup(text, c - text - (c[-1] == ' ' || c[-1] == '\n' ? 1 : 0));
	}
	return "";
}

static char *
replaced(const char *source, const char *what, const char *by)
{
	return TextDatumGetCString(DirectFunctionCall3Coll(replace_text, C_COLLATION_OID, CStringGetTextDatum(source),
													   CStringGetTextDatum(what), CStringGetTextDatum(by)));
}

/* A text for who writes JSON: each setting of coord is followed by its value, and NULL is what is left out. */
static char *
for_json(const char *text)
{
	StringInfoData result;
	const char *name;

	initStringInfo(&result);
	while ((name = strstr(text, "coord.")) != NULL)
	{
		size_t		len = strspn(name, "abcdefghijklmnopqrstuvwxyz_.");
		char	   *value;

		while (name[len - 1] == '.')
			len--;
		value = GetConfigOptionByName(pnstrdup(name, len), NULL, true);
		appendBinaryStringInfo(&result, text, name + len - text);
		if (value != NULL)
			appendStringInfo(&result, " (%s)", value);
		text = name + len;
	}
	appendStringInfoString(&result, text);
	return replaced(result.data, "NULL", "omitted");
}

static void
add_tool(Json *json, const RpcMethod *method, const RpcSession *session)
{
	Texts		texts = read_texts(rpc_function(method));

	json_begin_object(json);
	json_string_member(json, "name", rpc_tool_name(method));
	json_string_member(json, "description", for_json(psprintf("%s %s", texts.summary, texts.returns)));
	json_key(json, "inputSchema");
	add_input_schema(json, method, session);
	json_key(json, "outputSchema");
	add_output_schema(json, method);
	json_key(json, "annotations");
	json_begin_object(json);
	json_bool_member(json, "readOnlyHint", (method->traits & RPC_READS) != 0);
	json_bool_member(json, "destructiveHint", (method->traits & RPC_DESTROYS) != 0);
	json_bool_member(json, "idempotentHint", (method->traits & (RPC_READS | RPC_REPEATABLE)) != 0);
	json_bool_member(json, "openWorldHint", false);
	json_end_object(json);
	json_end_object(json);
}

/* "type", which may be null too. */
static void
add_type(Json *json, const char *type, const char *or_type, bool nullable)
{
	json_key(json, "type");
	if (or_type == NULL && !nullable)
	{
		json_string(json, type);
		return;
	}
	json_begin_array(json);
	json_string(json, type);
	if (or_type != NULL)
		json_string(json, or_type);
	if (nullable)
		json_string(json, "null");
	json_end_array(json);
}

static void
add_format(Json *json, const char *type, const char *format, bool nullable)
{
	add_type(json, type, NULL, nullable);
	json_string_member(json, "format", format);
}

/* The members of a schema for values of an SQL type. */
static void
add_value_schema(Json *json, Oid type, bool nullable)
{
	switch (type)
	{
		case BOOLOID:
			add_type(json, "boolean", NULL, nullable);
			break;
		case INT4OID:
			add_type(json, "integer", NULL, nullable);
			break;
		case INT8OID:
			add_type(json, "integer", "string", nullable);
			json_string_member(json, "pattern", DIGITS);
			break;
		case INTERVALOID:
			add_type(json, "number", NULL, nullable);
			break;
		case UUIDOID:
			add_format(json, "string", "uuid", nullable);
			break;
		case TIMESTAMPTZOID:
			add_format(json, "string", "date-time", nullable);
			break;
		case UUIDARRAYOID:
			add_type(json, "array", NULL, nullable);
			json_key(json, "items");
			json_begin_object(json);
			add_format(json, "string", "uuid", false);
			json_end_object(json);
			break;
		case JSONBOID:
			break;				/* anything */
		default:
			add_type(json, "string", NULL, nullable);
	}
}

static void
add_words(Json *json, const RpcMethod *method, const RpcArgument *argument)
{
	for (int i = 0; i < (int) lengthof(words); i++)
	{
		if (strcmp(words[i].argument, argument->name) != 0 ||
			(words[i].function != NULL && strcmp(words[i].function, method->function) != 0))
			continue;
		json_key(json, "enum");
		json_begin_array(json);
		for (int w = 0; w < (int) lengthof(words[i].words) && words[i].words[w] != NULL; w++)
			json_string(json, words[i].words[w]);
		json_end_array(json);
	}
}

/* The default that the catalog has for an argument, if that is not NULL. */
static void
add_catalog_default(Json *json, const RpcFunction *function, int n)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function->oid));
	bool		isnull;
	Datum		source;
	List	   *defaults;
	Node	   *value;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function->oid);
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);
	defaults = isnull ? NIL : castNode(List, stringToNode(TextDatumGetCString(source)));
	ReleaseSysCache(tuple);
	if (n < function->nargs - list_length(defaults))
		return;
	value = eval_const_expressions(NULL, list_nth(defaults, n - (function->nargs - list_length(defaults))));
	if (IsA(value, Const) && !((Const *) value)->constisnull)
	{
		json_key(json, "default");
		json_value(json, function->args[n].type, ((Const *) value)->constvalue, false);
	}
}

static JsonbValue *
session_default(const RpcSession *session, const RpcMethod *method, const RpcArgument *argument)
{
	return rpc_takes_default(method, argument) ? json_member(session->defaults, argument->name) : NULL;
}

/*
 * The type of an argument, as it is to be given: narrower than what is accepted.  Some
 * models' interfaces, Gemini's first of all, refuse every tool of a server when one
 * argument has two types or a format other than date-time.  So a token is described as
 * what it is now in answers, see json_exact_int().
 */
static void
add_argument_type(Json *json, const RpcMethod *method, const RpcArgument *argument, const RpcSession *session)
{
	if (method->elements != NULL && argument->type == JSONBOID)
	{
		add_type(json, "array", NULL, false);
		json_key(json, "items");
		add_input_schema(json, rpc_find_method(method->elements), session);
	}
	else if (argument->type == JSONBOID)
		add_type(json, "object", NULL, false);	/* models give a string where any type will do */
	else if (argument->type == UUIDOID)
		add_type(json, "string", NULL, false);
	else if (argument->type == UUIDARRAYOID)
	{
		add_type(json, "array", NULL, false);
		json_key(json, "items");
		json_begin_object(json);
		add_type(json, "string", NULL, false);
		json_end_object(json);
	}
	else if (argument->type == INT8OID && coord_numbers_are_long())
	{
		add_type(json, "string", NULL, false);
		json_string_member(json, "pattern", DIGITS);
	}
	else if (argument->type == INT8OID)
		add_type(json, "integer", NULL, false);
	else
		add_value_schema(json, argument->type, false);
	if (argument->type == INTERVALOID)
		json_int_member(json, "minimum", 0);
}

static void
add_argument(Json *json, const RpcMethod *method, int n, const Texts *texts, const RpcSession *session)
{
	const RpcFunction *function = rpc_function(method);
	const RpcArgument *argument = &function->args[n];
	JsonbValue *standing = session_default(session, method, argument);
	char	   *text = for_json(argument_text(texts, function, argument->name));

	if (argument->type == INTERVALOID)
		text = psprintf("Seconds: %s", text);
	if (argument->type == UUIDOID)
		text = psprintf("UUID: %s", text);
	if (argument->type == UUIDARRAYOID)
		text = psprintf("UUIDs: %s", text);
	if (argument->type == INT8OID)
		text = psprintf("%s Give it exactly as it was returned.", text);
	json_key(json, argument->name);
	json_begin_object(json);
	add_argument_type(json, method, argument, session);
	json_string_member(json, "description", text);
	add_words(json, method, argument);
	if (standing != NULL)
		json_jsonb_member(json, "default", JsonbValueToJsonb(standing));
	else
		add_catalog_default(json, function, n);
	json_end_object(json);
}

/* What a bridge does with a claim; see rpc_call(). */
static void
add_wait(Json *json)
{
	json_key(json, "wait");
	json_begin_object(json);
	add_type(json, "number", NULL, false);
	json_int_member(json, "minimum", 0);
	json_int_member(json, "default", 0);
	json_string_member(json, "description",
					   "Seconds: how long to wait for a task to become claimable, if none is; with task_id, for it or its "
					   "resource to become free. 0 does not wait.");
	json_end_object(json);
}

/* "required"; some clients refuse an empty one. */
static void
add_required_arguments(Json *json, const RpcMethod *method, const RpcSession *session)
{
	const RpcFunction *function = rpc_function(method);
	bool		any = false;

	for (int i = 0; i < function->nargs; i++)
	{
		if (!function->args[i].required || session_default(session, method, &function->args[i]) != NULL)
			continue;
		if (!any)
		{
			json_key(json, "required");
			json_begin_array(json);
			any = true;
		}
		json_string(json, function->args[i].name);
	}
	if (any)
		json_end_array(json);
}

static void
add_input_schema(Json *json, const RpcMethod *method, const RpcSession *session)
{
	const RpcFunction *function = rpc_function(method);
	Texts		texts = read_texts(function);

	json_begin_object(json);
	add_type(json, "object", NULL, false);
	json_key(json, "properties");
	json_begin_object(json);
	for (int i = 0; i < function->nargs; i++)
		add_argument(json, method, i, &texts, session);
	if (session->defaults != NULL && strcmp(method->name, "task.claim") == 0)
		add_wait(json);
	json_end_object(json);
	add_required_arguments(json, method, session);
	json_bool_member(json, "additionalProperties", false);
	json_end_object(json);
}

/*
 * "properties" and "required" of an object that has the columns of a row, and what comes with
 * a refusal.  Of the row's type a copy, as the JSON refers to its names to the end.
 */
static void
add_columns(Json *json, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);

	for (int i = 0; i < desc->natts; i++)
	{
		json_key(json, NameStr(TupleDescAttr(desc, i)->attname));
		json_begin_object(json);
		add_value_schema(json, TupleDescAttr(desc, i)->atttypid, true);
		if (TupleDescAttr(desc, i)->atttypid == INTERVALOID)
			json_string_member(json, "description", "Seconds.");
		json_end_object(json);
	}
}

static void
add_column_names(Json *json, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);

	json_key(json, "required");
	json_begin_array(json);
	for (int i = 0; i < desc->natts; i++)
		json_string(json, NameStr(TupleDescAttr(desc, i)->attname));
	json_end_array(json);
}

/* The schema of the member that a result has. */
static void
add_member_schema(Json *json, const RpcMethod *method, Oid type)
{
	json_key(json, method->member);
	json_begin_object(json);
	if (method->shape == RPC_VALUE)
		add_value_schema(json, type, false);
	else
	{
		add_type(json, "array", NULL, false);
		json_key(json, "items");
		json_begin_object(json);
		if (method->shape == RPC_VALUES)
			add_value_schema(json, type, false);
		else
		{
			add_type(json, "object", NULL, false);
			json_key(json, "properties");
			json_begin_object(json);
			add_columns(json, type);
			json_end_object(json);
			add_column_names(json, type);
		}
		json_end_object(json);
	}
	json_end_object(json);
}

static void
add_property(Json *json, const char *name, Oid type, bool nullable)
{
	json_key(json, name);
	json_begin_object(json);
	add_value_schema(json, type, nullable);
	json_end_object(json);
}

static void
add_required(Json *json, const char *const *names, int n)
{
	json_begin_object(json);
	json_key(json, "required");
	json_begin_array(json);
	for (int i = 0; i < n; i++)
		json_string(json, names[i]);
	json_end_array(json);
	json_end_object(json);
}

static void
add_output_schema(Json *json, const RpcMethod *method)
{
	static const char *const of_refusal[] = {"code", "message", "sqlstate", "retryable"};
	Oid			type = rpc_function(method)->result_type;
	bool		is_row = method->shape == RPC_ROW || method->shape == RPC_LEASE;

	json_begin_object(json);
	add_type(json, "object", NULL, false);
	json_key(json, "properties");
	json_begin_object(json);
	if (is_row)
		add_columns(json, type);
	else if (method->member != NULL)
		add_member_schema(json, method, type);
	add_property(json, "code", INT4OID, false);
	add_property(json, "message", TEXTOID, false);
	add_property(json, "sqlstate", TEXTOID, false);
	add_property(json, "retryable", BOOLOID, false);
	json_end_object(json);
	json_key(json, "anyOf");
	json_begin_array(json);
	if (is_row)
	{
		json_begin_object(json);
		add_column_names(json, type);
		json_end_object(json);
	}
	else
		add_required(json, &method->member, method->member != NULL ? 1 : 0);
	add_required(json, of_refusal, lengthof(of_refusal));
	json_end_array(json);
	json_end_object(json);
}
