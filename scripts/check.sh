#!/usr/bin/env bash
# check.sh: every check of the project; the first that fails ends it.
#
# Tests that need PostgreSQL get its URL in NAVVY_TEST_POSTGRES. If that is not
# set, a private one is started and stopped again; where that is impossible the
# tests skip on a laptop, and with CI set the check fails. The same holds for
# QEMU and a kernel, which vm.sh fetches, for Debian's Python with a few packages, for
# Azurite and versitygw, for what the stand-in of Service Bus runs on, and for the Kubernetes
# that kube.sh builds.
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

# debian installs packages of the system.
debian() {
	local root=''
	[[ $(id -u) -eq 0 ]] || root='sudo -n'
	$root apt-get update >&2
	$root apt-get install -y --no-install-recommends "$@" >&2
}

# curl tries the examples of docs/rest.md; a laptop may do without.
curl_for_examples() {
	if command -v curl >/dev/null || [[ -z ${CI:-} ]]; then
		return
	fi
	debian curl
}

# python are the packages of Debian's Python that tests of functions and services use;
# without them those skip on a laptop, and fail in CI.
python() {
	if [[ -z ${CI:-} ]] || /usr/bin/python3 -c 'import dill, cloudpickle, requests, pytest, tqdm, mypy, grpc, pika' 2>/dev/null; then
		return
	fi
	debian python3 python3-dill python3-cloudpickle python3-requests python3-pytest python3-tqdm python3-grpcio python3-pika mypy
}

# node is JavaScript's gRPC, which an example of a service uses; without it that skips on
# a laptop, and fails in CI.
node() {
	if [[ -z ${CI:-} || -n ${NAVVY_TEST_NODE_PATH:-} ]]; then
		return
	fi
	command -v npm >/dev/null || debian nodejs npm
	local at=${XDG_CACHE_HOME:-$HOME/.cache}/navvy-node
	npm install --silent --no-fund --no-audit --prefix "$at" @grpc/grpc-js@1.14.7 >&2
	export NAVVY_TEST_NODE_PATH=$at/node_modules
}

# azurite is Microsoft's emulator of Azure Storage, and its client for JavaScript, which the
# tests of queue/storagequeue and of share use; without them those skip on a laptop, and
# fail in CI.
azurite() {
	local dir=${NAVVY_AZURITE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/navvy-azurite}
	if [[ -z ${CI:-} || -d $dir/node_modules/azurite && -d $dir/node_modules/@azure/storage-queue ]]; then
		return
	fi
	command -v npm >/dev/null || debian nodejs npm
	npm install --prefix "$dir" --no-audit --no-fund --no-save azurite@3.35.0 @azure/storage-queue@12.26.0 >&2
}

# servicebus is the library that the stand-in of Azure Service Bus runs on, and Microsoft's
# client for JavaScript; without them the tests of queue/servicebusqueue skip on a laptop,
# and fail in CI.
servicebus() {
	local dir=${NAVVY_SERVICEBUS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/navvy-servicebus}
	if [[ -z ${CI:-} || -d $dir/node_modules/rhea && -d $dir/node_modules/@azure/service-bus ]]; then
		return
	fi
	command -v npm >/dev/null || debian nodejs npm
	npm install --prefix "$dir" --no-audit --no-fund --no-save rhea@3.0.5 @azure/service-bus@7.9.5 >&2
}

# versitygw is a server that speaks S3, which the tests of share start; without it they skip
# on a laptop, and fail in CI. It has a go.mod of its own. The first build takes minutes,
# later ones look whether it is still the same.
versitygw() {
	if [[ -n ${NAVVY_VERSITYGW:-} ]]; then
		return
	fi
	local at=${XDG_CACHE_HOME:-$HOME/.cache}/navvy-versitygw/versitygw
	[[ -n ${CI:-} || -e $at ]] || return 0
	go -C tools/versitygw build -o "$at" github.com/versity/versitygw/cmd/versitygw
}

# collector is an OpenTelemetry Collector with what workers on Azure have beside them; without
# it the test of that skips on a laptop, and fails in CI. It has a go.mod of its own.
collector() {
	local at=${XDG_CACHE_HOME:-$HOME/.cache}/navvy-collector/collector
	[[ -n ${CI:-} || -e $at ]] || return 0
	go -C tools/collector build -o "$at" .
}

# java is Java's gRPC, for another example; without it that skips on a laptop, and fails in CI.
java() {
	if [[ -z ${CI:-} || -e /usr/share/java/grpc-netty.jar && -e /usr/share/java/perfmark-api.jar ]] && command -v javac >/dev/null; then
		return
	fi
	[[ -n ${CI:-} ]] || return 0
	debian openjdk-17-jdk-headless libgrpc-java libnetty-java libperfmark-java
}

# rabbitmq is the broker that its driver is tested with; without it those tests skip on a
# laptop, and fail in CI. Nothing is started here: each test starts its own.
rabbitmq() {
	if [[ -z ${CI:-} || -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
		return
	fi
	debian rabbitmq-server
}

# redis is the broker that the tests of queue/redisqueue start; without it they skip on a
# laptop, and fail in CI.
redis() {
	if [[ -z ${CI:-} ]] || command -v redis-server >/dev/null; then
		return
	fi
	debian redis-server
}

# sshd is the server of ssh, which the tests of cluster/ssh start as hosts; without it they
# skip on a laptop, and fail in CI.
sshd() {
	if [[ -z ${CI:-} || -x /usr/sbin/sshd ]]; then
		return
	fi
	debian openssh-server
}

# systemd keeps the processes of clusters up, which the tests of cluster/unit and cluster/local
# start as a user's, whatever has started the machine; without it, or without root, those skip on
# a laptop, and fail in CI.
systemd() {
	if [[ -z ${CI:-} || -x /lib/systemd/systemd ]]; then
		return
	fi
	debian systemd
}

# prometheus has the tool that checks what deploy/monitor tells it; without it that skips on
# a laptop, and fails in CI.
prometheus() {
	if [[ -z ${CI:-} ]] || command -v promtool >/dev/null; then
		return
	fi
	debian prometheus
}

# kube runs the tests of containers on a Kubernetes of their own, one cluster after the other.
# Where the programs are not there, or are of another version, what needs a cluster skips on a
# laptop; in CI they are built, which takes minutes the first time.
kube() {
	if [[ -n ${CI:-} ]]; then
		scripts/kube.sh install
	elif ! scripts/kube.sh there; then
		echo 'check: there is no Kubernetes (scripts/kube.sh install): its tests skip' >&2
		export NAVVY_KUBE=/nonexistent
	fi
	make test-kube >&2
}

# engines are Docker and containerd, which the tests of runner/engine and test/engines start, and
# skopeo, which reads images; without them those skip on a laptop, and fail in CI.
engines() {
	local name
	[[ -n ${CI:-} ]] || return 0
	for name in dockerd containerd ctr runc busybox skopeo /usr/lib/cni/bridge; do
		if ! command -v "$name" >/dev/null; then
			debian docker.io containerd runc containernetworking-plugins busybox-static skopeo
			return
		fi
	done
	# The images are of a busybox that needs no libraries.
	if ldd "$(command -v busybox)" >/dev/null 2>&1; then
		debian busybox-static
	fi
}

# race leaves the tests that start a cluster to the step of that name.
race() {
	local packages
	mapfile -t packages < <(go list ./... | grep -vxFf <(scripts/kube.sh packages))
	CGO_ENABLED=1 go tool -modfile=tools/go.mod gotestsum --format pkgname -- -race -timeout 20m "${packages[@]}"
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
	NAVVY_CRASH_TIME=30s go test -count=1 -v -run 'TestFunctions|TestBroker' ./test/team >&2
}

binary() {
	make build
	bin/navvy version
}

step 'go.mod is tidy' go mod tidy -diff
step 'generated code of api is up to date' go -C tools run ./protogen -root ../api -comments comments.json -check
step 'generated code of gateway is up to date' go -C tools run ./protogen -root ../gateway -check
step 'the schema: its manner, and what was released' make schema
step 'build' binary
step 'lint' make lint
step 'the chart' scripts/helm.sh check
step 'tests of the tools' go -C tools test ./...
step 'PostgreSQL' postgres
step 'curl' curl_for_examples
step 'Python' python
step 'Node' node
step 'Azurite' azurite
step 'Service Bus' servicebus
step 'versitygw' versitygw
step 'Collector' collector
step 'Java' java
step 'RabbitMQ' rabbitmq
step 'Redis' redis
step 'Docker and containerd' engines
step 'sshd' sshd
step 'systemd' systemd
step 'Prometheus' prometheus
step 'tests of sdk/python' make test-python
step 'tests with the race detector' race
step 'containers on Kubernetes' kube
step 'process limits in a virtual machine (cgroup v2, v1, hybrid)' limits
step 'crash harness, fresh seeds, 90 s each' harness
step 'fuzz targets, 3000 inputs each' scripts/fuzz.sh 3000x
printf '== all is well (%d s)\n' "$SECONDS" >&2
