/*
 * compat.h
 *		The only place that tests PG_VERSION_NUM.
 */
#ifndef COORD_COMPAT_H
#define COORD_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "coord needs PostgreSQL 15 or newer"
#endif

/* PostgreSQL 18 lets a module say its name and version. */
#if PG_VERSION_NUM >= 180000
#define COORD_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "coord", .version = COORD_VERSION)
#else
#define COORD_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* PostgreSQL 18 says before a declaration that a function does not return. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* PostgreSQL 16 has one function for the ownership of all objects, and one for privileges. */
#if PG_VERSION_NUM >= 160000
#define coord_owns_database(dbid) object_ownercheck(DatabaseRelationId, (dbid), GetUserId())
#define coord_owns_extension(oid) object_ownercheck(ExtensionRelationId, (oid), GetUserId())
#define coord_may_use_schema(oid, role) (object_aclcheck(NamespaceRelationId, (oid), (role), ACL_USAGE) == ACLCHECK_OK)
#define coord_may_execute(oid, role) (object_aclcheck(ProcedureRelationId, (oid), (role), ACL_EXECUTE) == ACLCHECK_OK)
#define coord_may_connect(oid, role) (object_aclcheck(DatabaseRelationId, (oid), (role), ACL_CONNECT) == ACLCHECK_OK)
#else
#define coord_may_use_schema(oid, role) (pg_namespace_aclcheck((oid), (role), ACL_USAGE) == ACLCHECK_OK)
#define coord_may_execute(oid, role) (pg_proc_aclcheck((oid), (role), ACL_EXECUTE) == ACLCHECK_OK)
#define coord_may_connect(oid, role) (pg_database_aclcheck((oid), (role), ACL_CONNECT) == ACLCHECK_OK)
#define coord_owns_database(dbid) pg_database_ownercheck((dbid), GetUserId())
#define coord_owns_extension(oid) pg_extension_ownercheck((oid), GetUserId())
#endif

/* PostgreSQL 16 names files anew, tells which indexes an update concerns, and is told which to write. */
#if PG_VERSION_NUM >= 160000
#define coord_file_of(rel) ((rel)->rd_locator.relNumber)
#define CoordUpdateIndexes TU_UpdateIndexes
#define coord_only_summarizing(update_indexes) ((update_indexes) == TU_Summarizing)
#define coord_insert_index_tuples(relinfo, slot, estate, update, only_summarizing) \
	((void) ExecInsertIndexTuples((relinfo), (slot), (estate), (update), false, NULL, NIL, (only_summarizing)))
#else
#define coord_file_of(rel) ((rel)->rd_node.relNode)
#define CoordUpdateIndexes bool
#define coord_only_summarizing(update_indexes) false
#define coord_insert_index_tuples(relinfo, slot, estate, update, only_summarizing) \
	((void) (only_summarizing), (void) ExecInsertIndexTuples((relinfo), (slot), (estate), (update), false, NULL, NIL))
#endif

/* Up to PostgreSQL 17 the executor is told whether a statement is run once only. */
#if PG_VERSION_NUM >= 180000
#define COORD_RUN_ONCE_PARAM
#define COORD_RUN_ONCE_ARG
#else
#define COORD_RUN_ONCE_PARAM , bool once
#define COORD_RUN_ONCE_ARG , once
#endif

/* PostgreSQL 18 counts an index scan's searches for EXPLAIN, if told where. */
#if PG_VERSION_NUM >= 180000
#define coord_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan((rel), (index), (snapshot), NULL, (nkeys), 0)
#else
#define coord_index_beginscan(rel, index, snapshot, nkeys) index_beginscan((rel), (index), (snapshot), (nkeys), 0)
#endif

/* PostgreSQL 17 also asks whether a stronger lock would do. */
#if PG_VERSION_NUM >= 170000
#define coord_lock_held(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define coord_lock_held(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* PostgreSQL 17 lets an extension name what it waits for. */
#if PG_VERSION_NUM >= 170000
#define coord_new_wait_event(name) WaitEventExtensionNew(name)
#else
#define coord_new_wait_event(name) ((void) (name), PG_WAIT_EXTENSION)
#endif

/* PostgreSQL 17 changed how a JSON lexer for frontends is made and freed. */
#ifdef FRONTEND
#if PG_VERSION_NUM >= 170000
#define coord_json_lexer(text, len, decode) makeJsonLexContextCstringLen(NULL, (text), (len), PG_UTF8, (decode))
#define coord_json_lexer_free(lex) freeJsonLexContext(lex)
#else
#define coord_json_lexer(text, len, decode) \
	makeJsonLexContextCstringLen(unconstify(char *, (text)), (len), PG_UTF8, (decode))
#define coord_json_lexer_free(lex) \
	do { \
		if ((lex)->strval != NULL) \
			pfree((lex)->strval->data); \
		if ((lex)->strval != NULL) \
			pfree((lex)->strval); \
		pfree(lex); \
	} while (0)
#endif
#endif

#endif							/* COORD_COMPAT_H */
