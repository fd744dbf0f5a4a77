"""A function that somebody removes while a program calls it is registered anew."""

import threading

import navvy
import pytest
from conftest import PATIENCE, until
from test_calls import script


def add(x, y=0):
    return x + y


def mark(path, i):
    with open(path, "a") as f:
        f.write("%d\n" % i)
    return i


@pytest.fixture
def remove(cli):
    return lambda name: cli("fn", "rm", "test_removed." + name)


def test_calls_go_on(nv, remove):
    there = nv.function(add)
    for i in range(3):
        assert there.call(i, 1) == i + 1
        remove("add")
        future = there.submit(i)
        assert future.job and future.result(PATIENCE) == i  # the id is asked for meanwhile
        remove("add")
        assert list(there.map(range(20))) == list(range(20))
    other = nv.function(retries=1)(add)
    assert other.call(5) == there.call(5) == 5


def test_each_call_is_made_once(nv, remove, tmp_path):
    """However many are on their way, and from however many threads."""
    there, path, found = nv.function(mark), str(tmp_path / "marks"), []
    assert there.call(path, -1) == -1

    def run(first):
        futures = [there.submit(path, i) for i in range(first, first + 100)]
        found.extend(f.result(PATIENCE) for f in futures)

    threads = [threading.Thread(target=run, args=(i * 100,)) for i in range(4)]
    remove("mark")  # before all that is accepted, which would have to run it
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert sorted(found) == list(range(400))
    lines = [int(line) for line in open(path)]
    assert sorted(lines) == list(range(-1, 400))


def test_cancelled_meanwhile(own, remove, monkeypatch):
    """A call that is cancelled while its function is registered is not sent again."""
    there = own.function(add)
    assert there.call(1) == 1
    remove("add")
    asked, may = threading.Event(), threading.Event()
    register = own.register

    def late(*args, **named):
        asked.set()
        assert may.wait(PATIENCE)
        return register(*args, **named)

    monkeypatch.setattr(own, "register", late)
    future = there.submit(2)
    assert asked.wait(PATIENCE)
    assert future.cancel()
    may.set()
    assert there.call(3) == 3
    with pytest.raises(navvy.NotFound):
        future.job  # it has none


def test_left_behind(nv, data, tmp_path):
    """A program that ends at once leaves such a call, too."""
    mark = tmp_path / "mark"
    p = script(tmp_path, """
        import subprocess, os, navvy
        def leave_mark(path):
            open(path, "w").close()
        there = navvy.connect().function(leave_mark)
        there.call("/dev/null")
        subprocess.run([os.environ["NAVVY_BIN"], "fn", "rm", "leave_mark"], check=True, stderr=subprocess.PIPE)
        there.submit(%r)
    """ % str(mark))
    assert p.communicate(timeout=PATIENCE)[1] == b""
    until(mark.exists, "the call that was left behind runs")


def test_once_only(nv, monkeypatch):
    """Where the server goes on to say that there is none, the caller hears of it."""
    there = nv.function(add)
    there.call(1)
    gone = {"id": "00000000-0000-4000-8000-000000000000", "name": "gone", "version": 1}
    monkeypatch.setattr(nv, "register", lambda *args, **named: gone)
    again = nv.function(add)
    for _ in range(2):
        with pytest.raises(navvy.NotFound, match="00000000"):
            again.call(1)
    with pytest.raises(navvy.NotFound, match="00000000"):
        list(again.map([1]))
