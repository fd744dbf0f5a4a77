#!/bin/sh
# Starts and stops a private PostgreSQL for tests.
#
#   postgres.sh start DIR   make a server in DIR, or start the one that is there;
#                           its URL goes to standard output
#   postgres.sh stop DIR    stop it
#   postgres.sh crash DIR   end it at once, as its death would; start recovers it
#
# The server listens on a unix socket only, and writes nothing to disk before it
# must, so that a crash loses all that it may lose. As root it runs as the user postgres.
# With CI set, a missing PostgreSQL is installed.
set -eu

usage() {
	sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

[ $# -eq 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)

# bin prints the directory of the newest server binaries.
bin() {
	for d in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn) $(echo "$PATH" | tr : ' '); do
		if [ -x "$d/initdb" ] && [ -x "$d/pg_ctl" ]; then
			echo "$d"
			return
		fi
	done
}

install() {
	root=
	[ "$(id -u)" -eq 0 ] || root=sudo
	export DEBIAN_FRONTEND=noninteractive
	$root apt-get update >&2
	$root apt-get install -y --no-install-recommends postgresql >&2
}

# as_owner runs a command as whoever may run the server.
as_owner() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd / && runuser -u postgres -- "$@")
	else
		"$@"
	fi
}

if [ -z "$(bin)" ] && [ -n "${CI:-}" ]; then
	install
fi
bin=$(bin)
if [ -z "$bin" ]; then
	echo "postgres.sh: no PostgreSQL found; install the package postgresql" >&2
	exit 1
fi

# A socket's path may have about a hundred bytes.
socket() {
	if [ ${#dir} -le 80 ]; then
		echo "$dir/socket"
	elif [ -f "$dir/socket.at" ]; then
		cat "$dir/socket.at"
	else
		mktemp -d /tmp/navvy-postgres.XXXXXX | tee "$dir/socket.at"
	fi
}

start() {
	socket=$(socket)
	mkdir -p "$socket"
	chmod 700 "$socket"
	if [ "$(id -u)" -eq 0 ]; then
		chown postgres "$dir" "$socket"
	fi
	if [ ! -f "$dir/data/PG_VERSION" ]; then
		as_owner "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log"
	fi
	as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/log" -w -t 60 \
		-o "-c listen_addresses='' -c wal_writer_delay=10s -c unix_socket_directories='$socket' -c unix_socket_permissions=0700" start >&2
	echo "postgres://postgres@/postgres?host=$socket"
}

case $verb in
start) start ;;
stop)
	as_owner "$bin/pg_ctl" -D "$dir/data" -m fast -w stop >&2
	if [ -f "$dir/socket.at" ]; then
		rm -rf "$(cat "$dir/socket.at")" "$dir/socket.at"
	fi
	;;
crash)
	if as_owner "$bin/pg_ctl" -D "$dir/data" status >/dev/null; then
		as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >&2 || true
	fi
	;;
*) usage ;;
esac
