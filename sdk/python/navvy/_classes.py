"""Classes of __main__ in what dill and cloudpickle have pickled. They write them out. To read
that, dill makes copies, of which nothing is an instance that the program has made, and
cloudpickle gives the program's own class the methods of the copy; here it stays as it is."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from typing import Any, Dict, List, Tuple

from ._bytecode import OtherPython, refuse_other_code

_CLOUD = b"_class_setstate"  # of cloudpickle: it fills a class, new or known


def loads(data: bytes) -> Any:
    """Read a pickle, unless it holds code of another Python."""
    try:
        refuse_other_code(data)
    except OtherPython as e:
        own = "%d.%d" % sys.version_info[:2]
        raise OtherPython(
            e.made, f"it holds code that was pickled with Python {e.made}; this is Python {own} ({sys.executable}); bytecode does "
            f"not survive another minor version: call on workers with a Python {own}, or return no functions") from None
    if b"dill" in data:
        try:
            return load_dill(data, importlib.import_module("dill"))
        except ModuleNotFoundError as e:
            if e.name != "dill":
                raise
    return Cloud(io.BytesIO(data)).load() if _CLOUD in data else pickle.loads(data)


class Cloud(pickle.Unpickler):
    """Reads what cloudpickle has written."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name != _CLOUD.decode() or not module.startswith("cloudpickle."):
            return found

        def fill(target: type, state: Any) -> type:
            if not programs(target):
                found(target, state)
            return target

        return fill


def programs(target: type) -> bool:
    """Tell whether a class is one that the program finds under its name."""
    found: Any = sys.modules.get("__main__")
    for name in target.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is target


def load_dill(data: bytes, dill: Any) -> Any:
    """Read what dill has written."""
    ours: List[type] = []  # found in this pickle

    def create(make: Any, *args: Any) -> Any:
        own = program_class(make, *args) if len(args) == 3 else None
        if own is None:
            return make(*args)
        ours.append(own)
        return own

    def set_attribute(target: Any, name: str, value: Any) -> None:
        if not any(target is own for own in ours):
            setattr(target, name, value)

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            if name == "_create_type" and module.startswith("dill."):
                return create
            if (module, name) == ("builtins", "setattr"):
                return set_attribute
            return super().find_class(module, name)

    return Unpickler(io.BytesIO(data)).load()


def program_class(make: Any, name: str, bases: Tuple[type, ...], content: Dict[str, Any]) -> Any:
    """The class of this program that one of __main__ is a copy of, by its name and what it
    has; None if there is none."""
    own = getattr(sys.modules.get("__main__"), name, None)
    if content.get("__module__") != "__main__" or type(own) is not make or own.__qualname__ != name:
        return None
    has = set(vars(own))
    return own if all(attribute in has for attribute in content if not attribute.startswith("__")) else None
