"""How the calls of a map go together, and how many may be under way."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from . import _codec
from ._calls import too_long
from .errors import CannotPickle, Invalid

AIM = 0.35  # seconds that a chunk should take
BYTES = 256 << 10  # of one chunk, unless a single call has more
MOST = 50_000  # calls in one chunk
GROWTH = 16  # times the last chunk, at most: the first ones tell little
DEPTH = 2  # chunks for each slot, one of which waits
BUFFER = 64  # chunks that have come and that nobody has taken yet, for each slot


class Chunks:
    """Cuts calls into chunks. One thread cuts, another one tells what has become of them."""

    def __init__(self, size: Optional[int], slots: Callable[[], int], timeout: Optional[str]) -> None:
        self._fixed = size
        self._ask = slots
        self._slots = 0
        self._aim = AIM if timeout is None else min(AIM, float(timeout[:-1]) / 10)
        self._changed = threading.Condition()
        self._sizes: Dict[int, int] = {}  # of chunks that have not come
        self._bytes: Dict[int, int] = {}
        self._came: Set[int] = set()
        self._low = 0  # all below have come
        self._kept = 0  # have come and were not taken
        self._each: Optional[float] = None  # seconds that a call takes, by what was measured
        self._weight = 0.0  # bytes that a call takes
        self._largest = 1
        self._closed = False
        self._nudged = False
        self.failure: Optional[BaseException] = None  # what the items have raised, behind the last of them
        self.refused: Dict[int, List[Tuple[bool, Any]]] = {}  # what stands for items that cannot travel

    def cut(self, items: Iterator[Any]) -> Iterator[Tuple[int, bytes]]:
        """Give chunks and their numbers as there is room for them; -1 where there is none, and
        somebody has nudged."""
        self._slots = self._ask()
        index = 0
        ended = False
        while not ended and not self._closed:
            if not self._room():
                yield -1, b""  # somebody has nudged
                continue
            want = self._want()
            calls: List[Any] = []
            until = time.monotonic() + 0.05
            try:
                for call in items:
                    calls.append(call)
                    if len(calls) >= want or time.monotonic() > until and self._hungry():
                        break
                else:
                    ended = True
            except BaseException as e:  # what came before is called all the same
                self.failure, ended = e, True
            for size, data, why in self._packed(calls) if calls else ():
                with self._changed:
                    self._sizes[index] = size
                    if why is not None:
                        self.refused[index] = [(False, why)] * size
                yield index, data
                index += 1

    def _packed(self, calls: List[Any]) -> Iterator[Tuple[int, bytes, Optional[Exception]]]:
        """Pickle calls together; in halves, if they are too long or one cannot be pickled.
        For what cannot travel there is a chunk of no calls, whose answer comes when it is its
        turn, and what is wrong."""
        data = b""
        why: Optional[Exception] = None
        try:
            data = _codec.dumps(calls)
        except CannotPickle as e:
            why = e
        if len(calls) > 1 and (why is not None or len(data) > BYTES and self._fixed is None):
            half = len(calls) // 2
            yield from self._packed(calls[:half])
            yield from self._packed(calls[half:])
            return
        try:
            too_long(data, "the arguments of a call take" if len(calls) == 1 else f"a chunk of {len(calls)} calls takes")
        except Invalid as e:
            why = e
        if why is not None:
            yield len(calls), _codec.dumps([]), why
            return
        self._weight = len(data) / len(calls)
        yield len(calls), data, None

    def _want(self) -> int:
        if self._fixed is not None:
            return self._fixed
        with self._changed:
            if self._each is None:
                return 1
            want = self._aim / max(self._each, 1e-9)
            if self._weight:
                want = min(want, BYTES / self._weight)
            return max(1, min(int(want), MOST, self._largest * GROWTH))

    def _hungry(self) -> bool:
        """Tell whether some slot has nothing to do: then a chunk that is not full goes out."""
        return len(self._sizes) < self._slots

    def _room(self) -> bool:
        with self._changed:
            self._nudged = False
            while len(self._sizes) >= DEPTH * self._slots + 2 or self._kept >= BUFFER * self._slots:
                if self._closed or self._nudged:
                    return False
                self._changed.wait()
            return True

    def nudge(self) -> None:
        """Let whoever waits for room look at the connection."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def first(self, index: int) -> bool:
        """Tell whether a chunk has not come before."""
        return index in self._sizes

    def done(self, index: int, attempt: Dict[str, Any]) -> int:
        """Note that a chunk has come. How many calls it has."""
        with self._changed:
            size = self._sizes.pop(index)
            self._kept += 1
            if index in self.refused:  # which says nothing of how long calls take
                self._changed.notify_all()
                return size
            took = (int(attempt.get("finished_ns") or 0) - int(attempt.get("started_ns") or 0)) / 1e9
            each = max(took, 1e-6) / size
            if self._each is None or size > self._largest:
                self._each = each  # a larger one tells more: what a chunk costs by itself weighs less
            else:
                self._each += (each - self._each) * 0.3
            self._largest = max(self._largest, size)
            self._changed.notify_all()
            return size

    def given(self) -> None:
        """Note that a chunk was taken."""
        with self._changed:
            self._kept -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Give no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
