"""Ctrl-C: a real SIGINT to a real program, and what the navvy command says of its jobs then."""

import json
import signal
import textwrap

import pytest
from conftest import PATIENCE, until
from test_calls import script

HEAD = """
    import concurrent.futures, os, signal, sys, threading, time
    import navvy

    def talk(seconds):
        print("said", flush=True)
        time.sleep(seconds)

    def interrupt(*names):
        "Send SIGINT when the main thread is in a function of these names, and again if it stays."
        # Python forgets a signal that comes in the moment before it blocks.
        main = threading.main_thread().ident
        def there():
            frame, inside = sys._current_frames()[main], set()
            while frame is not None:
                inside.add(frame.f_code.co_name)
                frame = frame.f_back
            return inside.issuperset(names)
        def run():
            while not there():
                time.sleep(0.001)
            while there():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
        threading.Thread(target=run, daemon=True).start()

    nv = navvy.connect()
    there = nv.function(talk)
"""

CALL = """
    future = there.submit(1000)
    print(future.job, flush=True)
"""

LEFT = {
    "result": CALL + "    future.result()",
    "exception": CALL + "    future.exception()",
    "wait": CALL + "    concurrent.futures.wait([future])",
    "as_completed": CALL + "    list(concurrent.futures.as_completed([future, there.submit(1000)]))",
    "logs": CALL + "    list(future.logs(follow=True))",
    "elsewhere": CALL + "    time.sleep(1000)",
    "asyncio": CALL + """
    import asyncio
    async def main():
        await asyncio.wrap_future(future)
    asyncio.run(main())
    """,
    "client": """
    with nv:
        future = there.submit(1000)
        print(future.job, flush=True)
        time.sleep(1000)
    """,
    "executor": """
    with nv.executor() as pool:
        print(pool.submit(talk, 1000).job, flush=True)
        time.sleep(1000)
    """,
    "executor_ends": """
    with nv.executor() as pool:
        print(pool.submit(talk, 1000).job, flush=True)
    """,
    "executor_map": """
    with nv.executor() as pool:
        values = pool.map(talk, [0, 1000, 1000], chunksize=1)
        for value in values:
            print(values.job, flush=True)
            time.sleep(1000)
    """,
}


@pytest.fixture
def state(data, cli):
    """The state of a job, by the navvy command."""
    return lambda job: json.loads(cli("status", job, "-o", "json"))["state"]


def stopped(state, job):
    until(lambda: state(job) not in ("waiting", "running"), "job %s ends" % job)
    return state(job) == "stopped"


@pytest.mark.parametrize("how", LEFT)
def test_left_by_interrupt(nv, state, tmp_path, how):
    """A program that Ctrl-C ends leaves nothing that runs on."""
    p = script(tmp_path, HEAD + LEFT[how])
    job = p.stdout.readline().decode().strip()
    assert state(job) in ("waiting", "running")
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in err and b"ignored" not in err, err.decode()
    assert state(job) == "stopped"  # before the program has ended


CAUGHT = {
    "exception": ("wait", "exception", "future.exception()"),
    "logs": ("recv", "_followed", "list(future.logs(follow=True))"),
    "executor": ("inside", "inside", """
        def inside():
            time.sleep(1000)
        with nv.executor() as pool:
            future = pool.submit(talk, 1000)
            print(future.job, flush=True)
            inside()
    """),
    "executor_ends": ("wait", "shutdown", """
        with nv.executor() as pool:
            future = pool.submit(talk, 1000)
            print(future.job, flush=True)
    """),
}


@pytest.mark.parametrize("how", CAUGHT)
def test_caught(nv, state, tmp_path, how):
    """What waits for a call cancels it, also where the program goes on."""
    *names, text = CAUGHT[how]
    if "\n" not in text:
        text = "print(future.job, flush=True)\n" + text
        head = HEAD + "    future = there.submit(1000)\n"
    else:
        head = HEAD
    text = textwrap.indent(textwrap.dedent(text), " " * 8)
    p = script(tmp_path, head + "    interrupt(%r, %r)\n    try:\n%s\n" % (*names, text) + """
    except KeyboardInterrupt:
        assert future.cancelled() and there.call(0) is None
        print("went on", flush=True)
        sys.stdin.read()
    """, stdin=-1)
    job = p.stdout.readline().decode().strip()
    assert p.stdout.readline() == b"went on\n", p.stderr.read().decode()
    assert stopped(state, job)
    assert p.communicate(timeout=PATIENCE)[1] == b""


def test_many_are_stopped(nv, state, tmp_path):
    """All of them, and soon."""
    p = script(tmp_path, HEAD + """
    futures = [there.submit(1000) for _ in range(300)]
    print(*[futures[i].job for i in (0, 150, 299)], flush=True)
    concurrent.futures.wait(futures)
    """)
    some = p.stdout.readline().decode().split()
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=PATIENCE)
    assert [state(job) for job in some] == ["stopped"] * 3


def test_whoever_catches_it_decides(nv, state, cli, tmp_path):
    """Calls go on where the program does, unless it cancels them."""
    p = script(tmp_path, HEAD + """
    futures = [there.submit(1000), navvy.connect().function(talk).submit(1000)]
    print(*[f.job for f in futures], flush=True)
    try:
        interrupt("wait")
        concurrent.futures.wait(futures)
    except KeyboardInterrupt:
        nv.cancel()
        assert futures[0].cancelled()
    """)
    cancelled, goes_on = p.stdout.readline().decode().split()
    assert p.communicate(timeout=PATIENCE)[1] == b""
    assert state(cancelled) == "stopped" and state(goes_on) in ("waiting", "running")
    cli("stop", goes_on)
