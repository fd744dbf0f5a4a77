# Runs "$@" where the user's systemd runs, as process 1 of namespaces of its own: sees to
# directories, control groups and a journal for the two, and takes all of it away at the end.
# $1 is a name for the control group, $2 an empty directory.
set -eu
name=$1 dir=$2
shift 2
tries=6000 # of what is waited for, each 20 ms and more

# again waits for the next one of $1 tries for $2, and ends all when there was enough of them.
again() {
	[ "$1" -lt $tries ] || {
		echo "gave up waiting for $2" >&2
		exit 1
	}
	sleep 0.02
}

mount -t tmpfs tmpfs /run
export XDG_RUNTIME_DIR=/run/user/0 XDG_CONFIG_HOME="$dir/config"
unset DBUS_SESSION_BUS_ADDRESS
# The first says to all that systemd has started this machine, see sd_booted(3).
mkdir -p /run/systemd/system "$XDG_CONFIG_HOME" /run/systemd/journald.conf.d
mkdir -p -m 700 "$XDG_RUNTIME_DIR"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/$name.slice
manager=$group/user-0.slice/user@0.service # the journal knows units of a user by such a path
mkdir -p "$manager"
clear() {
	echo 1 >"$group/cgroup.kill"
	kill ${journal:-} 2>/dev/null || true
	wait
	try=0
	until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
		again $((try += 1)) "the control groups to be empty"
	done
}
trap clear EXIT

printf '[Journal]\nStorage=volatile\nAudit=no\nForwardToWall=no\n' >/run/systemd/journald.conf.d/test.conf
mount --bind /dev/null /dev/kmsg 2>/dev/null || true # what the kernel says is not ours
/lib/systemd/systemd-journald &
journal=$!
try=0
while ! [ -S /run/systemd/journal/stdout ]; do
	kill -0 $journal
	again $((try += 1)) "the journal"
done
sh -c 'echo $$ >"$1/cgroup.procs" && exec /lib/systemd/systemd --user' sh "$manager" &
systemd=$!
try=0
until systemctl --user is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'; do # degraded by what else is installed
	kill -0 $systemd
	again $((try += 1)) "systemd to run"
done

code=0
"$@" || code=$?
[ $code -eq 0 ] || {
	systemd-analyze --user verify "$XDG_CONFIG_HOME"/systemd/user/*.service
	journalctl --no-pager --quiet --lines=50
} >&2 || true
exit $code
