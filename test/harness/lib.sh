# What the harness scripts share: where things are, how they speak to a person.
#
#   COORD_PG_CONFIG  the pg_config of the server to build for and to test on; by default
#                    that of this Debian release's server.  Beside it are the server's
#                    programs, in ../lib/pgxs the drivers of the tests.
#
# shellcheck shell=bash

debian_pg_config()
{
	local here major=15 version
	here=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
	for version in "${!debian_release[@]}"; do
		[ "${debian_release[$version]}" != "$here" ] || major=$version
	done
	echo "/usr/lib/postgresql/$major/bin/pg_config"
}

# shellcheck disable=SC2034  # used by the scripts that read this file
{
	repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
	# The Debian release that has each version of PostgreSQL.
	declare -A debian_release=([15]=bookworm [17]=trixie [18]=forky)
	pg_config=${COORD_PG_CONFIG:-$(debian_pg_config)}
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

# copy_tree DIRECTORY [tar-option]...: the tree as it is, without what was built or left in
# it.  Of the cache only the packages of Node go along.
copy_tree()
{
	local directory=$1
	shift
	mkdir "$directory"
	tar -C "$repo" -cf - --exclude=./.git --exclude='./test/output*' --exclude=__pycache__ \
		--exclude='./test/cache/server-*' --exclude='./test/cache/chroot-*' "$@" \
		--exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude='*.bc' . |
		tar -C "$directory" -xf - --no-same-owner
	chmod -R u+rwX "$directory"
}
