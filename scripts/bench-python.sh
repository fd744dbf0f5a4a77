#!/usr/bin/env bash
# bench-python.sh [ARG…]: navvy's Python functions beside their peers, in one run
# (scripts/bench_python.py, which takes the arguments; --help lists them). The peers are
# of Debian's packages; one that is missing is left out, and with CI set it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${NAVVY_TEST_PYTHON:-/usr/bin/python3}
packages=(python3-requests python3-celery python3-redis redis-server python3-distributed)

lacks() {
	! "$python" -c 'import celery, distributed, redis, requests' 2>/dev/null || ! command -v redis-server >/dev/null
}

if lacks && [[ -n ${CI:-} ]]; then
	root=''
	[[ $(id -u) -eq 0 ]] || root='sudo -n'
	export DEBIAN_FRONTEND=noninteractive
	$root apt-get update >&2
	$root apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi
if lacks; then
	echo "bench-python: some peers are missing and are left out; apt-get install --no-install-recommends ${packages[*]}" >&2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
	echo "bench-python: there is no $python, 3.9 or later: nothing is measured" >&2
	exit
fi

[[ -x bin/navvy ]] || make build >&2
dir=$(mktemp -d -t navvy-bench-python.XXXXXX)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/instant" ./scripts/instant
export NAVVY_BIN=$PWD/bin/navvy NAVVY_PYTHON=$python PYTHONPATH=$PWD/sdk/python PYTHONDONTWRITEBYTECODE=1
"$python" scripts/bench_python.py --dir "$dir" "$@"
