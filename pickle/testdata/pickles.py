"""What Python says of pickles, for python_test.go. Each message is a length of four
bytes, the highest first, and so many bytes.

make    writes pickles of many kinds and protocols
judge   reads messages, and writes for each "yes" if it is one pickle by its structure,
        as pickletools sees it, or why it is none
"""

import collections
import datetime
import decimal
import functools
import io
import pickle
import pickletools
import struct
import sys
import uuid


class Plain:
    def __init__(self, value):
        self.value = value


class Slots:
    __slots__ = ("a", "b")


class Keywords:
    def __new__(cls, *, value=0):
        self = object.__new__(cls)
        self.value = value
        return self

    def __getnewargs_ex__(self):
        return (), {"value": self.value}


def objects():
    slots = Slots()
    slots.a, slots.b = 1, "two"
    cycle = []
    cycle.append(cycle)
    shared = ["again"]
    yield from (None, True, False, 0, 255, 256, 65535, 65536, -1, 1 << 31, -(1 << 31), 1 << 63, 1 << 3000, 0.0, -1.5, 1j)
    yield from ("", "text", "ä" * 300, "\ud800", "x" * 70_000, b"", b"bytes", b"b" * 300, b"b" * 70_000, bytearray(b"array"))
    yield from ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], list(range(5000)), {}, {"a": 1}, {i: str(i) for i in range(3000)})
    yield from (set(), {1, 2}, frozenset([1]), cycle, [shared, shared], range(5), slice(1, 2, 3), Ellipsis, NotImplemented, int, len)
    yield from (Plain(1), slots, Keywords(value=3), functools.partial(int, base=2), collections.OrderedDict(a=1), collections.deque([1]))
    yield from (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), decimal.Decimal("1.5"), uuid.UUID(int=5))
    yield from (ValueError("bad", 1), KeyError("k"), OSError(2, "gone"), StopIteration(), ((1, 2), {"key": [3]}))
    deep = []
    for _ in range(200):
        deep = [deep]
    yield deep


def makers():
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield lambda value, protocol=protocol: pickle.dumps(value, protocol)
        yield lambda value, protocol=protocol: pickletools.optimize(pickle.dumps(value, protocol))
        yield lambda value, protocol=protocol: python_dumps(value, protocol)
    for name in ("dill", "cloudpickle"):
        try:
            yield __import__(name).dumps
        except ImportError:
            pass


def python_dumps(value, protocol):
    """As pickle.dumps without its part in C."""
    f = io.BytesIO()
    pickle._Pickler(f, protocol).dump(value)
    return f.getvalue()


def functions():
    base = 5

    def closure(x):
        return x + base

    class Local(Exception):
        def method(self):
            return len(self.args)

    yield from (closure, Local, Local("raised"), lambda *args, **kwargs: (args, kwargs))


def by_value():
    for name in ("dill", "cloudpickle"):
        try:
            dumps = __import__(name).dumps
        except ImportError:
            continue
        yield from (dumps(value) for value in functions())


def make(out):
    for maker in makers():
        for value in objects():
            write(out, maker(value))
    for text in by_value():
        write(out, text)


def judge(source, out):
    while head := source.read(4):
        text = source.read(struct.unpack(">I", head)[0])
        f = io.BytesIO(text)
        try:
            for _ in pickletools.genops(f):
                pass
            said = "yes" if f.tell() == len(text) else "more behind it"
        except Exception as e:
            said = f"{type(e).__name__}: {e}"
        write(out, said.encode(errors="replace"))


def write(out, message):
    out.write(struct.pack(">I", len(message)) + message)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.stdout.buffer)
    else:
        judge(sys.stdin.buffer, sys.stdout.buffer)
