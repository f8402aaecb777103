# Chroots with a Debian release, for scripts of the harness that need a system of their own.
#
# All that happens in a chroot happens in namespaces of its own for processes and mounts: with
# the first process there, which is killed when the script ends, however it ends, the kernel
# ends all others and drops the mounts.
#
# shellcheck shell=bash

mirror=http://deb.debian.org/debian
child=

# in_namespaces COMMAND...: in the background, as $child.
in_namespaces()
{
	setpriv --pdeathsig KILL unshare --mount --pid --ipc --fork --kill-child "$@" <&0 &
	child=$!
}

# The child is one of unshare, which ends with it.
wait_for_child()
{
	local status=0
	wait "$child" || status=$?
	child=
	return "$status"
}

end_child()
{
	if [ -n "$child" ]; then
		kill -KILL "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
}

# bootstrap RELEASE DIRECTORY LOG: debootstrap knows the newest releases only by the name of sid.
bootstrap()
{
	local script=/usr/share/debootstrap/scripts/$1
	say "making a chroot with Debian $1"
	[ -e "$script" ] || script=${script%/*}/sid
	in_namespaces debootstrap --variant=minbase "$1" "$2" "$mirror" "$script" >"$3"
	wait_for_child || {
		tail -n 20 "$3" >&2
		return 1
	}
}

# use_host_network ROOT: what apt needs there.
use_host_network()
{
	cp /etc/resolv.conf /etc/hosts "$1/etc/"
	# a mirror may be a copy of an earlier day
	echo 'Acquire::Check-Valid-Until "false";' >"$1/etc/apt/apt.conf.d/90-old-mirror"
}

# With an environment of its own: this machine's is for another system.
# shellcheck disable=SC2034  # used by the scripts that read this file
chroot_environment=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8)
