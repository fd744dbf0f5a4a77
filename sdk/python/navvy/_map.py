"""A map: one job, whose inputs go out while its values come in."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from operator import length_hint
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Optional, Tuple

from . import _codec
from ._chunks import Chunks
from ._future import Item, read_batch
from ._progress import bar
from ._feeder import Feeder
from ._wire import Exchange, failure
from .errors import Error, Unavailable, from_answer

if TYPE_CHECKING:
    from ._client import Client


class Mapped:
    """The values of a map, an iterator. It must be used by one thread at a time."""

    def __init__(self, client: "Client", job: Dict[str, Any], iterables: Tuple[Any, ...], size: Optional[int], ordered: bool,
                 progress: Optional[bool], renew: "Callable[[Dict[str, Any]], Dict[str, Any]]") -> None:
        self._client = client
        self._ordered = ordered
        self._chunks = Chunks(size, client.slots, timeout=job["spec"].get("timeout"))
        self._feeder = Feeder(client, job, _codec.calls(iterables), self._chunks, renew)
        self._part = 0  # whose results are read
        self._results: Optional[Exchange] = None
        self._came: Dict[int, List[Item]] = {}  # chunks that wait for their turn
        self._next = 0  # the chunk whose turn it is
        self._seen = 0  # chunks that have come
        self._ready: Deque[Item] = deque()
        self._bar = bar(progress, None if len(iterables) != 1 else length_hint(iterables[0], 0) or None, job["name"])
        self._over = False
        self._closed = False  # also by another thread than that which waits for values
        self._why: Optional[Error] = None  # what whoever goes on all the same is told
        self._process = os.getpid()  # whose map it is: one that was forked from it has a copy
        client.maps.add(self)
        client.ready_for_errands()  # __del__ must neither wait nor take a lock
        self._feeder.start()

    def __iter__(self) -> "Mapped":
        return self

    def __next__(self) -> Any:
        if not self._ready:
            self._ready.extend(self.some())
            if not self._ready:
                raise StopIteration
        good, value = self._ready.popleft()
        if self._bar is not None:
            self._bar.update(1)
        if good:
            return value
        raise _codec.with_cause(value)

    @property
    def job(self) -> str:
        """The id of the job. It waits until the server has accepted it."""
        part = self._feeder.part(0)
        if part is None:
            raise Error("a map of nothing has no job")
        return part.job

    def some(self) -> List[Item]:
        """Wait for the next values, and give all that are there: (True, value) or (False,
        exception) each. An empty list says that there are no more."""
        if self._process != os.getpid():
            raise Error("this map is of the process that this one was forked from: use it there, or make one here")
        if self._over:
            if self._why is not None:
                raise self._why
            return []
        try:
            while not self._over:
                ready = self._take()
                if ready:
                    return ready
                self._over = not self._read() or self._over
            if not self._closed:
                self._feeder.check()
                self._end()
            elif self._why is not None:
                raise self._why
            return []
        except BaseException:  # Ctrl-C, too
            self.close()
            raise

    def _take(self) -> List[Item]:
        ready: List[Item] = []
        while self._came and (not self._ordered or self._next in self._came):
            index = self._next if self._ordered else next(iter(self._came))
            ready += self._came.pop(index)
            self._next += 1
            self._chunks.given()
        return ready

    def _read(self) -> bool:
        """Take in the results that have come, waiting for one. False if there are no more."""
        part = self._feeder.part(self._part)
        if part is None:
            if self._closed:
                return False
            if self._seen < self._feeder.sent():
                raise Error(f"job {self.job} has ended without all its answers: it was stopped, or is held")
            return False
        began = time.monotonic()
        while True:
            try:
                results = self._results or self._follow(part.job)
                lines, more = results.lines()
                break
            except (Unavailable, OSError) as e:
                self._drop()
                if self._closed:
                    return False
                if time.monotonic() - began > self._client.calls.patience:
                    raise e if isinstance(e, Unavailable) else Unavailable(str(e)) from e
                time.sleep(0.05)
        try:
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise from_answer(answer["error"])
                self._result(part.job, part.base + answer["index"], answer)
        except Unavailable:  # the server leaves, perhaps between a result and its long value
            self._drop()
            time.sleep(0.05)
            return True
        if not more:
            self._drop()
            if self._ended(part.job):
                self._part += 1
            else:
                time.sleep(0.05)
        return True

    def _ended(self, job: str) -> bool:
        """Tell whether a job has ended: while it is held, its results end before it. One
        whose submission broke off is held by navvy, and let go here."""
        try:
            status = self._client.transport.call("GET", f"/v1/jobs/{job}")["status"]
            if status["held"] and status["cut"]:
                self._client.transport.call("POST", f"/v1/jobs/{job}/resume", {})
            return bool(status.get("finished"))
        except Unavailable:
            return False  # and so is the next try

    def _follow(self, job: str) -> Exchange:
        exchange = self._client.transport.open()
        self._results = exchange  # the head may take its time, and close must reach it
        try:
            if self._closed:  # by another thread, which may not have seen this connection
                raise Unavailable("the map is closed")
            exchange.begin("GET", f"/v1/jobs/{job}/results?follow&as_completed&mark_read", {}, b"")
            if exchange.head() != 200:
                raise failure(exchange)
        except BaseException:
            self._drop()
            raise
        return exchange

    def _drop(self) -> None:
        results, self._results = self._results, None
        if results is not None:
            results.close()

    def _result(self, job: str, index: int, result: Dict[str, Any]) -> None:
        if index < self._next and self._ordered or index in self._came or not self._chunks.first(index):
            return  # it came over an earlier connection
        refused = self._chunks.refused.get(index)
        value = refused if refused is not None else read_batch(self._client, result, job)
        size = self._chunks.done(index, result.get("attempt") or {})
        self._chunks.refused.pop(index, None)
        if not isinstance(value, list):  # the whole chunk has failed
            value = [(False, value)] * size
        self._came[index] = value
        self._seen += 1

    def close(self, why: Optional[Error] = None) -> None:
        """Give no more, and stop the job if it has not ended. why is raised where there
        would have been more."""
        if self._process != os.getpid():
            return
        if not self._over or self._ready:
            self._why = why
        self._closed = True
        self._ready.clear()
        self._end()

    def _end(self) -> None:
        finished = self._over and self._seen == self._feeder.sent()
        self._over = True
        self._came.clear()
        self._feeder.close()
        self._chunks.close()
        self._drop()
        if not finished:
            self._feeder.stop()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Mapped":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # It may run in any thread, in the midst of anything, and close asks the server.
        if not self.__dict__.get("_over", True) and self._process == os.getpid():
            self._client.soon(self.close)


class AsyncMapped:
    """The values of a map for async for. A call that raises does so when its item is next,
    and the others may then still be had. Whoever drops it stops the job."""

    def __init__(self, make: "Callable[[], Mapped]") -> None:
        self._make = make
        self._values: Optional[Mapped] = None
        self._ready: Deque[Item] = deque()

    def __aiter__(self) -> "AsyncMapped":
        return self

    async def __anext__(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._values is None:
            self._values = await loop.run_in_executor(None, self._make)
        if not self._ready:
            try:
                self._ready.extend(await loop.run_in_executor(None, self._values.some))
            except BaseException:  # cancelled, too: nobody waits for the thread that waits
                await self.aclose()
                raise
            if not self._ready:
                raise StopAsyncIteration
        good, value = self._ready.popleft()
        if good:
            return value
        raise _codec.with_cause(value)

    async def aclose(self) -> None:
        """Give no more, and stop the job if it has not ended."""
        if self._values is not None:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._values.close))
