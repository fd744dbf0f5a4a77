"""How functions and arguments travel."""

import json as js
import math
import pickle
import sys
import types

import beside
import navvy
import pytest
from conftest import PATIENCE
from navvy import _codec, _spec
from test_calls import MAIN, script

WITHOUT = """
    import sys
    for name in %r:
        sys.modules[name] = None  # as if it were not installed
"""

PLAIN = """
    import json as js
    import navvy
    from math import floor
    nv = navvy.connect()
    BASE = 40

    @nv.function(
        timeout=30)
    def text(x, by=BASE, *, down=floor):
        '''It has words, and a function inside.'''
        def inner():
            return js.dumps([x + BASE, by, down(1.5)])
        return inner()

    class Own: pass

    @nv.function
    def uses():
        return Own()

    assert text.call(2) == "[42, 40, 1]", text.call(2)
    for bad, why in ((uses, "Own"), (nv.function(lambda: 1), "plain function"), (nv.function(Own), "plain function")):
        try:
            bad.submit()
        except navvy.CannotPickle as e:
            assert why in str(e) and "cloudpickle" in str(e), e
        else:
            raise SystemExit("it travels")
    try:
        text.submit(Own())
    except navvy.CannotPickle as e:
        assert "cloudpickle" in str(e), e
    print("good")
"""


def test_without_picklers(data, tmp_path):
    p = script(tmp_path, WITHOUT % (("dill", "cloudpickle"),) + PLAIN)
    out, err = p.communicate(timeout=PATIENCE)
    assert out == b"good\n", err.decode()


def test_with_dill(data, tmp_path):
    # dill makes classes of __main__ anew, so that isinstance does not hold of what comes back
    text = MAIN.replace(" and isinstance(moved, Point), type(moved)", "").replace("except TooLow as e", "except Exception as e")
    p = script(tmp_path, WITHOUT % (("cloudpickle",),) + text)
    out, err = p.communicate(timeout=PATIENCE)
    assert out == b"good\n", err.decode()


def test_forms():
    assert _codec.define(beside.double) == _codec.Definition("beside.double", "reference", entry="beside:double")
    assert _codec.define(math.sqrt).entry == "math:sqrt"
    by_value = _codec.define(lambda x: x)
    assert by_value.form == "pickle" and by_value.name == "test_forms.<locals>.<lambda>"
    assert by_value.python == "%d.%d" % sys.version_info[:2] and by_value.pickler.startswith("cloudpickle ")
    made = types.ModuleType("made_by_hand")
    exec("def f(): return 1", made.__dict__)
    sys.modules["made_by_hand"] = made
    assert _codec.define(made.f).form == "pickle"
    message = by_value.message()
    assert _codec.from_json(message["code"]) == by_value.code and "entry" not in message
    js.dumps(message)


def test_functions_travel_plainly():
    """A decorated function that is an argument, or a global, needs no navvy where it arrives."""
    client = navvy.connect(data="/nowhere")
    there = client.function(beside.double)
    again = pickle.loads(pickle.dumps(there))
    assert again(4) == 8 and "navvy" not in type(again).__module__


def test_registered_once(nv):
    there = nv.function(beside.double)
    there.call(1)
    known = dict(nv._registered)
    nv.function(beside.double).call(2)
    assert dict(nv._registered) == known


def test_sizes():
    for text, size in {"512M": 512 << 20, "1.5g": 3 << 29, "100KiB": 100 << 10, "7": 7, "7b": 7, "2kb": 2048}.items():
        assert _spec.size(text) == size
    for wrong in "", "M", "1x", "-1":
        with pytest.raises(navvy.Invalid):
            _spec.size(wrong)
    job = _spec.Options(memory="1M", cpus=0.5, labels={"gpu": "a100"}, gpus=1, isolate=False, queue="q").job({"id": "x"}, "n")
    assert job == {"name": "n", "queue": "q", "spec": {
        "function": {"id": "x"}, "limits": {"memory": 1 << 20, "cpus_milli": 500}, "labels": {"gpu": "a100"},
        "resources": {"gpu": 1}, "isolate": False}}


def test_unreadable_values(nv, monkeypatch):
    """A value that cannot be read here says so; it is not the function's failure."""
    @nv.function
    def odd():
        import types
        import sys
        module = sys.modules["only_there"] = types.ModuleType("only_there")
        exec("class Odd: pass", module.__dict__)
        return module.Odd()

    future = odd.submit()
    with pytest.raises(navvy.Error, match="only_there"):
        future.result(PATIENCE)
