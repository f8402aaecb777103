/*
 * lines.c
 *		The client's lines on stdin, and ours on stdout.
 *
 * Neither is made non-blocking: that would change it for all who share the open file,
 * a terminal for instance.  Instead a read is made only when poll(2) has said that there
 * is something, and a write only of as much as it says that there is room for.  So the
 * bridge never waits for a client that does not read; it keeps what is to be written,
 * and main() stops reading requests while that is much.
 */
#include "postgres_fe.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "lib/stringinfo.h"

#include "lines.h"
#include "log.h"

#define READ_SIZE 65536

/* poll(2) reports a pipe writable when it has room for so much. */
#ifdef PIPE_BUF
#define WRITE_SIZE PIPE_BUF
#else
#define WRITE_SIZE 512
#endif

static struct
{
	char	   *data;
	size_t		size;
	size_t		start;			/* of the next line */
	size_t		scanned;		/* there is no newline from start to here */
	size_t		end;
	bool		skipping;		/* the rest of a line that is too long */
	bool		at_end;
} input;

static struct
{
	StringInfoData data;
	int			start;			/* of what is still to be written */
	bool		closed;
} output;

/* Read what is there.  To be called when stdin is readable. */
void
lines_read(void)
{
	ssize_t		n;

	if (input.start > 0)
	{
		memmove(input.data, input.data + input.start, input.end - input.start);
		input.scanned -= input.start;
		input.end -= input.start;
		input.start = 0;
	}
	if (input.size - input.end < READ_SIZE)
	{
		input.size = Max(input.size * 2, 2 * READ_SIZE);
		input.data = pg_realloc(input.data, input.size);
	}

	n = read(STDIN_FILENO, input.data + input.end, READ_SIZE);
	if (n > 0)
		input.end += n;
	else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
	{
		if (n < 0)
			log_error("could not read stdin: %s", strerror(errno));
		input.at_end = true;
	}
}

/* Is all read that there will be? */
bool
lines_at_end(void)
{
	return input.at_end;
}

/* Take the next line, to be freed by the caller.  At the end a newline may be missing. */
LineStatus
lines_next(char **line, size_t *len)
{
	for (;;)
	{
		char	   *newline = NULL;
		size_t		end;

		if (input.end > input.scanned)
			newline = memchr(input.data + input.scanned, '\n', input.end - input.scanned);
		end = newline != NULL ? (size_t) (newline - input.data) : input.end;
		input.scanned = newline != NULL ? end + 1 : end;

		if (input.skipping)
		{
			input.start = input.scanned;
			input.skipping = newline == NULL;
			if (newline == NULL)
				return LINE_NONE;
			continue;
		}
		if (end - input.start >= LINE_MAX_LENGTH)
		{
			input.start = input.scanned;
			input.skipping = newline == NULL;
			return LINE_TOO_LONG;
		}
		if (newline == NULL && (!input.at_end || end == input.start))
			return LINE_NONE;

		*len = end - input.start;
		*line = pg_malloc(*len + 1);
		memcpy(*line, input.data + input.start, *len);
		(*line)[*len] = '\0';
		input.start = input.scanned;
		return LINE_READ;
	}
}

/* Add a line to what is to be written.  Between the tokens of JSON, where alone it may be, a line's end is a space. */
void
lines_put(const char *line, size_t len)
{
	if (output.closed)
		return;
	if (output.data.data == NULL)
		initStringInfo(&output.data);
	if (output.start > 0)
	{
		output.data.len -= output.start;
		memmove(output.data.data, output.data.data + output.start, output.data.len);
		output.start = 0;
	}
	appendBinaryStringInfo(&output.data, line, (int) len);
	for (char *end = output.data.data + output.data.len - len; (end = memchr(end, '\n', output.data.data + output.data.len - end)) != NULL;)
		*end = ' ';
	appendStringInfoChar(&output.data, '\n');
}

/* How much is still to be written? */
size_t
lines_pending(void)
{
	return output.closed ? 0 : output.data.len - output.start;
}

/* Write as much as there is room for; false when there was none. */
bool
lines_write(void)
{
	bool		any = false;

	while (lines_pending() > 0)
	{
		struct pollfd stdout_fd = {.fd = STDOUT_FILENO,.events = POLLOUT};
		ssize_t		n;

		if (poll(&stdout_fd, 1, 0) != 1)
			break;
		n = write(STDOUT_FILENO, output.data.data + output.start, Min(lines_pending(), WRITE_SIZE));
		if (n > 0)
		{
			output.start += n;
			any = true;
		}
		else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)
		{
			if (errno != EPIPE)
				log_error("could not write to stdout: %s", strerror(errno));
			output.closed = true;
		}
		else
			break;
	}
	if (lines_pending() == 0 && output.data.data != NULL)
	{
		resetStringInfo(&output.data);
		output.start = 0;
	}
	return any;
}

/* Nobody reads our stdout any more. */
void
lines_close(void)
{
	output.closed = true;
}

/* Has the client closed our stdout? */
bool
lines_closed(void)
{
	return output.closed;
}
