"""What an executor is given, it runs, and leaves no versions of functions behind."""

import dataclasses
import functools
import importlib

import navvy
import pytest
from conftest import PATIENCE
from navvy import _codec


class Scale:
    def __init__(self, by):
        self.by = by

    def of(self, x):
        return self.by * x

    def __call__(self, x):
        return self.by + x


def mul(x, y):
    return x * y


@pytest.fixture
def versions(nv):
    """How many versions of functions there are, by name."""
    def count():
        found = {}
        for f in nv.transport.call("GET", "/v1/functions")["functions"]:
            found[f["name"]] = nv.transport.call("GET", "/v1/functions/" + f["id"])["version"]
        return found
    return count


@pytest.fixture(params=["cloudpickle", "dill"])
def by_value(request, monkeypatch):
    module = importlib.import_module(request.param)
    monkeypatch.setattr(_codec, "pickler", lambda: module)
    return module


def test_closures_leave_nothing(nv, versions, by_value):
    with nv.executor() as pool:
        assert pool.submit(lambda: "first").result(PATIENCE) == "first"
        before = versions()
        futures = [pool.submit(lambda: i) for i in range(30)]  # each of them another one
        assert [f.result(PATIENCE) for f in futures] == list(range(30))
        futures = [pool.submit(lambda x, y=0: (i, x, y), i, y=2) for i in range(3)]
        assert [f.result(PATIENCE) for f in futures] == [(i, i, 2) for i in range(3)]
        for i in range(3):
            assert list(pool.map(lambda x, y: x + y + i, range(20), range(20))) == [2 * x + i for x in range(20)]
        scale = Scale(2)
        for scale.by in 3, 4:
            assert pool.submit(scale.of, 2).result(PATIENCE) == 2 * scale.by
            assert pool.submit(scale, 2).result(PATIENCE) == 2 + scale.by
            assert pool.submit(functools.partial(mul, scale.by), 2).result(PATIENCE) == 2 * scale.by
        assert versions() == before
    about = nv.transport.call("GET", "/v1/jobs/" + futures[0].job)["job"]
    assert about["name"].endswith("<lambda>") and about["spec"]["function"]["name"] == "navvy.call"


def test_large_closures_travel_once(nv, versions):
    """With every call they would cost more than a version."""
    data = bytes(100_000)

    def large(x):
        return len(data) + x

    with nv.executor() as pool:
        futures = [pool.submit(large, i) for i in range(3)]
        assert [f.result(PATIENCE) for f in futures] == [100_000, 100_001, 100_002]
        assert list(pool.map(large, range(3))) == [100_000, 100_001, 100_002]
    assert [n for name, n in versions().items() if name.endswith("<locals>.large")] == [1]


def test_plain_functions_are_registered(nv, versions):
    with nv.executor() as pool:
        assert pool.submit(mul, 2, 3).result(PATIENCE) == 6
        assert pool.submit(nv.function(mul), 2, 3).result(PATIENCE) == 6
        assert versions()["test_executor.mul"] == 1
        with pytest.raises(TypeError):
            pool.map(lambda x: x)
        with pytest.raises(navvy.CannotPickle):
            pool.submit(lambda: nv)


def test_other_python(nv, monkeypatch):
    """A worker that cannot read the closure says so."""
    caller = _codec.caller()
    assert b"(3, " in caller.code
    other = dataclasses.replace(caller, code=caller.code.replace(b"(3, ", b"(3, 1"), python="3.1" + caller.python[2:])
    monkeypatch.setattr(_codec, "caller", lambda: other)
    with nv.executor() as pool, pytest.raises(ImportError, match="Python 3.1[0-9.]* and .*pickle.*this worker.*another minor version"):
        pool.submit(lambda: 1).result(PATIENCE)
