"""Sends the inputs of a map, over connections that may break."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional

from ._chunks import Chunks
from ._wire import NDJSON, Exchange, failure
from .errors import Error, NotFound, TaskStopped, Unavailable, from_answer

if TYPE_CHECKING:
    from ._client import Client


ID_TIME = 5.0  # seconds to wait for a job's id before it is left


@dataclass
class Part:
    """A job with some of the chunks: all of them, unless its submission broke off."""

    job: str
    base: int  # the number of its first chunk


class Feeder(threading.Thread):
    """One thread sends; others ask how far that is."""

    def __init__(self, client: "Client", job: Dict[str, Any], items: Iterator[Any], chunks: Chunks,
                 renew: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
        super().__init__(name="navvy-map", daemon=True)
        self._client = client
        self._job = job
        self._renew = renew  # gives a job in place of one whose function the server does not know any more
        self._renewed = False  # since the server has taken one
        self._items = items
        self._chunks = chunks
        self._changed = threading.Condition()
        self._parts: List[Part] = []
        self._over = False  # there will be no more parts
        self._error: Optional[BaseException] = None
        self._sent = 0
        self._closed = False
        self._stopped = 0  # parts
        # Of the thread:
        self._exchange: Optional[Exchange] = None
        self._base = 0  # of the part that is sent
        self._key = ""  # of its submission
        self._known = False  # its job is in _parts
        self._kept: Dict[int, bytes] = {}  # chunks that are not known to be durable

    def part(self, number: int) -> Optional[Part]:
        """A part, waiting for it. None if there are not so many."""
        with self._changed:
            while len(self._parts) <= number and not self._over and not self._closed:
                if not self._changed.wait(0.1) and number:
                    self._chunks.nudge()  # the last part has ended, and it may not know
            if len(self._parts) > number:
                return self._parts[number]
        self.check()
        return None

    def sent(self) -> int:
        """How many chunks there are so far."""
        return self._sent

    def check(self) -> None:
        """Raise what has ended the feeding, or what the items have raised."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Send no more."""
        self._closed = True

    def stop(self) -> None:
        """Stop the jobs. One that the server makes right now has no id yet, and is waited
        for: without its inputs it would be held for ever."""
        with self._changed:
            if threading.current_thread() is not self and self._key:
                self._changed.wait_for(lambda: self._known or self._over or not self._key, ID_TIME)
            parts, self._stopped = self._parts[self._stopped:], len(self._parts)
        for part in parts:
            self._client.stop(part.job)
        exchange = self._exchange
        if self.is_alive() and exchange is not None:
            exchange.close()

    def run(self) -> None:
        try:
            self._feed()
        except BaseException as e:  # the consumer raises it
            if not self._closed:
                self._error = e
            self.stop()
        else:
            if self._closed:  # perhaps before what was sent last had its id
                self.stop()
            else:
                self._error = self._chunks.failure  # for when all is answered
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            if self._exchange is not None:
                self._exchange.close()

    def _feed(self) -> None:
        for index, data in self._chunks.cut(self._items):
            try:
                if index < 0:  # there is no room
                    self._listen()
                    continue
                self._kept[index] = data
                self._sent = index + 1
                if self._exchange is None:
                    self._begin()
                self._put(index)
            except (Unavailable, NotFound, OSError) as e:
                self._recover(e)
        while self._exchange is not None and not self._closed:
            try:
                self._exchange.end()
                while self._hear():
                    pass
                return
            except (Unavailable, NotFound, OSError) as e:
                self._recover(e)

    def _begin(self) -> None:
        self._key = self._key or self._client.calls.key()
        self._exchange = self._client.transport.open()
        self._exchange.begin("POST", "/v1/jobs?stream", {"Content-Type": NDJSON, "Accept": NDJSON, "Idempotency-Key": self._key})
        self._exchange.part(json.dumps(self._job).encode() + b"\n")

    def _put(self, index: int) -> None:
        assert self._exchange is not None
        self._exchange.part(b'{"base64":"%b"}\n' % base64.b64encode(self._kept[index]))
        if not self._known:
            self._hear()
        self._listen()

    def _listen(self) -> None:
        """Take in what the server has said, if it has."""
        if self._exchange is not None and self._exchange.ready() and not self._hear():
            raise Unavailable("the server has ended the connection")

    def _hear(self) -> bool:
        """Take in what the server says of the inputs; the first time, the job's id."""
        assert self._exchange is not None
        if self._exchange.status == 0 and self._exchange.head() >= 400:
            raise failure(self._exchange)
        line = self._exchange.line()
        if line is None:
            return False
        told = json.loads(line)
        if "error" in told:
            raise from_answer(told["error"])
        if "durable" in told:
            for index in [i for i in self._kept if i < self._base + told["durable"]]:
                del self._kept[index]
        elif not self._known and "id" in told:
            self._known, self._renewed = True, False
            with self._changed:
                self._parts.append(Part(told["id"], self._base))
                self._changed.notify_all()
            if told.get("existed"):
                raise Unavailable("what was sent before has arrived, and this has not")
        return True

    def _recover(self, why: BaseException) -> None:
        """Go on behind what the server has, after a connection broke: with a further job."""
        until = time.monotonic() + self._client.calls.patience
        while True:
            if self._exchange is not None:
                self._exchange.close()
            if self._closed or not self._mended(why):
                raise why
            if time.monotonic() > until:
                raise Unavailable(f"the connection broke while inputs went out: {why}") from why
            time.sleep(0.05)
            try:
                if self._known:
                    self._settle()
                self._begin()
                for index in sorted(self._kept):
                    self._put(index)
                return
            except (Unavailable, NotFound, OSError) as e:
                why = e

    def _mended(self, why: BaseException) -> bool:
        """Tell whether another try may go better. A function that was removed is registered
        anew, once, for a job that the server has refused."""
        if isinstance(why, NotFound) and not self._known and not self._renewed:
            self._renewed = True
            self._job = self._renew(self._job)
            return True
        return isinstance(why, Unavailable) or not isinstance(why, Error)

    def _settle(self) -> None:
        """Let the job that broke off run, and see how many chunks it has."""
        part = self._parts[-1]
        status = self._client.transport.call("GET", f"/v1/jobs/{part.job}")["status"]
        if status["open"]:
            raise Unavailable("the server still waits for the inputs of the connection that broke")
        if status["counts"]["stopped"]:
            raise TaskStopped("stopped", status["why"] or "the job was stopped", part.job)
        if status["held"]:
            self._client.transport.call("POST", f"/v1/jobs/{part.job}/resume", {})
        self._base += sum(status["counts"].values())
        self._kept = {index: data for index, data in self._kept.items() if index >= self._base}
        self._key, self._known = "", False
