"""navvy's Python functions beside their peers. scripts/bench-python.sh starts it.

Each contender is a process of its own, which waits for orders on its standard input. The
rounds go through all contenders by turns, and each figure is the median of its rounds: so
whatever else uses the machine meets all of them.
"""

import argparse
import codecs
import json
import operator
import os
import pickle
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

READY = 60.0  # seconds for a part to start, or to end
NOOP = operator.pos  # a function of Python's own that gives its argument back


# What starts and ends.


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(true, what, process=None):
    """Wait until something holds."""
    end = time.monotonic() + READY
    while not true():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what}: the process has ended with {process.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not after {READY:.0f} s")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def end(process):
    """End a process that was started here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(READY)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


# The contenders. rate makes so many calls as fast as may be, one makes them one by one.


def one_by_one(call, n):
    """The median time of a call, in seconds."""
    times = []
    for i in range(n):
        began = time.perf_counter()
        call(i)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def timed(do):
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def check(values, n):
    if list(values) != list(range(n)):
        raise RuntimeError("values are missing, or wrong")


class SDK:
    """navvy through its SDK: a local navvy on a data directory, durable."""

    def __init__(self, folder):
        import navvy

        self.data = os.path.join(folder, "sdk")
        self.client = navvy.connect(data=self.data)
        self.noop = self.client.function(NOOP)
        self.noop.call(0)

    def rate(self, n):
        return n / timed(lambda: check(self.noop.map(range(n), chunksize="auto", progress=False), n))

    def one(self, n):
        return one_by_one(self.noop.call, n)

    def close(self):
        with open(os.path.join(self.data, "lock")) as f:
            pid = int(f.read().split()[0])
        self.client.close()
        try:
            until(lambda: not os.path.exists(f"/proc/{pid}"), "the local navvy ends by itself")
        except RuntimeError:
            os.kill(pid, signal.SIGTERM)
            raise


class Pool:
    """What Python has itself; nothing is durable."""

    def __init__(self, folder):
        import multiprocessing

        self.pool = multiprocessing.Pool(2)
        self.pool.map(NOOP, range(64), chunksize=1)

    def rate(self, n):
        return n / timed(lambda: check(self.pool.map(NOOP, range(n), chunksize=1), n))

    def one(self, n):
        return one_by_one(lambda i: self.pool.apply(NOOP, (i,)), n)

    def close(self):
        self.pool.terminate()
        self.pool.join()


CELERY = """
from celery import Celery
app = Celery("peer", broker=URL, backend=URL)
@app.task
def noop(x):
    return x
"""


class Celery:
    """Celery on Redis, with results, its settings as they come."""

    def __init__(self, folder):
        folder = os.path.join(folder, "celery")
        os.mkdir(folder)
        port = free_port()
        self.processes = []
        try:
            self.begin(folder, port)
        except BaseException:
            self.close()
            raise

    def begin(self, folder, port):
        redis = self.start(folder, ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder,
                                    "--save", "", "--appendonly", "no"])
        until(lambda: listens(port), "redis-server", redis)
        with open(os.path.join(folder, "peer.py"), "w") as f:
            f.write(CELERY.replace("URL", repr(f"redis://127.0.0.1:{port}/0")))
        worker = self.start(folder, [sys.executable, "-m", "celery", "-A", "peer", "worker", "-c", "2", "-l", "WARNING"])
        sys.path.insert(0, folder)
        import peer

        self.noop = peer.noop
        until(lambda: peer.app.control.ping(timeout=0.5), "the worker of Celery", worker)
        self.noop.delay(0).get(READY)

    def start(self, folder, command):
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        self.processes.append(process)
        return process

    def rate(self, n):
        def do():
            sent = [self.noop.delay(i) for i in range(n)]
            check([r.get(READY) for r in sent], n)
        return n / timed(do)

    def one(self, n):
        return one_by_one(lambda i: self.noop.delay(i).get(READY), n)

    def close(self):
        for process in reversed(self.processes):
            end(process)


class Dask:
    """Dask with two processes."""

    def __init__(self, folder):
        import distributed

        self.cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
            local_directory=os.path.join(folder, "dask"))
        self.client = distributed.Client(self.cluster)
        self.client.submit(NOOP, 0, pure=False).result(READY)

    def rate(self, n):
        return n / timed(lambda: check(self.client.gather(self.client.map(NOOP, range(n), pure=False)), n))

    def one(self, n):
        return one_by_one(lambda i: self.client.submit(NOOP, i, pure=False).result(READY), n)

    def close(self):
        self.client.close()
        self.cluster.close()


class Rest:
    """A client of the MPCS FaaS: requests, with a session for each thread."""

    def __init__(self, url, process):
        import requests

        self.url, self.process, self.session = url, process, requests.Session
        with self.session() as s:
            answer = s.post(url + "/register_function", json={"name": "noop", "payload": text(NOOP)})
            answer.raise_for_status()
            self.function = answer.json()["function_id"]
            for i in range(20):
                self.call(s, i)

    def call(self, session, i):
        sent = session.post(self.url + "/execute_function", json={"function_id": self.function, "payload": text(((i,), {}))})
        task = sent.json()["task_id"]
        while True:
            told = session.get(f"{self.url}/result/{task}").json()
            if told["status"] == "COMPLETED":
                return pickle.loads(codecs.decode(told["result"].encode(), "base64"))
            if told["status"] == "FAILED":
                raise RuntimeError("a call has failed")

    def one(self, n):
        with self.session() as s:
            return one_by_one(lambda i: self.call(s, i), n)

    def rate(self, n, threads=8):
        failed = []

        def work():
            try:
                with self.session() as s:
                    for i in range(n // threads):
                        self.call(s, i)
            except Exception as e:
                failed.append(e)

        def do():
            all_threads = [threading.Thread(target=work) for _ in range(threads)]
            for t in all_threads:
                t.start()
            for t in all_threads:
                t.join()
        seconds = timed(do)
        if failed:
            raise failed[0]
        return n // threads * threads / seconds

    def close(self):
        end(self.process)


def text(value):
    """A payload: a pickle in base 64, in MIME's lines."""
    return codecs.encode(pickle.dumps(value, 4), "base64").decode()


def navvy_rest(folder):
    """navvy dev, with two processes, durable."""
    port = free_port()
    process = subprocess.Popen(
        [os.environ["NAVVY_BIN"], "dev", "--faas", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{free_port()}",
         "--listen", f"127.0.0.1:{free_port()}", "-w", "2", "--data", os.path.join(folder, "dev"),
         "--python", sys.executable], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        until(lambda: listens(port), "navvy dev", process)
        return Rest(f"http://127.0.0.1:{port}", process)
    except BaseException:
        end(process)
        raise


def instant_rest(folder):
    """What answers at once and runs nothing."""
    process = subprocess.Popen([os.path.join(folder, "instant")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return Rest("http://" + process.stdout.readline().decode().strip(), process)
    except BaseException:
        end(process)
        raise


CONTENDERS = {"sdk": SDK, "pool": Pool, "celery": Celery, "dask": Dask, "rest": navvy_rest, "instant": instant_rest}

# How many calls a round makes of each, at full speed and one by one.
CALLS = {"sdk": (50_000, 300), "pool": (50_000, 300), "celery": (2_000, 200), "dask": (2_000, 100),
         "rest": (1_600, 300), "instant": (1_600, 300)}


def serve(name, folder):
    """Be a contender: for each order on standard input, an answer on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what else is printed goes to the log
    contender = CONTENDERS[name](folder)
    try:
        answers.write("ready\n")
        for line in sys.stdin:
            what, n = line.split()
            answers.write(f"{getattr(contender, what)(int(n))}\n")
    finally:
        contender.close()
    os._exit(0)  # Celery's client would look for its Redis for 20 s first


# The one that gives orders.


class Child:
    """A contender in a process of its own."""

    def __init__(self, name, folder):
        self.name, self.log = name, os.path.join(folder, name + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([sys.executable, __file__, "--dir", folder, "--serve", name],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def hear(self):
        line = self.process.stdout.readline().strip()
        if not line:
            with open(self.log) as log:
                last = (log.read().strip().splitlines() or ["it says nothing"])[-1]
            raise RuntimeError(f"{self.name}: {last}")
        return line

    def ask(self, what, n):
        self.process.stdin.write(f"{what} {n}\n")
        self.process.stdin.flush()
        return float(self.hear())

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(2 * READY)
        except subprocess.TimeoutExpired:
            end(self.process)


def measure(folder, names, rounds, scale):
    """The rounds of each contender's rate and time of a call; and who is missing, and why."""
    found, missing, children = {}, {}, []
    try:
        for name in names:
            children.append(Child(name, folder))
            try:
                children[-1].hear()
            except RuntimeError as e:
                missing[name] = str(e)
                children.pop().close()
        for child in children:
            child.ask("rate", 64)  # warm
            found[child.name] = {"rate": [], "one": []}
        for done in range(rounds):
            print(f"bench-python: round {done + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            for i, what in enumerate(("rate", "one")):
                for child in children:
                    found[child.name][what].append(child.ask(what, max(16, int(CALLS[child.name][i] * scale))))
    finally:
        for child in children:
            child.close()
    return found, missing


# Figure, whose, what of it, beside whom, how they are compared, and the goal.
GOALS = [
    ("SDK: map of 50,000, chunksize auto", "sdk", "rate", "celery", "ratio", 20),
    ("SDK: map of 50,000, chunksize auto", "sdk", "rate", "dask", "ratio", 20),
    ("SDK: map of 50,000, chunksize auto", "sdk", "rate", "pool", "ratio", 0.5),
    ("SDK: one call at a time, p50", "sdk", "one", "celery", "time", 0.0015),
    ("SDK: one call at a time, p50", "sdk", "one", "dask", "time", 0.0015),
    ("REST: one at a time, p50", "rest", "one", "instant", "more", 0.002),
    ("REST: 8 threads", "rest", "rate", "instant", "ratio", 0.7),
]
LABELS = {"celery": "Celery on Redis", "dask": "Dask", "pool": "Pool(2), chunksize 1", "instant": "answering at once"}


def number(what, value):
    return f"{value * 1000:.2f} ms" if what == "one" else f"{value:,.0f}/s"


def judge(found, goal):
    """A row of the table; None if there is nothing to say."""
    label, name, what, peer, how, bound = goal
    if name not in found:
        return None
    ours, theirs = found[name][what], found.get(peer, {}).get(what)
    row = {"figure": label, "measured": statistics.median(ours), "unit": "s" if what == "one" else "1/s", "beside": LABELS[peer]}
    if theirs is not None:
        row["peer"] = statistics.median(theirs)
        row["ratio"] = statistics.median(a / b for a, b in zip(ours, theirs))
    if how == "ratio":
        row["goal"] = f"at least {bound:g} ×"
        row["reached"] = None if theirs is None else row["ratio"] >= bound
    elif how == "time":
        row["goal"] = f"at most {bound * 1000:g} ms"
        row["reached"] = row["measured"] <= bound
    else:
        row["goal"] = f"at most {bound * 1000:g} ms more"
        row["reached"] = None
        if theirs is not None:
            row["more"] = statistics.median(a - b for a, b in zip(ours, theirs))
            row["reached"] = row["more"] <= bound
    return row


def compared(row):
    if "more" in row:
        return f"+{row['more'] * 1000:.2f} ms"
    return f"{row['ratio']:.2f} ×" if "ratio" in row else ""


def table(rows):
    lines = [("FIGURE", "MEASURED", "BESIDE", "", "COMPARED", "GOAL", "")]
    for row in rows:
        what = "one" if row["unit"] == "s" else "rate"
        lines.append((
            row["figure"], number(what, row["measured"]), row["beside"],
            number(what, row["peer"]) if "peer" in row else "missing",
            compared(row), row["goal"],
            {True: "reached", False: "MISSED", None: "not measured"}[row["reached"]]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths)).rstrip() for line in lines)


def main():
    parser = argparse.ArgumentParser(prog="bench-python.sh", description="navvy's Python functions beside their peers, in one run")
    parser.add_argument("--dir", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="NAMES", default=",".join(CONTENDERS), help="contenders, with commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor for how many calls a round makes (default: 1)")
    parser.add_argument("-o", dest="form", choices=("table", "json"), default="table", help="how the figures are printed (default: table)")
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.dir)
    names = args.only.split(",")
    unknown = [n for n in names if n not in CONTENDERS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: want some of {', '.join(CONTENDERS)}")
    before = os.getloadavg()
    found, missing = measure(args.dir, names, args.rounds, args.scale)
    for name, why in missing.items():
        print(f"bench-python: {name} is left out: {why}", file=sys.stderr)
    rows = [row for row in (judge(found, goal) for goal in GOALS) if row]
    load = f"load before {before[0]:.1f}, after {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores; medians of {args.rounds} rounds"
    if args.form == "json":
        print(json.dumps({"load": [before[0], os.getloadavg()[0]], "figures": rows, "rounds": found}, indent=2))
    else:
        print(table(rows), load, sep="\n")
    return None


if __name__ == "__main__":
    main()
