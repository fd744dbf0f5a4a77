"""What functions raise arrives as itself, however its class makes its exceptions."""

import contextlib
import sys
import textwrap
from pathlib import Path

import pytest
import raising
from conftest import PATIENCE
from test_calls import script
from test_codec import WITHOUT

CALLS = """
    import navvy
    nv = navvy.connect()
    remote = nv.function(throw)
    for n, make in enumerate(CASES):
        want = shown(make())
        try:
            remote.call(n)
        except BaseException as e:
            assert shown(e) == want, (shown(e), want)
            assert isinstance(e.__cause__, navvy.RemoteTraceback), e.__cause__
        else:
            raise TypeError("nothing was raised")
    try:
        remote.call(0)
    except Http as e:
        print("caught", e.status)
"""


@pytest.mark.parametrize("n", range(len(raising.CASES)))
def test_by_reference(nv, n):
    want = raising.CASES[n]()
    with pytest.raises(type(want)) as raised:
        nv.function(raising.throw).call(n)
    assert raising.shown(raised.value) == raising.shown(want)


@pytest.mark.parametrize("without", [("dill",), ("cloudpickle",)], ids=["cloudpickle", "dill"])
def test_by_value(data, tmp_path, without):
    classes = Path(raising.__file__).read_text()
    ran(script(tmp_path, textwrap.dedent(WITHOUT % (without,)) + classes + textwrap.dedent(CALLS)))


def test_plainly(data, tmp_path):
    """Where there is neither dill nor cloudpickle."""
    path = str(Path(raising.__file__).parent)
    ran(script(tmp_path, WITHOUT % (("dill", "cloudpickle"),) + f"    sys.path.append({path!r})\n    from raising import *\n" + CALLS))


def ran(program):
    out, err = program.communicate(timeout=PATIENCE)
    assert out == b"caught 404\n", err.decode()


def test_in_a_map(nv):
    got = []
    for n in range(3):
        with contextlib.suppress(raising.Http, raising.Coded, raising.Fixed):
            list(nv.function(raising.throw).map([n]))
            pytest.fail("nothing was raised")
        got.append(n)
    assert got == [0, 1, 2]


def test_notes(nv):
    @nv.function
    def noted():
        e = raising.Http(404, "gone")
        e.__notes__ = ["and more"]
        raise e

    with pytest.raises(raising.Http) as raised:
        noted.call()
    assert raised.value.__notes__ == ["and more"] and raised.value.status == 404


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups before Python 3.11")
def test_groups(nv):
    @nv.function
    def several():
        raise ExceptionGroup("both", [raising.Http(404, "gone"), raising.Fixed()])  # noqa: F821

    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821
        several.call()
    first, second = raised.value.exceptions
    assert type(first) is raising.Http and first.status == 404 and type(second) is raising.Fixed


def test_look_alike(nv):
    """What cannot be pickled at all comes as another of its name."""
    @nv.function
    def endless():
        e = raising.Coded("words", code=1)
        e.lines = (line for line in [])
        raise e

    with pytest.raises(Exception, match="words") as raised:
        endless.call()
    assert type(raised.value) is not raising.Coded and type(raised.value).__name__ == "Coded"
