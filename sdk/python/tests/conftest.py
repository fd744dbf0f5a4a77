"""A navvy of the tests' own. make test-python names its binary with NAVVY_BIN."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import navvy  # noqa: E402
from navvy import _server  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[3]
PATIENCE = 60.0  # seconds, on a machine that is slow and busy


def pytest_configure(config):
    for name in [n for n in os.environ if n.startswith("NAVVY_") and n != "NAVVY_BIN"]:
        del os.environ[name]
    os.environ.setdefault("NAVVY_BIN", str(REPOSITORY / "bin" / "navvy"))
    if shutil.which(os.environ["NAVVY_BIN"]) is None:
        pytest.exit("there is no %s: make build, or make test-python" % os.environ["NAVVY_BIN"], returncode=2)
    os.environ["NAVVY_PYTHON"] = sys.executable
    here = Path(__file__).resolve().parent
    os.environ["NAVVY_PYTHON_PATH"] = os.pathsep.join([str(here / "modules"), str(here), str(here.parent)])
    sys.path.insert(0, str(here / "modules"))


def holder_of(data):
    """The process id of the navvy that holds a directory; None if none does."""
    try:
        pid = int((Path(data) / "lock").read_text().split()[0])
        os.kill(pid, 0)
        return pid
    except (OSError, ValueError, IndexError):
        return None


def until(true, what):
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            pytest.fail("it did not come about: " + what)
        time.sleep(0.01)


@pytest.fixture(scope="session")
def data():
    """A data directory, whose navvy has ended when the tests have."""
    with tempfile.TemporaryDirectory(prefix="navvy-sdk-") as path:
        os.environ["NAVVY_DATA"] = os.environ["XDG_CONFIG_HOME"] = path
        yield path
        until(lambda: holder_of(path) is None, "the navvy of the tests ends by itself")


@pytest.fixture(scope="session")
def shared(data):
    with navvy.connect() as client:
        yield client


@pytest.fixture
def nv(shared):
    """A client; many tests share it."""
    return shared


@pytest.fixture
def own(data):
    """A client of one test."""
    with navvy.connect() as client:
        yield client


@pytest.fixture
def cli(data):
    """Runs the navvy command, and gives what it prints."""
    def run(*args):
        return subprocess.run([_server.binary(), *args], check=True, stdout=subprocess.PIPE, timeout=PATIENCE).stdout.decode()
    return run


class Jobs:
    """Looks at jobs."""

    def __init__(self, client):
        self.client = client

    def status(self, job):
        return self.client.transport.call("GET", "/v1/jobs/" + job)["status"]

    def state(self, job):
        return self.status(job)["state"]

    def ends(self, job):
        until(lambda: self.state(job) in ("succeeded", "failed", "stopped"), "job %s ends" % job)
        return self.state(job)


@pytest.fixture
def jobs(nv):
    return Jobs(nv)
