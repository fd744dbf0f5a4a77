"""Code of other Pythons is told, not run: it gives wrong results, or ends the process."""

import base64
import functools
import glob
import io
import os
import pickle
import subprocess
import sys
import types

import navvy
import pytest
from conftest import PATIENCE
from navvy import _bytecode, _codec, _future

DATA = os.path.join(os.path.dirname(__file__), "testdata", "code.txt")
OWN = "%d.%d" % sys.version_info[:2]


def payloads():
    with open(DATA) as lines:
        for line in lines:
            if not line.startswith("#"):
                pickler, python, text = line.split()
                yield pickler, python, base64.b64decode(text)


@pytest.mark.parametrize("pickler,python,data", payloads(), ids=lambda of: of if isinstance(of, str) else "")
def test_code(pickler, python, data):
    """A value holds a function; a process of its own reads it, which must not die."""
    program = "import sys; from navvy import _codec; print(_codec.loads(sys.stdin.buffer.read())(10))"
    p = subprocess.run([sys.executable, "-c", program], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
    err = p.stderr.decode()
    if python == OWN:
        assert p.stdout == b"36\n", err
        return
    assert p.returncode == 1 and "OtherPython: it holds code that was pickled with Python " in err, (p.returncode, err)
    assert f"this is Python {OWN} ({sys.executable})" in err, err
    if OWN == "3.11":
        made = {"3.7": "3.7 or earlier", "3.8": "3.8 or 3.9", "3.9": "3.8 or 3.9", "3.10": "3.10"}.get(python, "3.12 or later")
        assert f"pickled with Python {made};" in err, err


def codes(code):
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from codes(inner)


def test_own_code():
    """All that this Python compiles is its own."""
    count = 0
    for path in glob.glob(os.path.join(os.path.dirname(io.__file__), "*.py"))[:60]:
        with open(path, "rb") as f:
            for code in codes(compile(f.read(), path, "exec")):
                assert _bytecode._fits(code.co_code), (path, code.co_name)
                count += 1
    assert count > 1000


class Odd:
    """Is pickled with all that a pickle can do to an object."""

    def __reduce_ex__(self, protocol):
        return Filled, (), {"state": types.CodeType}, iter([1, 2]), iter([(3, 4)])


class Filled(dict):
    made = []

    def __init__(self):
        self.made.append(self)
        self.values = []

    def append(self, value):
        self.values.append(value)

    def __setstate__(self, state):
        self.state = state


@pytest.mark.parametrize("pickler", ("dill", "cloudpickle"))
@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_is_there_beside_code(pickler, protocol):
    """What goes through a pickle for its code makes nothing of the rest, and trips over none of it."""
    by_value = pytest.importorskip(pickler)
    value = [Odd(), {Odd: {1}}, functools.partial(pow, 1), {frozenset([Odd])}, bytearray(b"1"), complex(1, 2)]
    data = by_value.dumps((value, lambda x: types.CodeType), protocol=protocol)
    before = len(Filled.made)
    _bytecode._Scan(io.BytesIO(data)).load()
    assert len(Filled.made) == before
    again, function = _codec.loads(data)
    assert function(1) is types.CodeType and len(again) == len(value) and again[4:] == value[4:]
    assert again[0].values == [1, 2] and again[0].state == {"state": types.CodeType}


def test_broken():
    """Whoever loads a broken pickle is told by pickle."""
    for data in b"", b"CodeType", pickle.dumps("_create_code")[:-1]:
        _bytecode.refuse_other_code(data)
        with pytest.raises(Exception):
            _codec.loads(data)


def test_value():
    """What a call gives is told as all that cannot be read, also in a chunk of a map."""
    data = next(data for _, python, data in payloads() if python != OWN)
    chunk = pickle.dumps(("items", [(True, pickle.dumps(1)), (True, data)]))
    with pytest.raises(navvy.Error, match="cannot be read here: OtherPython: it holds code"):
        _future.read_result(None, {"state": "succeeded", "value": _codec.to_json(data)}, None)
    items = _future.read_batch(None, {"state": "succeeded", "value": _codec.to_json(chunk)}, None)
    assert items[0] == (True, 1) and not items[1][0] and isinstance(items[1][1], navvy.Error)
