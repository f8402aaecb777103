/*
 * timer.c
 *		Instants and delays of coord-mcp, in milliseconds.
 *
 * Instants are of a clock that nobody sets; what the server says of its own clock is
 * only used as the difference of two of its instants.
 */
#include "postgres_fe.h"

#include <time.h>
#include <unistd.h>

#include "common/pg_prng.h"
#include "timer.h"

int64
timer_now(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Random bits, other ones in each process.  They name agents and spread retries, and
 * keep no secret.
 */
uint32
timer_random(void)
{
	static pg_prng_state state;
	static bool seeded = false;

	if (!seeded)
	{
		struct timespec now;

		(void) clock_gettime(CLOCK_REALTIME, &now);
		pg_prng_seed(&state, ((uint64) getpid() << 40) ^ ((uint64) now.tv_sec << 30) ^ (uint64) now.tv_nsec);
		seeded = true;
	}
	return pg_prng_uint32(&state);
}

/* Half of the delay at least, so that those who were refused together do not come back together. */
int64
timer_jitter(int64 delay)
{
	return delay / 2 + timer_random() % (delay - delay / 2 + 1);
}
