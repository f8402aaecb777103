/*
 * clock.c
 *		A wall clock that can be stepped, of all processes of a server at the same instant.
 *
 * Loaded by LD_PRELOAD, it adds to the true time what is in the file that $TORTURE_CLOCK
 * names: microseconds, a native int64, which all map.  The monotonic clock stays as it is.
 *
 * libfaketime would be enough, but for two things.  While it waits in select() for the caller,
 * it shows the true time; up to version 15 the postmaster starts workers from signal handlers
 * that run there, and these see the true time for all their life.  And processes read its
 * file one by one, so that nobody knows which of them sees a step when.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *offset;

__attribute__((constructor)) static void
map_offset(void)
{
	const char *path = getenv("TORTURE_CLOCK");
	int			file = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *map;

	if (file < 0)
		return;
	map = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (map != MAP_FAILED)
		offset = map;
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
	int64_t		usec;

	if (syscall(SYS_clock_gettime, id, now) != 0)
		return -1;
	if (offset == NULL || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
		return 0;
	usec = now->tv_sec * INT64_C(1000000) + now->tv_nsec / 1000 + __atomic_load_n(offset, __ATOMIC_RELAXED);
	now->tv_sec = usec / 1000000;
	now->tv_nsec = usec % 1000000 * 1000 + now->tv_nsec % 1000;
	return 0;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone __attribute__((unused)))
{
	struct timespec precise;

	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result != NULL)
		*result = now.tv_sec;
	return now.tv_sec;
}
