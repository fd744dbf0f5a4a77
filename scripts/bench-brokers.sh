#!/usr/bin/env bash
# bench-brokers.sh [ARG…]: navvy's worker without a server beside Celery and asynq, on the
# same brokers, in one run (scripts/bench_brokers.py, which takes the arguments; --help lists
# them). Brokers and Celery are of Debian's packages; what is missing is left out, and with
# CI set it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${NAVVY_TEST_PYTHON:-/usr/bin/python3}
packages=(python3-celery python3-redis redis-server rabbitmq-server)

lacks() {
	! "$python" -c 'import celery, redis' 2>/dev/null || ! command -v redis-server >/dev/null ||
		[[ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]
}

if lacks && [[ -n ${CI:-} ]]; then
	root=''
	[[ $(id -u) -eq 0 ]] || root='sudo -n'
	export DEBIAN_FRONTEND=noninteractive
	$root apt-get update >&2
	$root apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi
if lacks; then
	echo "bench-brokers: some peers or brokers are missing and are left out; apt-get install --no-install-recommends ${packages[*]}" >&2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
	echo "bench-brokers: there is no $python, 3.9 or later: nothing is measured" >&2
	exit
fi

[[ -x bin/navvy ]] || make build >&2
dir=$(mktemp -d -t navvy-bench-brokers.XXXXXX)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/nats-server" github.com/nats-io/nats-server/v2
go -C tools build -o "$dir/asynqpeer" ./asynqpeer
export NAVVY_BIN=$PWD/bin/navvy PYTHONDONTWRITEBYTECODE=1
"$python" scripts/bench_brokers.py --dir "$dir" "$@"
