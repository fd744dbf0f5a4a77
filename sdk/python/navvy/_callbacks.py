"""Runs what users want done when calls have their answers, where waiting does no harm."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Optional

PATIENCE = 0.05  # seconds that the next callback waits for one

_logger = logging.getLogger("concurrent.futures")  # where a Future's own callbacks are told of


class Callbacks:
    """Runs callbacks one after the other, as they came. One that takes its time is left to
    itself, and another thread goes on: it may be that it waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # of what follows
        self._queue: Deque[Callable[[], None]] = deque()
        self._idle = 0  # threads that wait for their turn
        self._turn: Optional[object] = None  # of the thread whose callback the next one waits for
        self._since = 0.0
        self._closed = False

    def run(self, do: Callable[[], None]) -> None:
        """Have something done soon."""
        with self._changed:
            self._queue.append(do)
            if self._idle or self._started() or self._turn is not None:
                self._changed.notify()
                return
            do = self._queue.popleft()
        do()  # there is no thread to be had

    def close(self) -> None:
        """End the threads, when all is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _started(self) -> bool:
        try:
            threading.Thread(target=self._work, name="navvy-callbacks", daemon=True).start()
            return True
        except RuntimeError:  # as at the end of the program
            return False

    def _work(self) -> None:
        turn = object()
        while True:
            with self._changed:
                if not self._await():
                    return
                do = self._queue.popleft()
                self._turn, self._since = turn, time.monotonic()
                if self._queue and not self._idle:
                    self._started()
            do()
            del do
            with self._changed:
                if self._turn is not turn:
                    return  # another thread goes on
                self._turn = None

    def _await(self) -> bool:
        """Wait for this thread's turn. False says that there will be none."""
        self._idle += 1
        try:
            while True:
                pause = None
                if self._queue:
                    pause = 0.0 if self._turn is None else self._since + PATIENCE - time.monotonic()
                    if pause <= 0:
                        return True
                elif self._closed:
                    return False
                self._changed.wait(pause)
        finally:
            self._idle -= 1


def called(callback: "Callable[[Any], object]", future: Any) -> None:
    """Call back. What that raises is shown and ends nothing, SystemExit either."""
    try:
        callback(future)
    except Exception:
        _logger.exception("exception calling callback for %r", future)
    except BaseException:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
