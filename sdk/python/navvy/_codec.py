"""What travels: functions, their arguments, values and exceptions (docs/functions.md)."""

from __future__ import annotations

import ast
import base64
import builtins
import dis
import importlib
import inspect
import pickle
import sys
import textwrap
import types
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from . import _classes
from .errors import CannotPickle, RemoteTraceback

PROTOCOL = 4  # of pickles: that of the oldest Python that runs functions


@dataclass(frozen=True)
class Definition:
    """A function as it is registered."""

    name: str
    form: str
    code: bytes = b""
    entry: str = ""
    python: str = ""
    pickler: str = ""

    def message(self) -> Dict[str, Any]:
        about: Dict[str, Any] = {"name": self.name, "form": self.form}
        if self.code:
            about["code"] = to_json(self.code)
        for field in "entry", "python", "pickler":
            if getattr(self, field):
                about[field] = getattr(self, field)
        return about


def to_json(data: bytes) -> Dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def from_json(value: Any) -> bytes:
    """Bytes of an answer: text, or an object with them in base 64."""
    if isinstance(value, str):
        return value.encode()
    return base64.b64decode(value["base64"])


# Arguments and values.


def dumps(value: Any) -> bytes:
    """Pickle arguments. What __main__ defines goes by value, since workers do not have it."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        if b"__main__" not in data:
            return data
        why: Exception = CannotPickle("it uses what __main__ defines")
    except Exception as e:  # whatever __reduce__ of somebody raises
        why = e
    by_value = pickler()
    if by_value is None:
        raise CannotPickle(f"the arguments cannot be pickled plainly ({why}): install cloudpickle or dill") from why
    try:
        return dumps_with(by_value, value)
    except Exception as e:
        raise CannotPickle(f"the arguments cannot be pickled: {e}") from e


def dumps_with(by_value: Any, value: Any) -> bytes:
    """Pickle with cloudpickle or dill: functions with the globals that they use."""
    options = {"recurse": True} if by_value.__name__ == "dill" else {}
    return bytes(by_value.dumps(value, protocol=PROTOCOL, **options))


def loads(data: bytes) -> Any:
    """Read what our own function has returned or raised."""
    return _classes.loads(data)


def with_cause(e: BaseException) -> BaseException:
    """Attach the remote traceback to an exception that a function has raised. One that
    ends an iteration must not end that of whoever reads the values: as in a generator of
    Python's own (PEP 479) it becomes a RuntimeError."""
    text = getattr(e, "__navvy_traceback__", None)
    if isinstance(text, str) and e.__cause__ is None:
        e.__cause__ = RemoteTraceback(text)
    if isinstance(e, (StopIteration, StopAsyncIteration)):
        ends = RuntimeError(f"the function raised {type(e).__name__}")
        ends.__cause__ = e
        return ends
    return e


def pickler() -> Any:
    """The module that pickles by value; None if there is none."""
    for name in "cloudpickle", "dill":
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


# Functions.


def define(function: Callable[..., Any], name: Optional[str] = None) -> Definition:
    """Say how a function travels: by reference where workers can import it, else by value."""
    entry = reference(function)
    if entry is not None:
        return Definition(name or entry.replace(":", "."), "reference", entry=entry)
    label = name or "".join(getattr(function, "__qualname__", type(function).__qualname__).split())
    by_value = pickler()
    if by_value is None:
        text, entry = source(function)
        return Definition(label, "source", code=text.encode(), entry=entry)
    try:
        code = dumps_with(by_value, function)
    except Exception as e:
        raise CannotPickle(f"{label} cannot be pickled with {by_value.__name__}: {e}") from e
    return Definition(label, "pickle", code=code, python="%d.%d" % sys.version_info[:2], pickler=described(by_value))


def described(by_value: Any) -> str:
    """The name and the version of a pickler."""
    return f"{by_value.__name__} {getattr(by_value, '__version__', '')}".strip()


CLOSURE = 16 << 10  # bytes of code that may go with each call, not to be a version of its own


def passing(function: Callable[..., Any], definition: Definition) -> bool:
    """Tell whether a function is one of many under its name, as a lambda in a loop is, a bound
    method or a partial: to register each would pile up versions that nobody calls again."""
    plain = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    return definition.form == "pickle" and not plain and len(definition.code) <= CLOSURE


def caller() -> Definition:
    """A function that calls the one which is its first argument, on a worker that can read that."""
    by_value, own = pickler(), sys.version_info[:2]
    text = "def call(function, /, *args, **kwargs):\n    return function(*args, **kwargs)\n"
    if by_value is None:
        return Definition("navvy.call", "source", code=text.encode(), entry="call")
    text = (f"import sys\nimport {by_value.__name__}\nif sys.version_info[:2] != {own}:\n"
            f"    raise ImportError('bytecode does not survive another minor version of Python')\n{text}")
    return Definition("navvy.call", "source", text.encode(), "call", "%d.%d" % own, described(by_value))


def reference(function: Callable[..., Any]) -> Optional[str]:
    """module:name, if that is where the function is to be had; None otherwise."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not path or module == "__main__" or "<" in path:
        return None
    found: Any = sys.modules.get(module)
    if found is None or getattr(found, "__spec__", None) is None:
        return None  # made by hand: nobody can import it
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is function or getattr(found, "__wrapped__", None) is function:
        return f"{module}:{path}"
    return None


# Without cloudpickle and dill a function of __main__ goes as the text of its source.


def source(function: Callable[..., Any]) -> Tuple[str, str]:
    """A file that defines the function, and its name in it."""
    name = getattr(function, "__name__", "it")
    limits = f"{name} is to travel by value, and neither cloudpickle nor dill is installed: then it must be"
    if not isinstance(function, types.FunctionType) or "<" in function.__qualname__ or "." in function.__qualname__:
        raise CannotPickle(f"{limits} a plain function, not one in another or in a class")
    if function.__code__.co_freevars:
        raise CannotPickle(f"{limits} without variables of a function around it")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as e:
        raise CannotPickle(f"{limits} one whose source can be found, as in a file: {e}") from e
    definition = tree.body[0]
    if not isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise CannotPickle(f"{limits} made with def")
    definition.decorator_list = []
    head = []
    for used in sorted(globals_of(function.__code__) | names_in(definition)):
        if used == name or used not in function.__globals__ or hasattr(builtins, used):
            continue
        line = import_of(used, function.__globals__[used])
        if line is None:
            raise CannotPickle(f"{limits} one that uses nothing of its file but modules and what it imports, and it uses {used}")
        head.append(line)
    return "\n".join(head + [ast.unparse(tree), ""]), name


def globals_of(code: types.CodeType) -> Set[str]:
    """The global names that code uses, also in functions inside it."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= globals_of(inner)
    return found


def names_in(definition: Any) -> Set[str]:
    """The names in defaults and annotations, which are looked up when it is defined."""
    parts: List[Any] = [definition.args]
    if definition.returns is not None:
        parts.append(definition.returns)
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}


def import_of(name: str, value: Any) -> Optional[str]:
    """The statement that brings a global to another file; None if there is none."""
    if isinstance(value, types.ModuleType) and value.__name__ != "__main__":
        return f"import {value.__name__} as {name}"
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return f"{name} = {value!r}"
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if module and module != "__main__" and path and "." not in path and "<" not in path:
        if getattr(sys.modules.get(module), path, None) is value:
            return f"from {module} import {path} as {name}"
    return None


def calls(iterables: "Tuple[Any, ...]") -> Iterator[Tuple[Tuple[Any, ...], Dict[str, Any]]]:
    """The calls of a map."""
    if len(iterables) == 1:
        return (((x,), {}) for x in iterables[0])
    return ((args, {}) for args in zip(*iterables))
