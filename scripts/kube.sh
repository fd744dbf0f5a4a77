#!/usr/bin/env bash
# kube.sh: build what test/kube/kubetest makes a Kubernetes of, and install what of it Debian has.
#
#   kube.sh install     all of it: quick if it is there, an error if it can't be had. The first
#                       build takes some ten minutes of a processor
#   kube.sh there       whether the programs are there and as they should be
#   kube.sh keda        KEDA's operator and its server of metrics, for make test-keda; tells the
#                       directory that they are in. Some ten minutes of a processor more
#   kube.sh packages    the packages whose tests start a cluster, one a line
#
# NAVVY_KUBE   keeps the programs; the default is navvy-kube in the user's cache
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/../test/kube"
cache=${NAVVY_KUBE:-${XDG_CACHE_HOME:-$HOME/.cache}/navvy-kube}
export PATH="$PATH:/usr/sbin:/sbin"

# Kubernetes tells its version by what the linker sets.
version=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\)$|\1|p' kubebox/go.mod)
at=k8s.io/component-base/version
numbers=${version#v}
minor=${numbers#*.}
flags="-s -w -X $at.gitVersion=$version -X $at.gitMajor=${numbers%%.*} -X $at.gitMinor=${minor%%.*} -X k8s.io/client-go/pkg/version.gitVersion=$version"

# sum tells what a program is built of: its MODULE.
sum() {
	{
		find "$1" -maxdepth 1 -name '*.go' -o -maxdepth 1 -name 'go.*' | sort | xargs cat
		echo "$flags"
	} | sha256sum
}

# there tells whether a program is built of what is here: NAME, the MODULE if that is another.
there() {
	[[ -x $cache/$1 && $(cat "$cache/$1.sum" 2>/dev/null) == "$(sum "${2:-$1}")" ]]
}

# build builds a program: NAME, its package, the MODULE if that is of another name. The name is
# given to what is whole.
build() {
	local module=${3:-$1}
	there "$1" "$module" && return
	mkdir -p "$cache"
	CGO_ENABLED=0 go -C "$module" build -trimpath -ldflags "$flags" -o "$cache/$1.new" "$2"
	mv "$cache/$1.new" "$cache/$1"
	sum "$module" >"$cache/$1.sum"
}

# keda builds KEDA, whose libraries of Kubernetes are of another version.
keda() {
	local flags='-s -w' p
	for p in operator adapter; do
		build "keda-$p" "github.com/kedacore/keda/v2/cmd/$p" keda
	done
}

# debian installs what is missing of Debian's parts.
debian() {
	local missing=() p
	for p in containerd:containerd runc:runc busybox:busybox-static /usr/lib/cni/bridge:containernetworking-plugins; do
		command -v "${p%:*}" >/dev/null || missing+=("${p#*:}")
	done
	# The images are of a busybox that needs no libraries.
	if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
		missing+=(busybox-static)
	fi
	[[ ${#missing[@]} -gt 0 ]] || return 0
	local root=''
	[[ $(id -u) -eq 0 ]] || root='sudo -n'
	export DEBIAN_FRONTEND=noninteractive
	$root apt-get update >&2
	$root apt-get install -y --no-install-recommends "${missing[@]}" >&2
}

# packages lists those whose tests import kubetest: nobody has to keep a list.
packages() {
	go -C ../.. list -f '{{$p := .ImportPath}}{{range .TestImports}}{{$p}} {{.}}{{"\n"}}{{end}}{{range .XTestImports}}{{$p}} {{.}}{{"\n"}}{{end}}' ./... |
		sed -n 's|^\(.*\) github.com/navvy-run/navvy/test/kube/kubetest$|\1|p' | sort -u
}

case ${1:-} in
install)
	debian
	build kubebox .
	build kwok sigs.k8s.io/kwok/cmd/kwok
	# The definitions of KEDA's kinds are in its module; nothing of that is built.
	go -C keda mod download github.com/kedacore/keda/v2
	;;
keda)
	keda
	realpath "$cache"
	;;
there)
	there kubebox && there kwok
	;;
packages)
	packages
	;;
*)
	sed -n '2,12s/^# \{0,1\}//p' "$self" >&2
	exit 2
	;;
esac
