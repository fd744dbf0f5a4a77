#!/usr/bin/env bash
# test-python.sh [ARG…]: the tests of sdk/python, with the arguments for pytest, against
# bin/navvy; without arguments its types, too. They want Debian's Python with pytest, dill
# and cloudpickle; without these they skip on a laptop, as those of tqdm and the types do
# without tqdm and mypy. With CI set that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${NAVVY_TEST_PYTHON:-/usr/bin/python3}
wanted='pytest, dill, cloudpickle'
if ! why=$("$python" -c "import $wanted${CI:+, tqdm, mypy}" 2>&1); then
	echo "test-python: $python lacks something: ${why##*$'\n'}" >&2
	if [[ -n ${CI:-} ]]; then
		echo 'test-python: CI must not skip these tests' >&2
		exit 1
	fi
	echo 'test-python: the tests of sdk/python skip; apt-get install python3-pytest python3-dill python3-cloudpickle' >&2
	exit
fi
export NAVVY_BIN=$PWD/bin/navvy PYTHONDONTWRITEBYTECODE=1
cd sdk/python
if [[ $# -eq 0 ]] && "$python" -c 'import mypy' 2>/dev/null; then
	"$python" -m mypy
elif [[ $# -eq 0 ]]; then
	echo 'test-python: types are not checked; apt-get install mypy' >&2
fi
exec "$python" -m pytest -q -p no:cacheprovider --durations=5 tests "$@"
