# The project's tasks. Long logic lives in scripts/, this file names it.

SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 60s
BENCH ?= .
PKG ?= ./...
VM_PKG ?= ./runner/process/...
VM_HOSTS ?= root user v1 hybrid

.DEFAULT_GOAL := help
.PHONY: help build image manifests helm-install helm-uninstall test test-python test-vm test-kube test-keda check bench lint generate schema fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary, static: bin/navvy
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/navvy ./cmd/navvy

image: ## a container image without Docker: bin/navvy-image.tar (IMAGE, IMAGE_ARCH)
	VERSION='$(VERSION)' scripts/image.sh

manifests: ## deploy/manifests, of the chart deploy/helm/navvy
	scripts/helm.sh manifests

helm-install: ## the chart into the cluster of kubectl (NAMESPACE, RELEASE, IMAGE, HELM_ARGS); again to upgrade
	NAMESPACE='$(NAMESPACE)' RELEASE='$(RELEASE)' IMAGE='$(IMAGE)' HELM_ARGS='$(HELM_ARGS)' scripts/helm.sh install

helm-uninstall: ## that release; its volume stays (NAMESPACE, RELEASE)
	NAMESPACE='$(NAMESPACE)' RELEASE='$(RELEASE)' scripts/helm.sh uninstall

test: ## the fast tests
	go test $(PKG)

test-python: build ## the tests of sdk/python
	scripts/test-python.sh

test-vm: ## the tests of VM_PKG in virtual machines with cgroup v2 and v1 (VM_HOSTS, VM_ARGS)
	NAVVY_VM_PACKAGES='$(VM_PKG)' NAVVY_VM_HOSTS='$(VM_HOSTS)' scripts/test-vm.sh -- $(VM_ARGS)

test-kube: ## the tests of containers, on a Kubernetes of our own (scripts/kube.sh install); root
	CGO_ENABLED=1 go test -race -count=1 -p 1 -parallel 4 -timeout 30m $$(scripts/kube.sh packages)

test-keda: ## the chart, and a cluster, with KEDA itself, after test-kube; root; not in CI, for it takes minutes to build
	NAVVY_TEST_KEDA=$$(scripts/kube.sh keda) CGO_ENABLED=1 go test -p 1 -race -count=1 -timeout 30m -v -run '^(TestKEDA|TestLifeKEDA)$$' ./test/kube/chart ./cluster/kubernetes

check: ## exactly what CI runs
	scripts/check.sh

bench: build ## every figure of docs/performance.md (some minutes); then the packages' own benchmarks
	bin/navvy bench --in "$${TMPDIR:-/tmp}"
	scripts/bench-python.sh
	scripts/bench-brokers.sh
	if scripts/kube.sh there; then go test -timeout 60m -run - -bench . -benchtime 2x ./runner/container; fi
	NAVVY_KUBE=/nonexistent go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

lint: ## gofmt, go vet and the linters of .golangci.yml
	go tool -modfile=tools/go.mod golangci-lint run ./...
	cd tools && go tool golangci-lint run ./...

generate: ## Go code from the .proto files of api and gateway; no protoc needed
	go -C tools run ./protogen -root ../api -comments comments.json
	go -C tools run ./protogen -root ../gateway

schema: ## how the .proto files of api are written, and that they break no client of the released schema
	go -C tools run ./schema

fuzz: ## every fuzz target for FUZZTIME (60s) each
	scripts/fuzz.sh $(FUZZTIME)
