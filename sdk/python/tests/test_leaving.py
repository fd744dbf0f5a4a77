"""What becomes of calls when the connection, the client or the program ends."""

import os
import signal
import threading
import time

import beside
import navvy
import pytest
from conftest import PATIENCE, Jobs, holder_of, until
from test_calls import script
from test_transport import alone  # noqa: F401  a fixture


def counted(directory):
    return len(os.listdir(directory))


def test_all_calls_are_left(data, tmp_path):
    """A program that ends at once leaves all its calls."""
    marks = tmp_path / "marks"
    marks.mkdir()
    p = script(tmp_path, """
        import navvy
        def leave(i):
            open("%s/" + str(i), "w").close()
        there = navvy.connect().function(leave)
        for i in range(300):
            there.submit(i)
    """ % marks)
    assert p.communicate(timeout=PATIENCE)[1] == b""
    until(lambda: counted(marks) == 300, "all calls that were left behind run")


def test_close_leaves_all(data, tmp_path):
    def leave(i):
        open(str(tmp_path / str(i)), "w").close()

    with navvy.connect() as nv:
        there = nv.function(leave)
        for i in range(100):
            there.submit(i)
    until(lambda: counted(tmp_path) == 100, "all calls run")


def test_leaving_is_bounded(tmp_path, monkeypatch):
    """Who holds the connection does not keep the program from its end."""
    monkeypatch.setenv("NAVVY_BIN", "no-such-navvy")
    nv = navvy.connect(data=str(tmp_path / "none"), patience=PATIENCE)
    nv.calls.add(navvy._calls.Call(b"", "k", b"", lambda *_: None))
    with nv.calls._sending:
        began = time.monotonic()
        assert nv.calls.leave(0.1) is None
        assert time.monotonic() - began < 3
    nv.calls.take_back(next(iter(nv.calls._waiting.values())))
    nv.close()


def test_cancel_between_connections(alone, monkeypatch):  # noqa: F811
    """A call that was sent is stopped, although its connection broke and it waits to be sent again."""
    with navvy.connect() as nv:
        future = nv.function(time.sleep).submit(1000)
        job = future.job
        until(future.running, "the call runs")
        find = navvy._server.connect_unix
        closed = threading.Event()

        def gone(path):
            if not closed.is_set():
                raise ConnectionResetError("the tests hold it")
            return find(path)

        monkeypatch.setattr(navvy._server, "connect_unix", gone)
        os.kill(holder_of(alone), signal.SIGKILL)
        until(lambda: nv.calls._exchange is None and nv.calls._queue, "the call waits to be sent again")
        assert future.cancel()
        closed.set()
        assert Jobs(nv).ends(job) == "stopped"


def test_forked_child_ends(nv, jobs):
    """A child that ends, or looks at its parent's map, leaves that as it is."""
    values = nv.function(beside.double).map(range(200), chunksize=1)
    lines = nv.function(print).submit("said").logs(follow=True)
    got = [next(values)]
    assert next(lines) == "said"
    pid = os.fork()
    if pid == 0:
        try:
            try:
                while True:
                    next(values)
            except navvy.Error:
                values.close()
                values.__del__()
                values._results.close()
                lines.close()
                os._exit(7)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert got + list(values) == [2 * i for i in range(200)]
    assert list(lines) == []
    assert jobs.ends(values.job) == "succeeded"
