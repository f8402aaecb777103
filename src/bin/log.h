/*
 * log.h
 *		The log of coord-mcp, on stderr.
 */
#ifndef COORD_MCP_LOG_H
#define COORD_MCP_LOG_H

typedef enum LogLevel
{
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR
} LogLevel;

extern bool log_set_level(const char *name);
extern void log_write(LogLevel level, const char *fmt,...) pg_attribute_printf(2, 3);

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif							/* COORD_MCP_LOG_H */
