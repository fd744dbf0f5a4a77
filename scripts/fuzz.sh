#!/usr/bin/env bash
# fuzz.sh AMOUNT: run every fuzz target of the module, one after the other, for
# AMOUNT each: a time as in 60s, or a number of inputs as in 3000x. Checks that
# must not fail by chance want the number: go's fuzzer now and then reports its
# own deadline, "context deadline exceeded", as a failure of the target. An input that
# it finds interesting it would make smaller for a minute: a second is enough.
set -euo pipefail
cd "$(dirname "$0")/.."
amount=${1:?usage: fuzz.sh AMOUNT, as in 60s or 3000x}

grep -ro --include='*_test.go' --exclude-dir=tools '^func Fuzz[A-Za-z0-9_]*' . | sort |
	while IFS=: read -r file func; do
		target=${func#func }
		printf '== fuzz %s %s\n' "$(dirname "$file")" "$target" >&2
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$amount" -fuzzminimizetime 1s "$(dirname "$file")" </dev/null
	done
