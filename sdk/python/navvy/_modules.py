"""Where a program's modules are, for a navvy of the same machine: it serves many programs."""

from __future__ import annotations

import hashlib
import os
import site
import sys
from typing import Any, Dict, List


def here() -> Dict[str, Any]:
    """What a function says of the modules of this program: where they are, and in which
    state, so that no process of another program runs it, nor one with the code of before."""
    path = directories()
    return {"path": path, "modules": state(path)} if path else {}


def directories() -> List[str]:
    """The directories in which this program finds modules, less those of Python itself."""
    own = [os.path.dirname(os.__file__)]
    if sys.prefix == sys.base_prefix:  # else its packages are those of a virtual environment
        own += [*getattr(site, "getsitepackages", list)(), getattr(site, "USER_SITE", None) or ""]
    found: List[str] = []
    for entry in sys.path:
        full = os.path.abspath(entry)
        if full not in found and ":" not in full and os.path.isdir(full) and not any(d and inside(full, d) for d in own):
            found.append(full)
    return found[:100]


def inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def state(path: List[str]) -> str:
    """A text that changes when one of the loaded modules does that lie there."""
    marks = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or not any(inside(os.path.abspath(file), d) for d in path):
            continue
        try:
            about = os.stat(file)
        except OSError:
            continue
        marks.append(f"{name} {file} {about.st_mtime_ns} {about.st_size}")
    return hashlib.sha256("\n".join(sorted(marks)).encode("utf-8", "surrogateescape")).hexdigest()[:32]
