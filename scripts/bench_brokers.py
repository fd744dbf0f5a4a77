"""navvy's worker without a server beside Celery and asynq. scripts/bench-brokers.sh starts it.

Each contender has a worker of its own, which runs all the time, and a client that sends
requests and collects their answers. The rounds go through all contenders by turns, and each
figure is the median of its rounds: so whatever else uses the machine meets all of them.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

READY = 120.0  # seconds for a part to start, or to end
SLOTS = 500  # requests that navvy's worker works on at once
DIR = NAVVY = None  # a temporary directory, and the program


# What starts and ends.


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(true, what, process=None):
    """Wait until something holds."""
    end_at = time.monotonic() + READY
    while not true():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what} has ended with {process.returncode}")
        if time.monotonic() > end_at:
            raise RuntimeError(f"{what}: not after {READY:.0f} s")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def start(name, command, **more):
    """Start a process whose output goes to a log."""
    with open(os.path.join(DIR, name + ".log"), "a") as log:
        more = {"stdin": subprocess.DEVNULL, "stdout": log, **more}
        return subprocess.Popen(command, stderr=log, cwd=DIR, **more)


def end(process):
    """End a process that was started here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(READY)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def missing(*files):
    for file in files:
        if not any(os.access(os.path.join(d, file), os.X_OK) for d in os.environ["PATH"].split(":") + ["/usr/sbin"]):
            return f"{file} is not installed"
    return None


# The brokers. Each has an address, and ends with close.


class Redis:
    def __init__(self, args):
        folder = os.path.join(DIR, "redis")
        os.mkdir(folder)
        self.port = free_port()
        self.process = start("redis", ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder,
                                       "--save", "", "--appendonly", "yes", "--appendfsync", args.appendfsync])
        until(lambda: listens(self.port), "redis-server", self.process)

    def close(self):
        end(self.process)


class Nats:
    def __init__(self, _):
        self.port = free_port()
        self.process = start("nats", [os.path.join(DIR, "nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js",
                                      "-sd", os.path.join(DIR, "nats")])
        until(lambda: listens(self.port), "nats-server", self.process)

    def close(self):
        end(self.process)


class Rabbit:
    # The broker and Erlang's register of nodes end with whoever holds their input.
    SUPERVISE = 'epmd -address 127.0.0.1 & "$0" & read -r _; kill -KILL 0'
    SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # not the one on PATH, which changes its user

    def __init__(self, _):
        if not os.access(self.SERVER, os.X_OK):
            raise RuntimeError("rabbitmq-server is not installed")
        folder = os.path.join(DIR, "rabbit")
        os.mkdir(folder)
        self.port, dist, register = free_port(), free_port(), free_port()
        with open(os.path.join(folder, "rabbitmq.conf"), "w") as f:
            f.write(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\nlog.file = false\n")
        with open(os.path.join(folder, "enabled_plugins"), "w") as f:
            f.write("[].\n")
        env = {
            **os.environ, "HOME": folder, "RABBITMQ_NODENAME": f"navvy{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": folder + "/data", "RABBITMQ_LOG_BASE": folder + "/log",
            "RABBITMQ_CONFIG_FILE": folder + "/rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": folder + "/enabled_plugins",
            "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": str(register), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self.process = start("rabbit", ["sh", "-c", self.SUPERVISE, self.SERVER], env=env, stdin=subprocess.PIPE, start_new_session=True)
        until(self.answers, "rabbitmq-server", self.process)

    def answers(self):
        """Whether it greets who connects."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as s:
                s.sendall(b"AMQP\x00\x00\x09\x01")
                return len(s.recv(1)) == 1
        except OSError:
            return False

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


# The contenders. rate sends so many requests, collects as many answers, and tells how many
# that were in a second.


class Navvy:
    """worker start --service echo, and map --queue."""

    def __init__(self, scheme, port, options=""):
        self.url = [f"{scheme}://127.0.0.1:{port}/{q}{options[6:]}{options}" for q in ("requests", "responses")]
        self.worker = start("navvy", [NAVVY, "worker", "start", "--requests", self.url[0], "--responses", self.url[1],
                                      "--service", "echo", "-j", str(SLOTS)])

    def rate(self, n):
        file = os.path.join(DIR, "inputs")
        with open(file, "w") as f:
            f.writelines(f"request {i}\n" for i in range(n))
        began = time.monotonic()
        with open(file) as inputs:
            answers = subprocess.run([NAVVY, "map", "--quiet", "--queue", self.url[0], "--responses", self.url[1], "--patience", "1m"],
                                     stdin=inputs, stdout=subprocess.PIPE, check=True, cwd=DIR).stdout
        took = time.monotonic() - began
        with open(file, "rb") as f:
            if f.read() != answers:
                raise RuntimeError("answers are missing, or wrong")
        return n / took

    def close(self):
        end(self.worker)


class Orders:
    """A client that is a process: a number is an order, and its answer a rate."""

    def begin(self, command):
        self.client = start("client", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, n):
        self.client.stdin.write(f"{n}\n")
        self.client.stdin.flush()
        line = self.client.stdout.readline()
        if not line:
            raise RuntimeError("the client has ended: see its log")
        return float(line)

    def close(self):
        self.client.stdin.close()
        self.client.kill()
        self.client.wait()
        end(self.worker)


class Asynq(Orders):
    def __init__(self, port):
        program, addr = os.path.join(DIR, "asynqpeer"), f"127.0.0.1:{port}"
        self.worker = start("asynq", [program, "work", addr])
        self.begin([program, "ask", addr])


# Persistent requests and answers, confirmed by the broker where it can, acknowledged when
# they were answered; answers are wanted. What is fetched ahead is enough for no process to wait.
CELERY = """
from celery import Celery
app = Celery("NAME", broker=BROKER, backend=BACKEND)
app.conf.update(
    task_acks_late=True, task_ignore_result=False, result_persistent=True, task_default_delivery_mode="persistent",
    worker_prefetch_multiplier=100, worker_disable_rate_limits=True, worker_send_task_events=False,
    broker_transport_options={"confirm_publish": True} if BROKER.startswith("amqp") else {},
)
@app.task(name="echo")
def echo(x):
    return x
"""


class Celery(Orders):
    def __init__(self, name, broker, backend, args):
        import celery  # noqa: F401 - tells whether it is there

        with open(os.path.join(DIR, name + ".py"), "w") as f:
            f.write(CELERY.replace("NAME", name).replace("BROKER", repr(broker)).replace("BACKEND", repr(backend)))
        self.worker = start(name, [sys.executable, "-m", "celery", "-A", name, "worker", "-c", str(args.processes), "-l", "WARNING",
                                   "--without-gossip", "--without-mingle", "--without-heartbeat"])
        self.begin([sys.executable, os.path.abspath(__file__), "--dir", DIR, "--serve", name])


def ask_celery(name):
    """Be a client of Celery."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what else is printed goes to the log
    sys.path.insert(0, DIR)
    module = __import__(name)
    for line in sys.stdin:
        n = int(line)
        began = time.monotonic()
        sent = [module.echo.delay(f"request {i}") for i in range(n)]
        if [r.get(READY) for r in sent] != [f"request {i}" for i in range(n)]:
            raise RuntimeError("answers are missing, or wrong")
        answers.write(f"{n / (time.monotonic() - began)}\n")
    os._exit(0)  # its client would look for its broker for some time first


BROKERS = {"redis": Redis, "rabbit": Rabbit, "nats": Nats}

# Of each contender its broker, how it is made, and how many requests a round has.
CONTENDERS = {
    "navvy-redis": ("redis", lambda b, _: Navvy("redis", b.port), 20_000),
    "asynq-redis": ("redis", lambda b, _: Asynq(b.port), 20_000),
    "celery-redis": ("redis", lambda b, a: Celery("celery_redis", f"redis://127.0.0.1:{b.port}/1", f"redis://127.0.0.1:{b.port}/1", a), 4_000),
    "navvy-quorum": ("rabbit", lambda b, _: Navvy("amqp", b.port, "?type=quorum"), 20_000),
    "navvy-classic": ("rabbit", lambda b, _: Navvy("amqp", b.port, "?type=classic"), 20_000),
    "celery-rabbit": ("rabbit", lambda b, a: Celery("celery_rabbit", f"amqp://127.0.0.1:{b.port}//", "rpc://", a), 4_000),
    "navvy-nats": ("nats", lambda b, _: Navvy("nats", b.port), 20_000),
}
LABELS = {
    "navvy-redis": "echo over Redis", "navvy-quorum": "echo over RabbitMQ, quorum queues",
    "navvy-classic": "echo over RabbitMQ, classic queues", "navvy-nats": "echo over NATS",
    "asynq-redis": "asynq", "celery-redis": "Celery", "celery-rabbit": "Celery, classic queues",
}
GOAL = 2
PEERS = {"navvy-redis": ["asynq-redis", "celery-redis"], "navvy-quorum": ["celery-rabbit"], "navvy-classic": ["celery-rabbit"], "navvy-nats": []}


def measure(names, args):
    """The rounds of each contender; and who is missing, and why."""
    brokers, there, found, absent = {}, {}, {}, {}
    try:
        for name in names:
            broker, make, _ = CONTENDERS[name]
            try:
                if broker == "redis" and (why := missing("redis-server")):
                    raise RuntimeError(why)
                if broker not in brokers:
                    brokers[broker] = BROKERS[broker](args)
                there[name] = make(brokers[broker], args)
                found[name] = []
                print(f"bench-brokers: {name} is warm: {there[name].rate(1000):.0f}/s", file=sys.stderr)
            except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as e:
                absent[name] = str(e)
                found.pop(name, None)
        for done in range(args.rounds):
            print(f"bench-brokers: round {done + 1} of {args.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            for name in found:
                found[name].append(there[name].rate(max(16, int(CONTENDERS[name][2] * args.scale))))
    finally:
        for part in [*there.values(), *brokers.values()]:
            part.close()
    return found, absent


def judge(found, name):
    """A row for one of navvy's figures."""
    row = {"figure": LABELS[name], "measured": statistics.median(found[name]), "lowest": min(found[name]), "highest": max(found[name])}
    peers = [p for p in PEERS[name] if p in found]
    if peers:
        best = max(peers, key=lambda p: statistics.median(found[p]))
        row["beside"], row["peer"] = LABELS[best], statistics.median(found[best])
        row["ratio"] = statistics.median(a / b for a, b in zip(found[name], found[best]))
        row["reached"] = row["ratio"] >= GOAL
    row["others"] = {LABELS[p]: statistics.median(found[p]) for p in peers}
    return row


def table(rows):
    lines = [("FIGURE", "MEASURED", "FROM, TO", "BESIDE", "COMPARED", "GOAL", "")]
    for row in rows:
        others = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in row["others"].items())
        lines.append((
            row["figure"], f"{row['measured']:,.0f}/s", f"{row['lowest']:,.0f}, {row['highest']:,.0f}", others or "nobody",
            f"{row['ratio']:.2f} ×" if "ratio" in row else "", f"at least {GOAL} ×" if "ratio" in row else "",
            {True: "reached", False: "MISSED", None: "not measured"}[row.get("reached")]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths)).rstrip() for line in lines)


def main():
    global DIR, NAVVY
    parser = argparse.ArgumentParser(prog="bench-brokers.sh", description="navvy's worker without a server beside Celery and asynq, in one run")
    parser.add_argument("--dir", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="NAMES", default=",".join(CONTENDERS), help="contenders, with commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor for how many requests a round has (default: 1)")
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always", help="of Redis (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of Celery's workers (default: the cores)")
    parser.add_argument("-o", dest="form", choices=("table", "json"), default="table", help="how the figures are printed (default: table)")
    args = parser.parse_args()
    DIR, NAVVY = args.dir, os.environ.get("NAVVY_BIN")
    if args.serve:
        return ask_celery(args.serve)
    names = args.only.split(",")
    unknown = [n for n in names if n not in CONTENDERS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: want some of {', '.join(CONTENDERS)}")
    before = os.getloadavg()
    found, absent = measure(names, args)
    for name, why in absent.items():
        print(f"bench-brokers: {name} is left out: {why}", file=sys.stderr)
    rows = [judge(found, name) for name in PEERS if name in found]
    load = f"load before {before[0]:.1f}, after {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores; medians of {args.rounds} rounds; Redis with appendfsync {args.appendfsync}"
    if args.form == "json":
        print(json.dumps({"load": [before[0], os.getloadavg()[0]], "figures": rows, "rounds": found}, indent=2))
    else:
        print(table(rows), load, sep="\n")
    return None


if __name__ == "__main__":
    main()
