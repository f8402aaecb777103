/*
 * log.c
 *		The log of coord-mcp, on stderr.
 *
 * Clients show what comes on stderr, write it to a file, or never read it.  So a
 * line is written only when there is room for it: who does not read its log must
 * not stop the bridge, and with it the heartbeats of an agent.  What is logged are
 * events of the bridge, never a message's text, a connection string or a password.
 */
#include "postgres_fe.h"

#include <poll.h>
#include <unistd.h>

#include "log.h"

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static LogLevel min_level = LOG_LEVEL_WARNING;

/* False when there is no such level. */
bool
log_set_level(const char *name)
{
	for (int i = 0; i < (int) lengthof(level_names); i++)
	{
		if (strcmp(name, level_names[i]) == 0)
		{
			min_level = (LogLevel) i;
			return true;
		}
	}
	return false;
}

void
log_write(LogLevel level, const char *fmt,...)
{
	char		line[2048];		/* a pipe that has room has room for that */
	int			len;
	va_list		args;
	struct pollfd stderr_fd = {.fd = STDERR_FILENO,.events = POLLOUT};

	if (level < min_level)
		return;
	len = snprintf(line, sizeof(line), "coord-mcp: %s: ", level_names[level]);
	va_start(args, fmt);
	len += vsnprintf(line + len, sizeof(line) - len, fmt, args);
	va_end(args);
	len = Min(len, (int) sizeof(line) - 1);
	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) line[i] < ' ')
			line[i] = ' ';		/* in a name, say */
	}
	line[len++] = '\n';

	if (poll(&stderr_fd, 1, 0) == 1 && (stderr_fd.revents & POLLOUT) != 0)
		(void) !write(STDERR_FILENO, line, len);
}
