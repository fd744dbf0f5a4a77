"""One call, and what becomes of it."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import beside
import navvy
import pytest
from conftest import PATIENCE, until


def add(x, y=0, *more, **named):
    return x + y + sum(more) + sum(named.values())


def test_call(nv):
    there = nv.function(add)
    assert there(1, y=2) == 3  # here
    assert there.call(1, 2, 3, four=4) == 10
    assert there.submit(1).result(PATIENCE) == 1
    assert there.__name__ == "add" and "add" in repr(there)


def test_options(nv, jobs):
    @nv.function(retries=2, backoff=0.01, timeout=30, name="named", priority=3)
    def f():
        return 7

    future = f.submit()
    assert future.result(PATIENCE) == 7
    job = nv.transport.call("GET", "/v1/jobs/" + future.job)["job"]
    assert job["name"] == "named" and job["priority"] == 3
    assert job["spec"]["timeout"] == "30s" and job["spec"]["retry"]["max"] == 2
    with pytest.raises(TypeError):
        nv.function(speed=3)
    for wrong in {"memory": "much"}, {"timeout": 0}:
        with pytest.raises(navvy.Invalid):
            nv.function(**wrong)(add).submit(1)


def test_retries(nv, tmp_path):
    count = tmp_path / "count"

    @nv.function(retries=3, backoff=0.01)
    def third():
        with open(count, "a") as f:
            f.write("x")
        if count.stat().st_size < 3:
            raise OSError("not yet")
        return count.stat().st_size

    assert third.call() == 3


def test_exception(nv):
    def inner(x):
        raise KeyError(x, "gone")

    def outer(x):
        return inner(x)

    future = nv.function(outer).submit("a")
    with pytest.raises(KeyError) as raised:
        future.result(PATIENCE)
    assert raised.value.args == ("a", "gone")
    assert isinstance(raised.value.__cause__, navvy.RemoteTraceback)
    assert "in inner" in str(raised.value.__cause__) and "test_calls.py" in str(raised.value.__cause__)
    assert isinstance(future.exception(), KeyError)


class Own(Exception):
    pass


def test_own_exceptions(nv):
    with pytest.raises(beside.Refused) as raised:
        nv.function(beside.refuse).call(7)
    assert raised.value.code == 7

    @nv.function
    def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        leave.call()

    @nv.function
    def unwritable():
        return (i for i in range(3))

    with pytest.raises(TypeError, match="generator"):
        unwritable.call()


def test_reference(nv):
    pid, name = nv.function(beside.where).call()
    assert pid != os.getpid() and name == "beside"
    future = nv.function(beside.double).submit(2)
    assert future.result(PATIENCE) == 4
    spec = nv.transport.call("GET", "/v1/jobs/" + future.job)["job"]["spec"]
    assert nv.transport.call("GET", "/v1/functions/" + spec["function"]["id"])["form"] == "reference"


def test_missing_module(nv, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    sys.path.remove(str(tmp_path))  # where nobody finds it any more
    with pytest.raises(ImportError, match="python-path"):
        nv.function(only_here.f).call()


def test_failed(nv):
    @nv.function
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    future = die.submit()
    with pytest.raises(navvy.WorkerDied, match="died|signal") as raised:
        future.result(PATIENCE)
    assert raised.value.job == future.job

    @nv.function(timeout=0.3)
    def forever():
        time.sleep(1000)

    with pytest.raises(navvy.TaskTimeout):
        forever.call()
    with pytest.raises(TimeoutError):
        forever.call()


def test_long_values(nv):
    @nv.function
    def long(data):
        print("said")
        return data * 2

    data = os.urandom(3 << 20)
    future = long.submit(data)
    assert future.result(PATIENCE) == data * 2
    assert list(future.logs()) == ["said"]


def test_logs(nv, tmp_path):
    gate = tmp_path / "gate"

    @nv.function
    def talk():
        print("first")
        while not gate.exists():
            time.sleep(0.01)
        print("last", file=__import__("sys").stderr)

    future = talk.submit()
    lines = future.logs(follow=True)
    assert next(lines) == "first"
    assert not future.done() and future.running()
    gate.touch()
    assert list(lines) == ["last"]
    assert future.result(PATIENCE) is None
    assert list(future.logs(stream="stderr")) == ["last"]


def test_cancel(nv, jobs):
    @nv.function
    def forever():
        time.sleep(1000)

    future = forever.submit()
    told = threading.Event()
    future.add_done_callback(lambda f: told.set())
    job = future.job
    until(future.running, "the call runs")
    assert future.cancel() and future.cancelled() and future.done() and told.is_set()
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert jobs.ends(job) == "stopped"
    done = nv.function(add).submit(1)
    done.result(PATIENCE)
    assert not done.cancel()


def test_stopped_by_others(nv, cli):
    @nv.function
    def forever():
        time.sleep(1000)

    future = forever.submit()
    cli("stop", future.job)
    with pytest.raises(navvy.TaskStopped):
        future.result(PATIENCE)


def test_concurrent_futures(nv):
    there = nv.function(add)
    futures = [there.submit(i) for i in range(50)]
    done, left = concurrent.futures.wait(futures, PATIENCE)
    assert len(done) == 50 and not left
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures)) == list(range(50))
    bad = nv.function(beside.refuse).submit(1)
    done, left = concurrent.futures.wait([bad], PATIENCE, concurrent.futures.FIRST_EXCEPTION)
    assert done == {bad}
    with pytest.raises(concurrent.futures.TimeoutError):
        nv.function(time.sleep).submit(0.3).result(0.01)


def test_asyncio(nv):
    there = nv.function(add)

    async def main():
        assert await there.asubmit(1, 2) == 3
        assert await asyncio.gather(*(there.asubmit(i) for i in range(20))) == list(range(20))
        with pytest.raises(beside.Refused):
            await nv.function(beside.refuse).asubmit(1)

    asyncio.run(main())


def test_threads(nv):
    there = nv.function(add)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(there.call, range(400))) == sum(range(400))


def test_callbacks_may_call(nv):
    there = nv.function(add)
    results = []
    came = threading.Semaphore(0)

    def again(future):
        results.append(future.result())
        if future.result() < 20:
            there.submit(future.result(), 1).add_done_callback(again)
        else:
            came.release()

    there.submit(0).add_done_callback(again)
    assert came.acquire(timeout=PATIENCE) and results == list(range(21))


def test_methods(nv):
    class Scale:
        def __init__(self, by):
            self.by = by

        @nv.function
        def of(self, x):
            return self.by * x

    assert Scale(3).of(2) == 6
    assert nv.function(Scale(3).of).call(2) == 6


def test_client_stays(nv):
    with pytest.raises(navvy.CannotPickle, match="client"):
        nv.function(lambda x: x).submit(nv)


def test_executor(nv):
    with nv.executor(retries=1) as pool:
        assert isinstance(pool, concurrent.futures.Executor)
        futures = [pool.submit(pow, 2, i) for i in range(5)]
        assert [f.result(PATIENCE) for f in futures] == [1, 2, 4, 8, 16]
        assert list(pool.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
        assert list(pool.map(lambda x: x + 1, range(100), timeout=PATIENCE, chunksize=7)) == list(range(1, 101))
        last = pool.submit(time.sleep, 0.1)
    assert last.done()
    with pytest.raises(RuntimeError):
        pool.submit(pow, 1, 1)

    pool = navvy.Executor(nv)
    waits = pool.submit(time.sleep, 1000)
    pool.shutdown(cancel_futures=True)
    assert waits.cancelled()


def test_in_asyncio_executor(nv):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.wrap_future(nv.executor().submit(pow, 2, 3), loop=loop)

    assert asyncio.run(main()) == 8


def script(tmp_path, text, *args, **options):
    """Run a program that uses the SDK."""
    path = tmp_path / "program.py"
    path.write_text("import sys; sys.path.insert(0, %r)\n" % str(Path(navvy.__file__).parents[1]) + textwrap.dedent(text))
    return subprocess.Popen([sys.executable, *args, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


MAIN = """
    import navvy
    nv = navvy.connect()
    LIMIT = 3

    class TooLow(Exception):
        pass

    class Point:
        def __init__(self, x): self.x = x

    @nv.function
    def fact(n):
        if n < LIMIT - 4: raise TooLow(n)
        return 1 if n < 2 else n * fact(n - 1)

    @nv.function
    def move(p):
        return Point(p.x + 1)

    assert fact.call(5) == 120
    try:
        fact.call(-7)
    except TooLow as e:
        assert e.args == (-7,)
    moved = move.call(Point(3))
    assert moved.x == 4 and isinstance(moved, Point), type(moved)
    assert [p.x for p in move.map(map(Point, range(5)))] == [1, 2, 3, 4, 5]
    assert nv.function(lambda x: x + LIMIT).call(1) == 4
    print("good")
"""


CLASSES = """
    class Base:
        pass

    class Node(Base):
        def __init__(self, x): self.x = x
        def next(self): return Node(self.x + 1)
        def __eq__(self, other): return type(self) is type(other) and self.x == other.x

    class Other:
        class Node: kind = "another"

    @nv.function
    def nodes(n):
        return {"nodes": [n, n.next(), [Node(7)]], "inner": Other.Node(), "class": Node, "errors": [TooLow(1)]}

    step, init = Node.next, Node.__init__
    got = nodes.call(Node(1))
    assert got["nodes"] == [Node(1), Node(2), [Node(7)]] and got["class"] is Node, got
    assert type(got["errors"][0]) is TooLow and isinstance(got["nodes"][0], Base)
    assert got["inner"].kind == "another" and not isinstance(got["inner"], Node)
    assert Node.next is step and Node.__init__ is init and Node.__qualname__ == "Node"
    print("good")
"""


@pytest.mark.parametrize("without", ["", "cloudpickle", "dill"])
def test_main(data, tmp_path, without):
    """Also classes of __main__ that come back inside of others are the program's own."""
    p = script(tmp_path, ("import sys; sys.modules[%r] = None\n" % without if without else "") + textwrap.dedent(MAIN + CLASSES))
    out, err = p.communicate(timeout=PATIENCE)
    assert out == b"good\n" * 2, err.decode()


def test_left_behind(nv, data, tmp_path, jobs):
    """What was submitted runs, although its program has ended."""
    mark = tmp_path / "mark"
    p = script(tmp_path, """
        import navvy
        def leave(path):
            open(path, "w").close()
        navvy.connect().function(leave).submit(%r)
    """ % str(mark))
    assert p.communicate(timeout=PATIENCE)[1] == b""
    until(mark.exists, "the call that was left behind runs")


def test_interrupt(nv, data, tmp_path, jobs):
    p = script(tmp_path, """
        import navvy, time
        future = navvy.connect().function(time.sleep).submit(1000)
        print(future.job, flush=True)
        future.result()
    """)
    job = p.stdout.readline().decode().strip()
    time.sleep(0.1)  # it may be anywhere, but is most likely waiting
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in err
    assert jobs.ends(job) == "stopped"


def test_fork(nv):
    there = nv.function(add)
    assert there.call(1) == 1
    waiting = there.submit(2)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(there.call(3, 4))
        except BaseException:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert waiting.result(PATIENCE) == 2 and there.call(5) == 5


def test_too_long(nv):
    """An input that the server would not read is refused by itself."""
    there = nv.function(len)
    waits = nv.function(time.sleep).submit(0.3)
    with pytest.raises(navvy.Invalid, match="12.6 MB.*file"):
        there.submit(bytes(12_600_000))
    assert there.call(bytes(12_500_000)) == 12_500_000
    with pytest.raises(navvy.Invalid, match="call take 13.0 MB"):
        list(there.map([bytes(13_000_000)]))
    with pytest.raises(navvy.Invalid, match="2 calls takes 14.0 MB"):
        list(there.map([bytes(7_000_000), bytearray(7_000_000)], chunksize=2))
    assert waits.result(PATIENCE) is None


@pytest.mark.parametrize("leaves", [SystemExit, KeyboardInterrupt])
def test_callback_leaves(nv, monkeypatch, leaves):
    """A callback that raises even this ends nothing but itself."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    there = nv.function(add)

    def callback(future):
        raise leaves()

    waits = nv.function(time.sleep).submit(0.2)
    waits.add_done_callback(callback)
    assert waits.result(PATIENCE) is None
    assert there.submit(1).result(PATIENCE) == 1
    assert shown == [leaves]


def test_interrupted_while_it_sends(own):
    """Ctrl-C while one thread sends what others have called leaves nobody waiting."""
    there = own.function(add)
    assert there.call(1) == 1

    def part(data):
        del exchange.part
        raise KeyboardInterrupt

    exchange = own.calls._exchange
    with own.calls._sending:
        others = there.submit(2)
    exchange.part = part
    with pytest.raises(KeyboardInterrupt):
        there.submit(3)
    assert others.result(PATIENCE) == 2 and there.call(4) == 4
