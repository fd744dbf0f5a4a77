"""Code of another Python in a pickle. Bytecode of another minor version raises nothing of its
own accord: it gives wrong results, or ends the process. Pickles do not say who wrote them, so
the code is looked at before anything is made of it.

The host of the workers has the same text, runner/function/bytecode.py.
"""

import io
import opcode
import pickle
import sys
from typing import Any, Dict, List, Optional, Tuple

_OWN = sys.version_info[:2]


class OtherPython(RuntimeError):
    """A pickle holds code of another Python; made says which, as in "3.8 or 3.9"."""

    def __init__(self, made: str, text: str = "") -> None:
        super().__init__(text or f"it holds code of Python {made}")
        self.made = made


def refuse_other_code(data: bytes) -> None:
    """Raise OtherPython if a pickle holds code that is not for this Python.

    Only pickles with code are read for that, and nothing in them is called.
    """
    # Python looks for the shorter words in half the time.
    if not (b"_code" in data and b"_create_code" in data or b"CodeT" in data and b"CodeType" in data):
        return
    try:
        _Scan(io.BytesIO(data)).load()
    except OtherPython:
        raise
    except Exception:
        pass  # it is no good pickle, or an odd one: whoever loads it is told


class _Inert(type):
    """Of a class that stands for all that a pickle makes, and bears what pickles do to it."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls

    def __setitem__(cls, *_: Any) -> None:
        pass


class _Anything(metaclass=_Inert):
    def __new__(cls, *_: Any, **__: Any) -> Any:
        return cls

    @classmethod
    def append(cls, *_: Any) -> None:
        """Stands for what fills an object."""

    extend = add = __setstate__ = append


class _Scan(pickle.Unpickler):
    """Goes through a pickle for its code alone."""

    def find_class(self, module: str, name: str) -> Any:
        if name in ("_create_code", "CodeType"):  # of dill, and of types
            return _code
        if name in ("_builtin_type", "_load_type"):  # of cloudpickle, and of older dills
            return _type
        return _Anything

    def persistent_load(self, pid: Any) -> Any:
        return _Anything


def _type(name: Any, *_: Any) -> Any:
    return _code if name == "CodeType" else _Anything


def _code(*args: Any) -> Any:
    made = written_by(args)
    if made:
        raise OtherPython(made)
    return _Anything


def written_by(args: Tuple[Any, ...]) -> str:
    """Which other Python has written the arguments of a code object; empty for this one, as
    far as can be told. Code that means the same in both may pass."""
    if args and not isinstance(args[0], int):
        args = args[1:]  # dill puts the table of lines for Python 3.9 before them
    if len(args) == 15:
        return "3.7 or earlier"
    if len(args) == 16:
        return _written_before_11(args[6], args[13])
    if len(args) != 18:
        return "other than %d.%d" % _OWN
    if _OWN < (3, 11):
        return "3.11 or later"
    if _fits(args[6]):
        return ""
    return "3.12 or later" if _OWN == (3, 11) else "3.11 or later, but not %d.%d" % _OWN


def _written_before_11(code: Any, lines: Any) -> str:
    """The same for code that has neither a qualified name nor a table of exceptions."""
    # Python 3.10's table says where each line ends, those before where the next one begins.
    ten = _OWN == (3, 10)
    if isinstance(lines, bytes) and isinstance(code, bytes):
        ten = sum(lines[::2]) == len(code)
    own = _OWN < (3, 11) and ten == (_OWN == (3, 10))
    if own and _fits(code):
        return ""
    if ten and not own:
        return "3.10"
    return {(3, 8): "3.9", (3, 9): "3.8"}.get(_OWN, "3.8 or 3.9")


def _lengths() -> List[Optional[int]]:
    """How many entries of cache follow each operation; None for what is none here."""
    caches = getattr(opcode, "_inline_cache_entries", {})
    lengths: List[Optional[int]] = [None] * 256
    for name, number in opcode.opmap.items():
        if number < 256 and name != "CACHE":
            by: Dict[Any, int] = caches if isinstance(caches, dict) else dict(enumerate(caches))
            lengths[number] = by.get(name, by.get(number, 0))
    return lengths


_LENGTHS = _lengths()
_COMPARE, _COMPARISONS = opcode.opmap["COMPARE_OP"], len(opcode.cmp_op)
_FINALLY = [opcode.opmap[name] for name in ("CALL_FINALLY", "POP_FINALLY", "END_FINALLY") if name in opcode.opmap]
_RESUME = opcode.opmap.get("RESUME")  # is in all code from 3.11 on, by changing numbers


def _fits(code: Any) -> bool:
    """Tell whether code is made of this Python's operations, and of the caches that it wants."""
    if not isinstance(code, bytes) or len(code) % 2:
        return not isinstance(code, bytes)
    if _OWN == (3, 11) and any(_intrinsic(code, at) for at in range(0, len(code), 2)):
        return False
    operations, at = code[::2], 0
    if _FINALLY and _FINALLY[2] not in operations and any(jump in operations for jump in _FINALLY[:2]):
        return False  # in 3.9 the numbers of 3.8's jumps to a "finally" add to lists and sets
    resumes = _RESUME is None
    while at < len(operations):
        operation = operations[at]
        length = _LENGTHS[operation]
        if length is None:
            return False
        if _RESUME is None and operation == _COMPARE and code[2 * at + 1] >= _COMPARISONS:
            return False  # 3.8 compares by "in" and "is"
        at += 1
        if length and (at + length > len(operations) or any(operations[at:at + length])):
            return False
        at += length
        resumes = resumes or operation == _RESUME
    return resumes


def _intrinsic(code: bytes, at: int) -> bool:
    """Tell whether Python 3.11 would take an operation of 3.12 (CALL_INTRINSIC_1) for its own
    jump back: at the end of generators, behind a list that becomes a tuple, and where there
    is nothing to jump back to."""
    if code[at] != opcode.opmap.get("POP_JUMP_BACKWARD_IF_NOT_NONE"):
        return False
    before, after = code[at - 2:at - 1], code[at + 2:at + 4]
    lists = bytes([opcode.opmap["LIST_EXTEND"]]), bytes([opcode.opmap["LIST_APPEND"]])
    return after == bytes([opcode.opmap["RERAISE"], 1]) or before in lists or at // 2 + 1 < code[at + 1]
