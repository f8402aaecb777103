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
#define COORD_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "coord", .version = "1.0")
#else
#define COORD_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* PostgreSQL 16 has one function for the ownership of all objects. */
#if PG_VERSION_NUM >= 160000
#define coord_owns_database(dbid) object_ownercheck(DatabaseRelationId, (dbid), GetUserId())
#define coord_owns_extension(oid) object_ownercheck(ExtensionRelationId, (oid), GetUserId())
#else
#define coord_owns_database(dbid) pg_database_ownercheck((dbid), GetUserId())
#define coord_owns_extension(oid) pg_extension_ownercheck((oid), GetUserId())
#endif

#endif							/* COORD_COMPAT_H */
