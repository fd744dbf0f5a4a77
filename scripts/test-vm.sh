#!/usr/bin/env bash
# test-vm.sh [-- ARG...]: run the tests of the packages that depend on the kernel's
# control groups in virtual machines, one for each kind of host, with ARGs for the
# test binaries, as in -test.run=TestMemory or -test.v.
#
# NAVVY_VM_PACKAGES   the packages (./runner/process/...)
# NAVVY_VM_HOSTS      the kinds of hosts (all but the systemd- ones):
#   root     cgroup v2, as root
#   user     cgroup v2, as a user in a delegated group, as in a systemd user session
#   v1, hybrid, systemd-v1, systemd-hybrid
#            as vm.sh describes them, as root; only the tests that depend on the
#            kind of host: of control groups, and those named TestGroup…
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} != -- ]] || shift

read -ra packages <<<"${NAVVY_VM_PACKAGES:-./runner/process/...}"
read -ra hosts <<<"${NAVVY_VM_HOSTS:-root user v1 hybrid}"

scripts/vm.sh install

dir=$(mktemp -d -t navvy-test-vm.XXXXXX)
trap 'rm -rf "$dir"' EXIT
binaries=()
while read -r package; do
	binary=$dir/$(sed 's|.*/navvy/||; s|/|-|g' <<<"$package")
	CGO_ENABLED=0 GOARCH=amd64 go test -c -vet=off -ldflags '-s -w' -o "$binary" "$package"
	binaries+=("$binary")
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "${packages[@]}")

# What each of these hosts enforces: tests of it may not skip.
abilities=cpus,cpu-shares,memory,pids,read-bps,write-bps,read-iops,write-iops,ulimits,isolate,network-none

# machine runs tests on the host of the loop, and keeps what they print.
machine() {
	scripts/vm.sh run "${options[@]}" "$@" 2>&1 | tee -a "$dir/log" || failed+=("$host")
}

failed=()
for host in "${hosts[@]}"; do
	options=(--env "NAVVY_TEST_ABILITIES=$abilities,user")
	case $host in
	root) ;;
	user) options=(--user --env "NAVVY_TEST_ABILITIES=$abilities") ;;
	*) options+=(--cgroup "$host") ;;
	esac
	options+=(--timeout 1500 --env NAVVY_TEST_DISK=/mnt) # where the tests start, on a disk; emulated, on a busy machine, it takes its time
	printf -- '-- %s (after %d s)\n' "$host" "$SECONDS"
	case $host in
	root | user) machine "${binaries[@]}" -- "$@" ;;
	*)
		# Only what depends on the kind of host.
		for binary in "${binaries[@]}"; do
			case $binary in
			*-cgroup) machine "$binary" -- "$@" ;;
			*-process) machine "$binary" -- -test.run='^TestGroup' "$@" ;;
			esac
		done
		;;
	esac
done
if [[ ${#failed[@]} -gt 0 ]]; then
	# What failed is far above by now.
	grep -B 8 -e '--- FAIL' -e '^vm.sh: the guest ' "$dir/log" >&2 || true
	# Of a test that hung: which, and where each goroutine has stood for minutes.
	awk '/^panic: /, /^$/; /^goroutine .* minutes/, /^$/' "$dir/log" | head -n 200 >&2 || true
	printf 'test-vm: failed on: %s\n' "${failed[*]}" >&2
	exit 1
fi
