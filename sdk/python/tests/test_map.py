"""Maps: one job each, whose items and values flow."""

import asyncio
import base64
import gc
import itertools
import os
import pickle
import signal
import sys
import threading
import time
import types

import beside
import navvy
import pytest
from conftest import PATIENCE, until
from navvy import _chunks, _feeder, _future, _progress
from test_calls import script


def square(x):
    if x == 13:
        raise ValueError("unlucky")
    return x * x


def test_map(nv):
    there = nv.function(beside.double)
    assert list(there.map([])) == []
    assert list(there.map([1])) == [2]
    assert list(there.map(range(1000))) == [2 * i for i in range(1000)]
    assert list(there.map(range(100), chunksize=7)) == [2 * i for i in range(100)]
    assert sorted(there.map(range(1000), ordered=False)) == [2 * i for i in range(1000)]
    assert list(nv.function(pow).map(itertools.count(1), [2, 2, 2])) == [1, 4, 9]
    for wrong in 0, "many":
        with pytest.raises(ValueError):
            there.map([1], chunksize=wrong)
    with pytest.raises(TypeError):
        there.map()


def test_many(nv, jobs):
    values = nv.function(beside.double).map(range(30_000))
    job = values.job
    assert list(values) == [2 * i for i in range(30_000)]
    tasks = sum(jobs.status(job)["counts"].values())
    assert jobs.ends(job) == "succeeded" and tasks < 3000  # they went together


def test_raises_at_its_item(nv):
    values = nv.function(square).map(range(20))
    got = []
    while True:
        try:
            got.append(next(values))
        except ValueError as e:
            assert isinstance(e.__cause__, navvy.RemoteTraceback) and "in square" in str(e.__cause__)
            got.append("unlucky")
        except StopIteration:
            break
    assert got == [x * x if x != 13 else "unlucky" for x in range(20)]
    with pytest.raises(ValueError):
        list(nv.function(square).map(range(20), chunksize=5))


def test_failed_chunk(nv):
    @nv.function
    def die(x):
        if x == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    values = die.map(range(6), chunksize=2)
    assert [next(values), next(values)] == [0, 1]
    for _ in range(2):
        with pytest.raises(navvy.WorkerDied):
            next(values)
    assert list(values) == [4, 5]


def test_endless(nv, jobs):
    taken = []

    def numbers():
        for i in itertools.count():
            taken.append(i)
            yield i

    values = nv.function(beside.double).map(numbers(), chunksize=10)
    assert [next(values) for _ in range(500)] == [2 * i for i in range(500)]
    job = values.job
    ahead = len(taken)
    time.sleep(0.3)
    assert len(taken) < ahead + 10 * (_chunks.BUFFER + 4) * (os.cpu_count() + 1)  # it does not run away
    values.close()
    assert jobs.ends(job)
    assert list(values) == []


def test_left(nv, jobs):
    def run():
        values = nv.function(time.sleep).map(itertools.chain([0.05] * 4, itertools.repeat(30)), chunksize=1)
        job = values.job
        for i, _ in enumerate(values):
            if i == 3:
                return job

    job = run()
    gc.collect()
    assert jobs.ends(job) == "stopped"


@pytest.mark.parametrize("size", [1, 2, "auto"])
def test_items_raise(nv, jobs, size):
    """What came before is called and answered, then the exception is there."""
    def items():
        yield from range(5)
        raise RuntimeError("no more to be had")

    values = nv.function(beside.double).map(items(), chunksize=size)
    assert [next(values) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="no more"):
        next(values)
    assert list(values) == [] and jobs.ends(values.job) == "succeeded"

    values = nv.function(beside.double).map(items(), chunksize=size, ordered=False)
    *came, why = rest(values)
    assert sorted(came) == [0, 2, 4, 6, 8] and why == "RuntimeError"

    def nothing():
        raise RuntimeError("nothing at all")
        yield

    with pytest.raises(RuntimeError, match="nothing at all"):
        list(nv.function(beside.double).map(nothing()))


@pytest.mark.parametrize("size", [1, 3, "auto"])
def test_items_that_cannot_travel(nv, jobs, size):
    """Each raises at its place; those before and behind it are answered."""
    there = nv.function(beside.double)
    items = [nv, 1, 2, nv, 3, nv, nv]
    want = ["CannotPickle", 2, 4, "CannotPickle", 6, "CannotPickle", "CannotPickle"]
    values = there.map(items, chunksize=size)
    assert rest(values) == want and jobs.ends(values.job) == "succeeded"
    assert sorted(map(str, rest(there.map(items, chunksize=size, ordered=False)))) == sorted(map(str, want))
    assert rest(there.map([nv])) == ["CannotPickle"]
    assert rest(nv.function(len).map([b"1", bytes(13_000_000), b"2"], chunksize=size if size != 3 else 1)) == [1, "Invalid", 1]


def test_item_is_told_at_once(nv):
    """Although the one behind it takes its time."""
    may = threading.Event()

    def items():
        yield from [1, nv]
        assert may.wait(PATIENCE)
        yield 3

    values = nv.function(beside.double).map(items())
    assert next(values) == 2
    with pytest.raises(navvy.CannotPickle, match="client"):
        next(values)
    may.set()
    assert list(values) == [6]


def test_slow_items(nv):
    """Each goes out when it is there, although more may come."""
    def items():
        yield from range(20)
        for i in range(3):
            time.sleep(0.1)
            began.append(time.monotonic())
            yield i

    began = []
    late = []
    for i, _ in enumerate(nv.function(beside.double).map(items())):
        if i >= 20:
            late.append(time.monotonic() - began[i - 20])
    assert len(late) == 3 and min(late) < 0.1


def test_large_items(nv):
    there = nv.function(len)
    assert list(there.map([bytes(300_000)] * 20)) == [300_000] * 20

    @nv.function
    def large(x):
        return bytes(x)

    assert [len(v) for v in large.map([2 << 20] * 4)] == [2 << 20] * 4


def test_stopped_by_others(nv, cli):
    values = nv.function(time.sleep).map([1000] * 3)
    cli("stop", values.job)
    with pytest.raises(navvy.Error, match="stopped"):
        list(values)


def test_refused(nv):
    with pytest.raises(navvy.Invalid, match="queue"):
        list(nv.function(queue="no such thing://")(beside.double).map(range(3)))


def test_async(nv, jobs):
    async def main():
        there = nv.function(square)
        assert [v async for v in there.amap(range(10))] == [x * x for x in range(10)]
        with pytest.raises(ValueError):
            async for _ in there.amap(range(20)):
                pass
        endless = nv.function(beside.double).amap(itertools.count(), chunksize=3)
        async for v in endless:
            if v > 100:
                break
        await endless.aclose()

    asyncio.run(main())


def test_interrupt(nv, data, tmp_path, jobs):
    p = script(tmp_path, """
        import navvy, time
        values = navvy.connect().function(time.sleep).map([1000] * 3)
        print(values.job, flush=True)
        list(values)
    """)
    job = p.stdout.readline().decode().strip()
    until(lambda: jobs.state(job) == "running", "the map runs")
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in err
    assert jobs.ends(job) == "stopped"


def test_chunks_adapt():
    """A clock of its own: how calls go together follows from how long they take."""
    for each, least, most in (0.001, 100, 500), (0.2, 1, 2), (5.0, 1, 1):
        chunks = _chunks.Chunks(None, lambda: 2, None)
        sizes = []
        for index, data in chunks.cut(((i,), {}) for i in range(5000 if each < 0.1 else 50)):
            size = chunks._sizes[index]
            sizes.append(size)
            took = int((0.0005 + each * size) * 1e9)
            chunks.done(index, {"started_ns": 1, "finished_ns": 1 + took})
            chunks.given()
        assert sizes[0] == 1
        assert least <= sorted(sizes)[len(sizes) // 2] <= most or least <= max(sizes) <= most, (each, sizes)


def test_bar(nv, monkeypatch):
    shown = []

    class Bar:
        def __init__(self, **options):
            shown.append(options)

        def update(self, n):
            shown.append(n)

        def close(self):
            shown.append("closed")

    auto = types.ModuleType("tqdm.auto")
    auto.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    assert list(nv.function(beside.double).map(range(3), progress=True)) == [0, 2, 4]
    assert shown == [{"total": 3, "desc": "beside.double", "unit": "call"}, 1, 1, 1, "closed"]
    monkeypatch.setattr(_progress, "visible", lambda: False)
    list(nv.function(beside.double).map(range(3)))
    assert len(shown) == 5


def test_real_bar(nv, monkeypatch, capsys):
    """What tqdm itself shows in the end."""
    auto = pytest.importorskip("tqdm.auto")
    made = []

    class Bar(auto.tqdm):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(auto, "tqdm", Bar)
    there = nv.function(square)
    assert rest(there.map(range(20), progress=True)) == [x * x if x != 13 else "ValueError" for x in range(20)]
    bar, = made
    assert (bar.n, bar.total, bar.disable) == (20, 20, True)  # closed, with all that has come
    shown = capsys.readouterr().err
    assert "test_map.square: 100%" in shown and "20/20" in shown

    values = there.map(iter([1, 2, 3]), progress=True, ordered=False)
    next(values)
    values.close()
    assert (made[1].n, made[1].disable) == (1, True)
    assert "| 1/3 [" in capsys.readouterr().err


def rest(values):
    """The values that are left, and the names of what is raised in their places."""
    got = []
    while True:
        try:
            got.append(next(values))
        except StopIteration:
            return got
        except Exception as e:
            got.append(type(e).__name__)


def test_unreadable(nv):
    """A value that cannot be read here is that item's trouble alone."""
    def strange(i):
        import sys
        import types
        there = sys.modules.setdefault("only_there", types.ModuleType("only_there"))
        exec("class Strange: pass", there.__dict__)
        return there.Strange() if i == 3 else i

    assert rest(nv.function(strange).map(range(6), chunksize=1)) == [0, 1, 2, "Unreadable", 4, 5]


def test_items_by_themselves(nv):
    """A chunk's answers as hosts send them, each a pickle of its own; and as they once did."""
    def read(state, value):
        data = base64.b64encode(pickle.dumps(value)).decode()
        return _future.read_batch(nv, {"index": 0, "state": state, "attempt": {"reason": "exception"}, "value": {"base64": data}}, "j")

    good = pickle.dumps("good")
    got = read("failed", ("items", [(True, good), (False, b"cnowhere\nNothing\n."), (False, pickle.dumps(ValueError(1))), (True, b"\x80")]))
    assert got[0] == (True, "good")
    assert [ok for ok, _ in got] == [True, False, False, False]
    assert [type(e) for _, e in got[1:]] == [_future.Unreadable, ValueError, _future.Unreadable]
    assert read("succeeded", [(True, good), (True, 1)]) == [(True, good), (True, 1)]


def test_cancelled_amap(nv, jobs):
    """Whoever is cancelled while they wait for values leaves nobody who goes on waiting."""
    made = []
    there = nv.function(time.sleep)

    def mapped(*args, **named):
        made.append(type(there).map(there, *args, **named))
        return made[0]

    there.map = mapped

    async def main():
        async def take():
            async for _ in there.amap([1000]):
                pass

        taking = asyncio.ensure_future(take())
        while not made or made[0]._results is None:
            await asyncio.sleep(0.01)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

    began = time.monotonic()
    asyncio.run(main())  # which waits for the threads that were used
    assert time.monotonic() - began < 10
    assert jobs.ends(made[0].job) == "stopped"


def test_collected(own, jobs):
    """A map that nobody holds stops in no thread that the collector happens to be in."""
    stopped = []
    stop = own.stop
    own.stop = lambda job: (stop(job), stopped.append((job, threading.current_thread().name)))
    values = own.function(time.sleep).map([1000])
    job = values.job
    with own._registering:
        del values
        gc.collect()
    until(lambda: stopped, "the map stops")
    assert stopped[0] == (job, "navvy-errands")
    assert jobs.ends(job) == "stopped"


def test_closed_before_its_id(own, jobs, monkeypatch):
    """A job that the server makes while its map is closed is stopped, not held."""
    may = threading.Event()
    hear = _feeder.Feeder._hear

    def late(self):
        assert may.wait(PATIENCE)
        return hear(self)

    monkeypatch.setattr(_feeder.Feeder, "_hear", late)
    values = own.function(time.sleep).map([1000] * 3, chunksize=1)
    until(lambda: values._feeder._exchange is not None, "the job is on its way")
    closing = threading.Thread(target=values.close)
    closing.start()
    until(lambda: values._feeder._closed, "it is being closed")
    may.set()
    closing.join(PATIENCE)
    assert jobs.ends(values._feeder._parts[0].job) == "stopped"
