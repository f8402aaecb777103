# What the harness scripts share: where things are, how they speak to a person.
#
#   COORD_PG_CONFIG  the pg_config of the server to build for and to test on; Debian's
#                    15 by default.  Beside it are the server's programs, in
#                    ../lib/pgxs the drivers of the tests.
#
# shellcheck shell=bash

# shellcheck disable=SC2034  # used by the scripts that read this file
{
	repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
	pg_config=${COORD_PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
	pg_bin=${pg_config%/*}
	pg_pgxs=${pg_bin%/bin}/lib/pgxs/src
	# Debian's may have yet to be installed.
	case $pg_config in
		/usr/lib/postgresql/*) pg_major=${pg_config#/usr/lib/postgresql/} ;;
		*) pg_major=$("$pg_config" --version) && pg_major=${pg_major#PostgreSQL } ;;
	esac
	pg_major=${pg_major%%[!0-9]*}
}

# Programs that were built with AddressSanitizer: what they leave to their end is no leak.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1

say()
{
	printf 'coord: %s\n' "$*" >&2
}

die()
{
	say "$@"
	exit 1
}
