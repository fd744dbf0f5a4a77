"""One navvy serves the programs of a user, each with its own modules."""

import os
import subprocess
import sys
from pathlib import Path

import navvy

MAIN = "import navvy, util\nnv = navvy.connect()\nprint(nv.function(util.f).call(), list(nv.function(util.f).map([0, 1]))[0])\n"
SDK = str(Path(navvy.__file__).parent.parent)


def program(where, text):
    where.mkdir(exist_ok=True)
    (where / "util.py").write_text("def f(*_): return %r\n" % text)
    (where / "main.py").write_text(MAIN)
    env = {**os.environ, "PYTHONPATH": SDK, "PYTHONDONTWRITEBYTECODE": "1"}
    out = subprocess.run([sys.executable, str(where / "main.py")], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert out.returncode == 0, out.stderr.decode()
    return out.stdout.decode().split()


def test_programs(nv, tmp_path):
    assert nv.function(os.path.basename).call("a/b") == "b"  # the navvy is up, and stays
    assert program(tmp_path / "a", "first") == ["first", "first"]
    assert program(tmp_path / "b", "second") == ["second", "second"]
    assert program(tmp_path / "a", "changed") == ["changed", "changed"]
