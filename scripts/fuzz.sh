#!/usr/bin/env bash
# fuzz.sh TIME: run every fuzz target of the module for TIME, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME, as in 5s}

grep -ro --include='*_test.go' --exclude-dir=tools '^func Fuzz[A-Za-z0-9_]*' . | sort |
	while IFS=: read -r file func; do
		target=${func#func }
		printf '== fuzz %s %s\n' "$(dirname "$file")" "$target" >&2
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$(dirname "$file")" </dev/null
	done
