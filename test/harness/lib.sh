# What the harness scripts share: where things are, how they speak to a person.
# shellcheck shell=bash

# shellcheck disable=SC2034  # used by the scripts that read this file
{
	repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
	pg_major=15
	pg_bin=/usr/lib/postgresql/$pg_major/bin
	pg_pgxs=/usr/lib/postgresql/$pg_major/lib/pgxs/src
}

say()
{
	printf 'coord: %s\n' "$*" >&2
}

die()
{
	say "$@"
	exit 1
}
