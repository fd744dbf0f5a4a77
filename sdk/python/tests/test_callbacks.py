"""Callbacks may wait, and disturb nobody."""

import asyncio
import logging
import threading
import time

import navvy
from conftest import PATIENCE, until
from navvy import _callbacks


def add(x, y=0):
    return x + y


def test_callback_waits(nv):
    """For a call, for one through asyncio, and for another callback."""
    there = nv.function(add)
    results = []
    came = threading.Event()

    def last(future):
        results.append(future.result())
        came.set()

    def waits(future):
        results.append(there.call(future.result(), 1))
        results.append(asyncio.run(asyncio.wait_for(there.asubmit(5, 5), PATIENCE)))
        there.submit(20).add_done_callback(last)
        assert came.wait(PATIENCE)
        results.append("end")

    there.submit(1).add_done_callback(waits)
    until(lambda: results and results[-1] == "end", "the callback comes to its end")
    assert results == [2, 10, 20, "end"]


def test_all_may_wait(nv):
    """Any number of them, each for the next one."""
    there = nv.function(add)
    gates = [threading.Event() for _ in range(8)]

    def waits(i):
        def callback(future):
            if i + 1 < len(gates):
                assert gates[i + 1].wait(PATIENCE)
            gates[i].set()
        return callback

    for i in range(len(gates)):
        there.submit(i).add_done_callback(waits(i))
    assert gates[0].wait(PATIENCE)
    assert there.call(1) == 1


def test_each_once(nv):
    """Also those of calls that are done when they come."""
    there, seen = nv.function(add), []
    futures = [there.submit(i) for i in range(200)]
    for future in futures:
        future.add_done_callback(seen.append)
    until(lambda: len(seen) >= 200, "all are called back")
    assert len(seen) == 200 and set(seen) == set(futures)


def test_raises(nv, caplog):
    """It is told as concurrent.futures does, also from our thread."""
    gate = threading.Event()

    def callback(future):
        gate.set()
        raise ValueError("of the callback")

    waits = nv.function(time.sleep).submit(0.1)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        waits.add_done_callback(callback)
        assert gate.wait(PATIENCE) and waits.result() is None
        until(lambda: "of the callback" in caplog.text, "it is told")


def test_threads_end(data):
    """With the client, when all is done."""
    def ours():
        return [t for t in threading.enumerate() if t.name == "navvy-callbacks" and t not in before]

    before = threading.enumerate()
    done = threading.Event()
    with navvy.connect() as nv:
        nv.function(time.sleep).submit(0.1).add_done_callback(lambda f: done.set())
        assert done.wait(PATIENCE) and ours()
    until(lambda: not ours(), "the threads end")


def test_without_threads(monkeypatch):
    """Where there is none to be had, as at the end of a program, it is done here."""
    def start(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    callbacks, seen = _callbacks.Callbacks(), []
    monkeypatch.setattr(threading.Thread, "start", start)
    callbacks.run(lambda: seen.append(1))
    assert seen == [1]
