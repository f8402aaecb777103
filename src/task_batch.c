/*
 * task_batch.c
 *		The arrays that task_create_many and task_complete_many take: reading
 *		them, and the order in which tasks can be created.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/numeric.h"

#include "args.h"
#include "errors.h"
#include "task.h"

/* reads one member, which is not null, of the object of that number into an element of the result */
typedef void (*MemberReader) (void *element, const char *key, JsonbValue *value, int number);

static void read_member(void *element, const char *key, JsonbValue *value, int number);
static void read_completion_member(void *element, const char *key, JsonbValue *value, int number);

static void
bad_member(int number, const char *key, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument("tasks"),
			 errmsg("argument \"tasks\" is not valid"),
			 errdetail("Member \"%s\" of task %d must be %s.", key, number, expected)));
}

static void
missing_member(int number, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 coord_errargument("tasks"),
			 errmsg("argument \"tasks\" is not valid"),
			 errdetail("Task %d has no \"%s\".", number, key)));
}

static void
unknown_member(int number, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 coord_errargument("tasks"),
			 errmsg("argument \"tasks\" is not valid"),
			 errdetail("Task %d has the unknown member \"%s\".", number, key)));
}

/* Read a JSON array of objects into an array of zeroed elements of that size. */
static void *
read_objects(Jsonb *tasks, Size size, MemberReader reader, int *n)
{
	char	   *elements;
	JsonbIterator *iterator;
	JsonbValue	object;
	int			i = 0;

	if (!JB_ROOT_IS_ARRAY(tasks) || JB_ROOT_IS_SCALAR(tasks))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 coord_errargument("tasks"),
				 errmsg("argument \"tasks\" must be a JSON array")));
	*n = JB_ROOT_COUNT(tasks);
	elements = palloc_extended(size * Max(*n, 1), MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);

	iterator = JsonbIteratorInit(&tasks->root);
	(void) JsonbIteratorNext(&iterator, &object, true);
	while (JsonbIteratorNext(&iterator, &object, true) == WJB_ELEM)
	{
		JsonbIterator *members;
		JsonbValue	key;
		JsonbValue	value;

		CHECK_FOR_INTERRUPTS();
		if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 coord_errargument("tasks"),
					 errmsg("argument \"tasks\" is not valid"),
					 errdetail("Task %d is not an object.", i + 1)));
		members = JsonbIteratorInit(object.val.binary.data);
		(void) JsonbIteratorNext(&members, &key, true);
		while (JsonbIteratorNext(&members, &key, true) == WJB_KEY)
		{
			(void) JsonbIteratorNext(&members, &value, true);
			if (value.type != jbvNull)
				reader(elements + size * i, pnstrdup(key.val.string.val, key.val.string.len), &value, i + 1);
		}
		i++;
	}
	return elements;
}

/* The tasks that a JSON array of objects describes. */
TaskSpec *
coord_task_specs(Jsonb *tasks, int *n)
{
	TaskSpec   *specs = read_objects(tasks, sizeof(TaskSpec), read_member, n);
	Jsonb	   *empty = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));

	for (int i = 0; i < *n; i++)
	{
		if (specs[i].type == NULL)
			missing_member(i + 1, "type");
		if (specs[i].payload == NULL)
			specs[i].payload = empty;
		if (!specs[i].has_run_at)
			specs[i].run_at = DT_NOBEGIN;
	}
	return specs;
}

/* The completions that a JSON array of objects describes. */
TaskCompletion *
coord_task_completions(Jsonb *tasks, int *n)
{
	TaskCompletion *completions = read_objects(tasks, sizeof(TaskCompletion), read_completion_member, n);

	for (int i = 0; i < *n; i++)
	{
		if (!completions[i].has_id)
			missing_member(i + 1, "task_id");
		if (!completions[i].has_token)
			missing_member(i + 1, "fencing_token");
	}
	return completions;
}

static char *
string_member(JsonbValue *value, const char *key, int number)
{
	if (value->type != jbvString)
		bad_member(number, key, "a string");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int
int_member(JsonbValue *value, const char *key, int number)
{
	bool		error = true;
	int			result = 0;

	if (value->type == jbvNumeric)
	{
		Datum		number_value = NumericGetDatum(value->val.numeric);
		Datum		truncated = DirectFunctionCall2(numeric_trunc, number_value, Int32GetDatum(0));

		if (DatumGetBool(DirectFunctionCall2(numeric_eq, number_value, truncated)))
			result = numeric_int4_opt_error(value->val.numeric, &error);
	}
	if (error)
		bad_member(number, key, "an integer");
	return result;
}

/* A payload, which takes no more memory than it has bytes: there may be very many. */
static Jsonb *
payload_member(JsonbValue *value, const char *key)
{
	Jsonb	   *payload = coord_check_payload(JsonbValueToJsonb(value), key);
	Jsonb	   *copy = palloc(VARSIZE(payload));

	memcpy(copy, payload, VARSIZE(payload));
	pfree(payload);
	return copy;
}

/* Read a string by a type's input function, which has no effects, so that its error can be replaced. */
static Datum
input_member(PGFunction input, JsonbValue *value, const char *key, int number, const char *expected)
{
	char	   *string = string_member(value, key, number);
	MemoryContext context = CurrentMemoryContext;
	volatile Datum result = (Datum) 0;
	volatile bool failed = false;

	PG_TRY();
	{
		result = DirectFunctionCall3(input, CStringGetDatum(string), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	if (failed)
		bad_member(number, key, expected);
	return result;
}

static pg_uuid_t
uuid_member(JsonbValue *value, const char *key, int number)
{
	return *DatumGetUUIDP(input_member(uuid_in, value, key, number, "a uuid"));
}

static void
read_depends_on(TaskSpec *spec, JsonbValue *value, int number)
{
	JsonbIterator *iterator;
	JsonbValue	element;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		bad_member(number, "depends_on", "an array of task ids");
	spec->depends_on.ids = palloc(sizeof(pg_uuid_t) * Max(JsonContainerSize(value->val.binary.data), 1));
	iterator = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&iterator, &element, true);
	while (JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM)
	{
		if (element.type != jbvString)
			bad_member(number, "depends_on", "an array of task ids");
		spec->depends_on.ids[spec->depends_on.n++] = uuid_member(&element, "depends_on", number);
	}
}

/* A token is a number, or a string of digits: JavaScript has no integers of that size. */
static int64
token_member(JsonbValue *value, const char *key, int number)
{
	char	   *digits = value->type == jbvNumeric ?
		DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))) :
		string_member(value, key, number);
	char	   *end;
	int64		token;

	errno = 0;
	token = strtoi64(digits, &end, 10);
	if (errno != 0 || end == digits || *end != '\0')
		bad_member(number, key, "an integer");
	return token;
}

/* Of task_complete_many. */
static void
read_completion_member(void *element, const char *key, JsonbValue *value, int number)
{
	TaskCompletion *completion = element;

	if (strcmp(key, "task_id") == 0)
	{
		completion->id = uuid_member(value, key, number);
		completion->has_id = true;
	}
	else if (strcmp(key, "fencing_token") == 0)
	{
		completion->token = token_member(value, key, number);
		completion->has_token = true;
	}
	else if (strcmp(key, "result") == 0)
		completion->result = payload_member(value, key);
	else
		unknown_member(number, key);
}

/* Of task_create_many. */
static void
read_member(void *element, const char *key, JsonbValue *value, int number)
{
	TaskSpec   *spec = element;

	if (strcmp(key, "type") == 0)
		spec->type = coord_check_name(string_member(value, key, number), key);
	else if (strcmp(key, "payload") == 0)
		spec->payload = payload_member(value, key);
	else if (strcmp(key, "queue") == 0)
		spec->queue = coord_check_name(string_member(value, key, number), key);
	else if (strcmp(key, "priority") == 0)
		spec->priority = int_member(value, key, number);
	else if (strcmp(key, "run_at") == 0)
	{
		spec->has_run_at = true;
		spec->run_at = coord_check_instant(DatumGetTimestampTz(input_member(timestamptz_in, value, key, number,
																			"a timestamp")), key);
	}
	else if (strcmp(key, "max_attempts") == 0)
	{
		spec->max_attempts = int_member(value, key, number);
		if (spec->max_attempts < 1 || spec->max_attempts > COORD_MAX_ATTEMPTS)
			bad_member(number, key, psprintf("between 1 and %d", COORD_MAX_ATTEMPTS));
	}
	else if (strcmp(key, "unique_key") == 0)
		spec->unique_key = coord_check_name(string_member(value, key, number), key);
	else if (strcmp(key, "depends_on") == 0)
		read_depends_on(spec, value, number);
	else if (strcmp(key, "resource_key") == 0)
		spec->resource_key = coord_check_name(string_member(value, key, number), key);
	else if (strcmp(key, "id") == 0)
	{
		spec->id = uuid_member(value, key, number);
		(void) coord_check_new_id(&spec->id);
		spec->has_id = true;
	}
	else
		unknown_member(number, key);
}

/* ---- the order ---- */

typedef struct BatchEntry
{
	pg_uuid_t	id;
	int			index;
} BatchEntry;

/* what depends on what within an array, by index */
typedef struct BatchGraph
{
	int			n;
	int		   *nwaits;			/* for each task, on how many that are not placed it depends */
	int64	   *first;			/* where its dependants begin; of one more, where the last one's end */
	int		   *dependants;
} BatchGraph;

static void *
alloc_array(Size size, int64 n)
{
	return palloc_extended(mul_size(size, Max(n, 1)), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* The index of a dependency; -1 when it is not in the array. */
static int
find_dependency(HTAB *by_id, const TaskSpec *spec, int j)
{
	BatchEntry *entry = hash_search(by_id, &spec->depends_on.ids[j], HASH_FIND, NULL);

	return entry == NULL ? -1 : entry->index;
}

static BatchGraph
make_graph(const TaskSpec *specs, int n, HTAB *by_id)
{
	BatchGraph	graph = {n, alloc_array(sizeof(int), n), alloc_array(sizeof(int64), (int64) n + 1), NULL};

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < specs[i].depends_on.n; j++)
		{
			int			dependency = find_dependency(by_id, &specs[i], j);

			if (dependency >= 0)
			{
				graph.first[dependency]++;
				graph.nwaits[i]++;
			}
		}
	}

	/* from how many there are to where they end, and from there back as they are entered */
	for (int i = 0; i < n; i++)
		graph.first[i + 1] += graph.first[i];
	graph.dependants = alloc_array(sizeof(int), graph.first[n]);
	for (int i = n - 1; i >= 0; i--)
	{
		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < specs[i].depends_on.n; j++)
		{
			int			dependency = find_dependency(by_id, &specs[i], j);

			if (dependency >= 0)
				graph.dependants[--graph.first[dependency]] = i;
		}
	}
	return graph;
}

/* Of tasks that could not be placed, one that depends on itself, directly or not. */
static int
find_in_cycle(const TaskSpec *specs, const BatchGraph *graph, HTAB *by_id)
{
	bool	   *seen = alloc_array(sizeof(bool), graph->n);
	int			i = 0;

	while (graph->nwaits[i] == 0)
		i++;

	/* each has a dependency that was not placed either: who is met again is in the cycle */
	while (!seen[i])
	{
		CHECK_FOR_INTERRUPTS();
		seen[i] = true;
		for (int j = 0; j < specs[i].depends_on.n; j++)
		{
			int			dependency = find_dependency(by_id, &specs[i], j);

			if (dependency >= 0 && graph->nwaits[dependency] > 0)
			{
				i = dependency;
				break;
			}
		}
	}
	return i;
}

/*
 * In which pass over the array each task can be placed: one places all but what depends
 * on something further on, or on what waits for a later pass.  False when there is a cycle.
 */
static bool
find_passes(BatchGraph *graph, int *passes)
{
	int		   *placed = alloc_array(sizeof(int), graph->n);
	int			nplaced = 0;

	for (int i = 0; i < graph->n; i++)
	{
		if (graph->nwaits[i] == 0)
			placed[nplaced++] = i;
	}
	for (int next = 0; next < nplaced; next++)
	{
		int			i = placed[next];

		CHECK_FOR_INTERRUPTS();
		for (int64 at = graph->first[i]; at < graph->first[i + 1]; at++)
		{
			int			dependant = graph->dependants[at];

			passes[dependant] = Max(passes[dependant], passes[i] + (i > dependant ? 1 : 0));
			if (--graph->nwaits[dependant] == 0)
				placed[nplaced++] = dependant;
		}
	}
	return nplaced == graph->n;
}

/* The indexes in the order of their passes, and of the array within each. */
static int *
order_by_pass(const int *passes, int n)
{
	int		   *starts = alloc_array(sizeof(int), (int64) n + 1);
	int		   *order = alloc_array(sizeof(int), n);

	for (int i = 0; i < n; i++)
		starts[passes[i] + 1]++;
	for (int i = 0; i < n; i++)
		starts[i + 1] += starts[i];
	for (int i = 0; i < n; i++)
		order[starts[passes[i]]++] = i;
	return order;
}

/*
 * An order in which every task comes after those of the array that it depends
 * on, which may come later in the array; otherwise the array's own.  Error when
 * there is none.
 */
int *
coord_task_order(const TaskSpec *specs, int n)
{
	HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(BatchEntry), .hcxt = CurrentMemoryContext};
	HTAB	   *by_id = hash_create("tasks of a batch", Max(n, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int		   *passes = alloc_array(sizeof(int), n);
	BatchGraph	graph;

	for (int i = 0; i < n; i++)
	{
		if (specs[i].has_id)
			((BatchEntry *) hash_search(by_id, &specs[i].id, HASH_ENTER, NULL))->index = i;
	}
	graph = make_graph(specs, n, by_id);
	if (!find_passes(&graph, passes))
		coord_error_dependency_cycle(&specs[find_in_cycle(specs, &graph, by_id)].id);
	hash_destroy(by_id);
	return order_by_pass(passes, n);
}
