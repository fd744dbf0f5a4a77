"""How the SDK reaches a navvy, and what it does when that goes away."""

import json
import operator
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import beside
import navvy
import pytest
from conftest import PATIENCE, Jobs, holder_of, until
from navvy import _server
from test_calls import script


@pytest.fixture
def alone(monkeypatch):
    """A data directory of one test."""
    with tempfile.TemporaryDirectory(prefix="navvy-sdk-") as path:
        monkeypatch.setenv("NAVVY_DATA", path)
        yield path
        until(lambda: holder_of(path) is None, "the navvy of the test ends by itself")


def test_starts_and_ends(alone):
    """Nothing runs until something is called, and what was started ends when it is idle."""
    with navvy.connect() as nv:
        assert not os.listdir(alone)
        assert nv.whoami()["local"] is True
        assert nv.function(beside.double).call(3) == 6
        assert holder_of(alone)
    until(lambda: holder_of(alone) is None, "it ends")
    with navvy.connect() as nv:  # and again
        assert nv.function(beside.double).call(4) == 8


def test_many_start_at_once(alone, tmp_path):
    programs = [script(tmp_path / str(i), """
        import navvy
        print(navvy.connect().function(pow).call(2, 5))
    """) for i in range(4) if (tmp_path / str(i)).mkdir() is None]
    assert [p.communicate(timeout=PATIENCE)[0] for p in programs] == [b"32\n"] * 4


def test_long_path(tmp_path):
    data = tmp_path / ("long" * 40)
    with navvy.connect(data=str(data)) as nv:
        assert nv.function(beside.double).call(3) == 6
    until(lambda: holder_of(data) is None, "it ends")


def test_cannot_start(tmp_path, monkeypatch):
    data = tmp_path / "file"
    data.write_text("no directory")
    with pytest.raises((navvy.Error, OSError)):
        navvy.connect(data=str(data)).whoami()
    monkeypatch.setenv("NAVVY_BIN", "no-such-navvy")
    with pytest.raises(navvy.Unavailable, match="NAVVY_BIN"):
        navvy.connect(data=str(tmp_path / "data")).whoami()


def test_holder_dies(alone, tmp_path):
    """What is called runs once for each answer, although its navvy is killed in the midst."""
    marks = tmp_path / "marks"
    marks.mkdir()

    with navvy.connect() as nv:
        @nv.function
        def slow(i):
            import time
            time.sleep(0.02)
            with open(marks / str(i), "a") as f:
                f.write("x")
            return i

        futures = [slow.submit(i) for i in range(60)]
        futures[5].result(PATIENCE)
        os.kill(holder_of(alone), signal.SIGKILL)
        futures += [slow.submit(i) for i in range(60, 80)]
        assert [f.result(PATIENCE) for f in futures] == list(range(80))
        again = [p.name for p in marks.iterdir() if p.read_text() != "x"]
        assert len(again) <= 8  # only what ran when it died
        assert slow.call(99) == 99


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_results_go_on(alone, how):
    """A map whose inputs are all there outlives its navvy, too."""
    with navvy.connect() as nv:
        @nv.function
        def slow(i):
            import time
            time.sleep(0.02)
            return i

        values = slow.map(range(100), chunksize=25)
        assert next(values) == 0
        until(lambda: not values._feeder.is_alive(), "all inputs are durable")
        os.kill(holder_of(alone), how)
        assert list(values) == list(range(1, 100))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_items_go_on(alone, tmp_path, how):
    """A map goes on although its navvy ends while items are still to be sent: each is
    answered once."""
    def items():
        for i in range(300):
            if i in (60, 150):
                os.kill(holder_of(alone), how)
            yield i

    with navvy.connect() as nv:
        @nv.function
        def slow(i):
            import time
            time.sleep(0.002)
            return i

        values = slow.map(items(), chunksize=3)
        assert list(values) == list(range(300))
        assert values._part > 1


def test_gone(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    nv = navvy.connect("http://127.0.0.1:%d" % port, token="t", patience=0.3)
    with pytest.raises(navvy.Unavailable):
        nv.whoami()
    future = navvy.Future(nv, b'{"job":{"spec":{"noop":{}}}}\n', b"")
    with pytest.raises(navvy.Unavailable, match="tried for"):
        future.result(PATIENCE)


def test_wrong_addresses():
    for url in "ftp://host", "https://host/path", "http://":
        with pytest.raises(navvy.Invalid):
            navvy.connect(url, token="t", cert="a", key="b", ca="c")
    with pytest.raises(navvy.Invalid, match="token"):
        navvy.connect("http://localhost:7480")
    with pytest.raises(navvy.Invalid, match="cert="):
        navvy.connect("https://localhost:7480")
    with pytest.raises(navvy.Invalid, match="cannot read"):
        navvy.connect("https://localhost:7480", cert="/none", key="/none", ca="/none")


def test_no_navvy():
    """Something else answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        nv = navvy.connect("http://127.0.0.1:%d" % s.getsockname()[1], token="t")

        def answer():
            conn, _ = s.accept()
            conn.recv(1000)
            conn.sendall(b"220 smtp.example.org\r\n")
            conn.close()

        threading.Thread(target=answer).start()
        with pytest.raises(navvy.Unavailable, match="no navvy"):
            nv.whoami()


class Team:
    """A navvy server with a worker, and HTTP on loopback."""

    def __init__(self, path, secure):
        self.path = path
        with socket.socket() as a, socket.socket() as b:
            a.bind(("127.0.0.1", 0))
            b.bind(("127.0.0.1", 0))
            self.grpc, self.http = (s.getsockname()[1] for s in (a, b))
        self.env = {**os.environ, "NAVVY_DATA": str(path / "data"), "XDG_CONFIG_HOME": str(path / "config")}
        scheme = "https" if secure else "http"
        self.url = "%s://127.0.0.1:%d" % (scheme, self.http)
        self.secure = secure
        self.start()

    def start(self):
        self.told = (self.path / "log").stat().st_size if (self.path / "log").exists() else 0
        at = ("https://" if self.secure else "") + "127.0.0.1:%d" % self.http
        with open(self.path / "log", "ab") as log:
            self.process = subprocess.Popen([_server.binary(), "dev", "--listen", "127.0.0.1:%d" % self.grpc, "--http", at],
                                            env=self.env, stdout=log, stderr=log)
        until(self.serves, "the server serves: " + (self.path / "log").read_text())

    def serves(self):
        if self.process.poll() is not None:
            pytest.fail((self.path / "log").read_text())
        return "connect: navvy" in (self.path / "log").read_text()[self.told:]

    def run(self, *args):
        out = subprocess.run([_server.binary(), *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
        assert out.returncode == 0, out.stderr.decode()
        return out.stdout.decode()

    def end(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture(params=[False, True], ids=["token", "certificate"])
def team(request, tmp_path):
    team = Team(tmp_path, request.param)
    yield team
    team.end()


def reach(team):
    if not team.secure:
        token = team.run("--server", "127.0.0.1:%d" % team.grpc, "token", "create", "--api").strip()
        return navvy.connect(team.url, token=token)
    about = json.loads(team.run("--server", "127.0.0.1:%d" % team.grpc, "context", "show", "-o", "json"))
    return navvy.connect(team.url, cert=about["cert"], key=about["key"], ca=about["ca"])


def test_team(team):
    with reach(team) as nv:
        there = nv.function(operator.neg)  # what a task finds that is apart from its host
        assert there.call(3) == -3
        assert [f.result(PATIENCE) for f in [there.submit(i) for i in range(100)]] == [-i for i in range(100)]
        assert list(there.map(range(5000))) == [-i for i in range(5000)]
        data = os.urandom(3 << 20)
        assert nv.function(bytes).call(data) == data
        before = there.submit(1)
        assert before.result(PATIENCE) == -1
        team.end()
        late = there.submit(4)
        team.start()
        assert late.result(PATIENCE) == -4


def test_denied(tmp_path):
    team = Team(tmp_path, False)
    try:
        with navvy.connect(team.url, token="navvy-api.nothing") as nv:
            with pytest.raises(navvy.Denied):
                nv.whoami()
            with pytest.raises(navvy.Denied):
                navvy.Future(nv, b'{"job":{"spec":{"noop":{}}}}\n', b"").result(PATIENCE)
    finally:
        team.end()


def test_contexts(data, tmp_path, monkeypatch):
    """The server is that of the navvy command."""
    config = tmp_path / "navvy"
    config.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (config / "config.yaml").write_text("contexts:\n  team: {server: 'build1:7433', cert: /c, key: /k, ca: /a}\n")
    assert navvy.connect().transport.name == str(data)
    monkeypatch.setenv("NAVVY_CONTEXT", "team")
    with pytest.raises(navvy.Invalid, match="https://build1:7480.*/c"):
        navvy.connect()
    monkeypatch.setenv("NAVVY_CONTEXT", "none")
    with pytest.raises(navvy.Invalid, match="no context"):
        navvy.connect()
    monkeypatch.setenv("NAVVY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NAVVY_API_TOKEN", "t")
    assert navvy.connect().transport.name == "http://127.0.0.1:1"
