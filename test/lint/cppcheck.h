/*
 * cppcheck.h
 *		What cppcheck must know of PostgreSQL's headers, which it does not read: they are
 *		large, and its own complaints of them would be many.
 */
#define PG_VERSION_NUM 150000
#define FLEXIBLE_ARRAY_MEMBER
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define pg_attribute_noreturn() __attribute__((noreturn))
#define pg_attribute_printf(f, a)
#define PG_FUNCTION_INFO_V1(function)

#define foreach(cell, list) for ((cell) = list_head(list); (cell) != 0; (cell) = lnext(list, cell))
#define dlist_foreach(i, list) for ((i).cur = dlist_first(list); (i).cur != 0; (i).cur = dlist_after((i).cur))
#define dlist_foreach_modify(i, list) dlist_foreach(i, list)

#define ERROR 21
#define ereport(level, ...) do { __VA_ARGS__; if ((level) >= ERROR) abort(); } while (0)
#define elog(level, ...) ereport(level, errmsg(__VA_ARGS__))
#define PG_TRY() do { if (begin_try()) {
#define PG_CATCH() } else {
#define PG_FINALLY() } {
#define PG_END_TRY() } } while (0)
