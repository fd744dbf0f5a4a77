"""An Executor of concurrent.futures whose calls run elsewhere."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Tuple

from . import _codec
from ._function import Function
from ._future import interrupts
from ._spec import Options

if TYPE_CHECKING:
    from ._client import Client
    from ._future import Future
    from ._map import Mapped

_KEPT = 256  # functions that are known to one executor, and names of jobs


class Executor(concurrent.futures.Executor):
    """Runs any function. It is registered when it comes first, but for small ones of which
    there may be many: lambdas, functions inside others, bound methods and partials go along
    with each call."""

    def __init__(self, client: "Optional[Client]" = None, **options: Any) -> None:
        from ._client import connect
        self._client = client if client is not None else connect()
        self._options = Options.of(options)
        self._functions: "Dict[int, Tuple[Any, Function, Tuple[Any, ...]]]" = {}
        self._callers: Dict[str, Function] = {}
        self._waiting: "weakref.WeakSet[Future[Any]]" = weakref.WeakSet()
        self._maps: "weakref.WeakSet[Mapped]" = weakref.WeakSet()
        self._lock = threading.Lock()
        self._over = False

    def _known(self, fn: Callable[..., Any]) -> "Tuple[Function, Tuple[Any, ...]]":
        """What to call for fn, and the arguments that go before all others."""
        with self._lock:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            found = self._functions.get(id(fn))
        function, first = found[1:] if found is not None else self._made(fn)
        with self._lock:
            self._functions.pop(id(fn), None)
            self._functions[id(fn)] = fn, function, first  # which keeps the id
            if len(self._functions) > _KEPT:
                del self._functions[next(iter(self._functions))]
        return function, first

    def _made(self, fn: Callable[..., Any]) -> "Tuple[Function, Tuple[Any, ...]]":
        if isinstance(fn, Function):
            return fn, ()
        definition = _codec.define(fn)
        if not _codec.passing(fn, definition):
            return Function(self._client, fn, self._options, definition), ()
        name = self._options.name or definition.name
        with self._lock:
            caller = self._callers.get(name)
            if caller is None:
                if len(self._callers) >= _KEPT:
                    self._callers.clear()
                options = dataclasses.replace(self._options, name=name)
                caller = self._callers[name] = Function(self._client, _called, options, _codec.caller())
        return caller, (fn,)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call fn elsewhere."""
        function, first = self._known(fn)
        future = function.submit(*first, *args, **kwargs)
        with self._lock:
            self._waiting.add(future)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Any, timeout: Optional[float] = None,
            chunksize: int = 0, buffersize: Optional[int] = None) -> Iterator[Any]:
        """Call fn for each item, as one job; see Function.map. Without a chunksize calls go
        together as they are short. timeout is for all of them."""
        function, first = self._known(fn)
        if iterables:
            iterables = (*map(itertools.repeat, first), *iterables)
        values = function.map(*iterables, chunksize=chunksize or "auto", progress=False)
        with self._lock:
            self._maps.add(values)
        if timeout is None:
            return values
        return _until(values, time.monotonic() + timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. With wait, return when those that there are have ended; if
        that is interrupted, as by Ctrl-C, they are cancelled."""
        with self._lock:
            self._over = True
            left, maps = list(self._waiting), list(self._maps)
        try:
            if wait and not cancel_futures:
                concurrent.futures.wait(left)
        except KeyboardInterrupt:
            cancel_futures = True
            raise
        finally:
            if cancel_futures:
                for future in left:
                    future.cancel()
                for values in maps:
                    values.close()

    def __exit__(self, kind: Optional[type], *_: object) -> None:
        self.shutdown(cancel_futures=interrupts(kind))


def _called(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What _codec.caller does elsewhere."""
    return function(*args, **kwargs)


_END = object()


def _until(values: Any, end: float) -> Iterator[Any]:
    """The values of a map, as long as there is time. Another thread waits for them."""
    waiter = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="navvy-until")
    try:
        while True:
            coming = waiter.submit(lambda: next(values, _END))
            if not concurrent.futures.wait([coming], max(end - time.monotonic(), 0)).done:
                raise concurrent.futures.TimeoutError()
            value = coming.result()
            if value is _END:
                return
            yield value
    finally:
        values.close()
        waiter.shutdown(wait=False)
