/*
 * lines.h
 *		The client's lines on stdin, and ours on stdout.
 */
#ifndef COORD_MCP_LINES_H
#define COORD_MCP_LINES_H

/* A line of that many bytes is not read. */
#define LINE_MAX_LENGTH (10 * 1000 * 1000)

typedef enum LineStatus
{
	LINE_READ,
	LINE_TOO_LONG,
	LINE_NONE					/* no whole line is there yet, or none any more */
} LineStatus;

extern void lines_read(void);
extern bool lines_at_end(void);
extern LineStatus lines_next(char **line, size_t *len);

extern void lines_put(const char *line, size_t len);
extern size_t lines_pending(void);
extern bool lines_write(void);
extern void lines_close(void);
extern bool lines_closed(void);

#endif							/* COORD_MCP_LINES_H */
