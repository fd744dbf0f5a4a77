"""A bar that shows how a map goes on, if tqdm is there."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Optional

from .errors import Invalid


def bar(wanted: Optional[bool], total: Optional[int], name: str) -> Any:
    """A bar; None if none is wanted, or nobody can see it."""
    if wanted is False or wanted is None and not visible():
        return None
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        if wanted:
            raise Invalid("progress=True: there is no tqdm, which shows it: pip install tqdm") from None
        return None
    return tqdm(total=total, desc=name, unit="call")


def visible() -> bool:
    """Tell whether somebody looks: at a terminal or a notebook."""
    try:
        if "ipykernel" in sys.modules:
            return True
        return sys.stderr is not None and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
