#!/usr/bin/env bash
# check.sh: every check of the project; the first that fails ends it.
#
# Tests that need PostgreSQL get its URL in NAVVY_TEST_POSTGRES. If that is not
# set, a private one is started and stopped again; where that is impossible the
# tests skip on a laptop, and with CI set the check fails. The same holds for
# QEMU and a kernel, which vm.sh fetches.
set -euo pipefail
cd "$(dirname "$0")/.."

# The checkout may belong to another user than ours, and git then refuses to describe it.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

step() {
	printf '== %s (after %d s)\n' "$1" "$SECONDS" >&2
	shift
	"$@"
}

postgres() {
	if [[ -n ${NAVVY_TEST_POSTGRES:-} ]]; then
		return
	fi
	dir=$(mktemp -d -t navvy-check.XXXXXX)
	chmod 755 "$dir" # PostgreSQL runs as another user than root
	trap 'scripts/postgres.sh stop "$dir" >&2 || true; rm -rf "$dir"' EXIT
	if NAVVY_TEST_POSTGRES=$(scripts/postgres.sh start "$dir"); then
		export NAVVY_TEST_POSTGRES
		return
	fi
	unset NAVVY_TEST_POSTGRES
	if [[ -n ${CI:-} ]]; then
		echo 'check: PostgreSQL does not start, and CI must not skip its tests' >&2
		return 1
	fi
	echo 'check: PostgreSQL does not start: its tests skip' >&2
}

race() {
	CGO_ENABLED=1 go tool -modfile=tools/go.mod gotestsum --format pkgname -- -race -timeout 10m ./...
}

limits() {
	if ! scripts/vm.sh install; then
		if [[ -n ${CI:-} ]]; then
			echo 'check: there is no virtual machine, and CI must not skip its tests' >&2
			return 1
		fi
		echo 'check: there is no virtual machine: the tests of cgroup v2 and v1 skip' >&2
		return
	fi
	make test-vm >&2
}

# harness looks for broken promises with fresh seeds; a failure prints its seed.
harness() {
	NAVVY_CRASH_TIME=90s go test -count=1 -v -run TestPromises ./test/... >&2
}

binary() {
	make build
	bin/navvy version
}

step 'go.mod is tidy' go mod tidy -diff
step 'generated code is up to date' go -C tools run ./protogen -root ../api -check
step 'build' binary
step 'lint' make lint
step 'tests of the tools' go -C tools test ./...
step 'PostgreSQL' postgres
step 'tests with the race detector' race
step 'process limits in a virtual machine (cgroup v2, v1, hybrid)' limits
step 'crash harness, fresh seeds, 90 s each' harness
step 'fuzz targets, 3000 inputs each' scripts/fuzz.sh 3000x
printf '== all is well (%d s)\n' "$SECONDS" >&2
