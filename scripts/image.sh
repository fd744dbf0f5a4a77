#!/usr/bin/env bash
# image.sh: a container image of navvy, without Docker: an archive that docker load,
# ctr images import, nerdctl, podman, skopeo and crane take. The same commit gives the same bytes.
#
#   image.sh [OUT]      the archive; the default is bin/navvy-image.tar
#
# VERSION      what navvy calls itself; by default what git describe says
# IMAGE        the image's name; the default is navvy:VERSION
# IMAGE_ARCH   the architectures, the first for Docker; the default is "amd64 arm64"
set -euo pipefail
out=$(realpath -m "${1:-$(dirname "$0")/../bin/navvy-image.tar}")
cd "$(dirname "$0")/.."
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}
image=${IMAGE:-navvy:$version}
mkdir -p bin "$(dirname "$out")"
binaries=()
for arch in ${IMAGE_ARCH:-amd64 arm64}; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "bin/navvy-linux-$arch" ./cmd/navvy
	binaries+=("$arch=$PWD/bin/navvy-linux-$arch")
done
go -C tools run ./image -out "$out" -ref "$image" -version "$version" \
	-revision "$(git rev-parse HEAD 2>/dev/null || true)" \
	-time "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}" "${binaries[@]}"
echo "$out: $image" >&2
