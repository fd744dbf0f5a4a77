"""Calls over one connection: POST /v1/calls, lines in both directions.

Whoever calls sends by themselves if little is under way; else a thread sends what has
gathered. Another thread reads answers. When the connection breaks, what has no answer is
sent again over the next one: under its idempotency key a call is the same job.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from ._wire import NDJSON, Exchange, Transport, failure
from .errors import Error, Invalid, NotFound, Unavailable, from_answer

_TOGETHER = 512  # calls, or so many bytes, in one part of the body
_TOGETHER_BYTES = 1 << 20
_FEW = 32  # calls under way that leave room in any socket, with inputs as short as:
_SHORT = 4 << 10
LONGEST = ((16 << 20) - (64 << 10)) // 4 * 3  # of an input: a line is 16 MiB at most, in base 64
LEAVING_TIME = 5.0  # seconds to wait for the server before calls are left


class Call:
    """A call that waits for its answer."""

    __slots__ = ("template", "key", "data", "done", "notify", "cancel", "renew", "number", "sent", "dropped", "job")

    def __init__(self, template: bytes, key: str, data: bytes, done: "Callable[[Call, Dict[str, Any]], None]") -> None:
        self.template = template  # the line of its job
        self.key = key
        self.data = data  # the input
        self.done = done  # called once, with {"result"}, {"status"} or {"exception"}
        self.notify: "Optional[Callable[[str], None]]" = None  # called with the job's id, if set
        self.cancel: "Optional[Callable[[], Any]]" = None  # of whoever waits; None if that is only us
        # Gives a template in place of one whose function the server does not know any more.
        self.renew: "Optional[Callable[[bytes], bytes]]" = None
        self.number = 0
        self.sent = False  # at least in part, at some time
        self.dropped = False  # nobody waits for it any more
        self.job: Optional[str] = None

    def line(self) -> bytes:
        told = b',"notify":true' if self.notify else b""
        return b'{"number":%d%b,"idempotency_key":"%b","input":{"base64":"%b"}}\n' % (
            self.number, told, self.key.encode(), base64.b64encode(self.data))


def too_long(data: bytes, what: str = "the arguments of a call take") -> None:
    """Refuse an input that the server would not read, before it ends what goes with it."""
    if len(data) > LONGEST:
        raise Invalid(f"{what} {len(data) / 1e6:.1f} MB as a pickle, and {LONGEST / 1e6:.1f} MB is the most: "
                      "leave them in a file or a store, and hand over where")


class Calls:
    """The calls of one client."""

    def __init__(self, transport: Transport, patience: float, errand: "Callable[[Callable[[], None]], None]") -> None:
        self._transport = transport
        self._errand = errand  # does something in another thread
        self.patience = patience
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a process that was forked."""
        self._lock = threading.Lock()  # of what follows
        self._wake = threading.Condition(self._lock)
        self._waiting: Dict[int, Call] = {}
        self._queue: Deque[Call] = deque()
        self._exchange: Optional[Exchange] = None
        self._started = False
        self.closed = False
        self._failing: Optional[float] = None  # since when there is no connection
        self._sending = threading.Lock()  # of the connection's body, and of _template
        self._template = b""  # that the connection has heard last
        self._reader: Optional[int] = None
        self._serving = threading.local()  # set in threads that others wait for
        self._prefix = os.urandom(9).hex()
        self._numbers = itertools.count(1)

    def serve(self) -> None:
        """Note that others wait for this thread, which must not wait for their calls."""
        self._serving.true = True

    def serves(self) -> bool:
        """Tell whether this is such a thread."""
        return hasattr(self._serving, "true")

    def key(self) -> str:
        """A key that no other call has."""
        return f"{self._prefix}-{next(self._numbers)}"

    def add(self, call: Call) -> None:
        """Send a call. Invalid says that its input is too long, which is all that it stops."""
        too_long(call.data)
        with self._lock:
            if self.closed:
                raise Error("this client is closed")
            if call.dropped:
                return
            call.number = next(self._numbers)
            self._waiting[call.number] = call
            self._queue.append(call)
            if not self._started:
                self._started = True
                threading.Thread(target=self._write, name="navvy-calls", daemon=True).start()
            alone = (self._exchange is not None and len(self._waiting) <= _FEW and len(call.data) <= _SHORT
                     and threading.get_ident() != self._reader)  # who reads must never wait for room
            if not alone:
                self._wake.notify()
                return
        if self._sending.acquire(blocking=False):
            try:
                self._send(_FEW)
            finally:
                self._sending.release()
        with self._lock:
            if self._queue:
                self._wake.notify()

    def take_back(self, call: Call) -> bool:
        """Drop a call. True says that it was not sent, and never will be."""
        with self._lock:
            call.dropped = True
            self._waiting.pop(call.number, None)
            try:
                self._queue.remove(call)
            except ValueError:
                pass
            return not call.sent  # it may be queued again, after a connection broke

    def open(self) -> List[Call]:
        """The calls of others that wait for their answers."""
        with self._lock:
            return [call for call in self._waiting.values() if call.cancel is not None]

    def flush(self, timeout: float) -> bool:
        """Wait until all calls are durable, or refused. The server takes calls in their
        order, so it is enough to ask for the last one."""
        until = time.monotonic() + timeout
        while True:
            with self._lock:
                last = self._waiting[max(self._waiting)] if self._waiting else None
            if last is None or last.job is not None:
                return True  # if the id is known, so is the job
            told = threading.Event()
            again = Call(last.template, last.key, last.data, lambda *_: told.set())
            again.notify = lambda _: told.set()
            self.add(again)
            in_time = told.wait(max(0.0, until - time.monotonic()))
            self.take_back(again)
            if again.job is not None or not in_time or time.monotonic() > until:
                return again.job is not None
            # The last one was refused, which says nothing of those before.

    def leave(self, timeout: float) -> Optional[Exchange]:
        """Wait until all calls are durable, and end what is sent over the connection: to
        break off would take back what the server has not made durable."""
        if self._reader == threading.get_ident() or not self.flush(timeout):
            return None  # there may be no room to send the end
        if not self._sending.acquire(timeout=1.0):
            return None
        try:
            with self._lock:
                exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.end()
            return exchange
        except OSError:
            return exchange
        finally:
            self._sending.release()

    def close(self) -> None:
        """End the connection, when all calls are durable. What waits for an answer gets none
        here; its job goes on."""
        ended = None if self.closed else self.leave(LEAVING_TIME)
        with self._lock:
            self.closed = True
            exchange, self._exchange = self._exchange, None
            left = list(self._waiting.values())
            self._waiting.clear()
            self._queue.clear()
            self._wake.notify()
        for connection in exchange, ended:
            if connection is not None:
                connection.close()
        for call in left:
            call.done(call, {"exception": Unavailable("the client was closed before the answer came")})

    # Sending.

    def _write(self) -> None:
        self.serve()
        while True:
            try:
                if not self._write_some():
                    return
            except Exception as e:  # no memory, no thread: whoever waits must hear of it
                self._fail(Unavailable(f"calls cannot be sent: {type(e).__name__}: {e}"))

    def _write_some(self) -> bool:
        """Wait for calls, and send some. False says that there will be no more."""
        with self._lock:
            while not self._queue and not self.closed:
                self._wake.wait()
            if self.closed:
                return False
            connected = self._exchange is not None
        if connected or self._connect():
            with self._sending:
                self._send(_TOGETHER)
        return True

    def _send(self, most: int) -> None:
        """Send what has gathered, at most so many calls. _sending is held."""
        with self._lock:
            exchange = self._exchange
        if exchange is None:
            return
        try:
            parts = self._gathered(exchange, most)
            if parts:
                exchange.part(b"".join(parts))
        except OSError:
            self._broken(exchange)
        except BaseException:  # Ctrl-C of whoever calls: other threads' calls are among them
            self._broken(exchange)
            raise

    def _gathered(self, exchange: Exchange, most: int) -> List[bytes]:
        """Take lines that are to be sent; none, if the connection broke meanwhile."""
        parts: List[bytes] = []
        size = 0
        with self._lock:
            if self._exchange is not exchange:
                return parts
            while self._queue and len(parts) < 2 * most and size < _TOGETHER_BYTES:
                call = self._queue.popleft()
                call.sent = True
                if call.template != self._template:
                    self._template = call.template
                    parts.append(call.template)
                parts.append(call.line())
                size += len(parts[-1])
        return parts

    def _connect(self) -> bool:
        """Make a connection, after a pause if the last try has failed."""
        began = time.monotonic()
        try:
            exchange = self._transport.open()
            try:
                exchange.begin("POST", "/v1/calls", {"Content-Type": NDJSON, "Accept": NDJSON})
                if exchange.head() != 200:
                    raise failure(exchange)
            except OSError as e:
                exchange.close()
                raise e if isinstance(e, Error) else Unavailable(f"{self._transport.name}: {e}") from e
            except BaseException:
                exchange.close()
                raise
        except Unavailable as e:
            self._wait(began, e)
            return False
        except Exception as e:  # a token that is over, a certificate that is none
            self._fail(e)
            return False
        with self._sending:
            self._template = b""
            with self._lock:
                if self.closed:
                    exchange.close()
                    return False
                self._exchange = exchange
        threading.Thread(target=self._read, args=(exchange,), name="navvy-answers", daemon=True).start()
        return True

    def _wait(self, began: float, why: Unavailable) -> None:
        """Wait before the next try, or give up if there were enough."""
        with self._lock:
            if self._failing is None:
                self._failing = began
            since = time.monotonic() - self._failing
        if since > self.patience:
            self._fail(Unavailable(f"{why}; tried for {since:.0f} s"))
            return
        time.sleep(min(0.02 + since / 4, 1.0))

    def _fail(self, why: Exception) -> None:
        """Tell whoever waits that no answers come."""
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
            self._queue.clear()
            self._failing = None
        for call in left:
            self._tell(call, {"exception": why})

    @staticmethod
    def _tell(call: Call, answer: Dict[str, Any]) -> None:
        """Hand an answer on, in a thread that many wait for: whatever goes wrong is shown
        and ends nothing."""
        try:
            call.done(call, answer)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))

    # Answers.

    def _read(self, exchange: Exchange) -> None:
        self.serve()
        self._reader = threading.get_ident()
        try:
            more = True
            while more:
                lines, more = exchange.lines()
                for line in lines:
                    self._answer(json.loads(line))
        except Unavailable:
            pass
        except Error as e:
            self._fail(e)
        except (OSError, ValueError):
            pass  # it broke in the midst of something
        finally:
            self._broken(exchange)

    def _answer(self, answer: Dict[str, Any]) -> None:
        error = answer.get("error")
        number = answer.get("number")
        if error is not None and (number is None or error.get("code") == "unavailable"):
            raise from_answer(error)  # the server leaves; what has no answer is sent again
        with self._lock:
            self._failing = None
            call = self._waiting.get(int(number or 0))
            if call is not None and not answer.get("accepted"):
                del self._waiting[call.number]
        if call is None:
            return  # nobody waits for it any more
        call.job = answer.get("id") or call.job
        if error is not None:
            why = from_answer(error)
            if isinstance(why, NotFound) and call.renew is not None:
                refused, call.sent = call, False
                self._errand(lambda: self._renew(refused, why))
                return
            self._tell(call, {"exception": why})
        elif not answer.get("accepted"):
            self._tell(call, answer)
        elif call.notify is not None and call.job is not None:
            call.notify(call.job)

    def _renew(self, call: Call, why: Error) -> None:
        """Send a call again whose function the server does not know any more: once, and
        under its key, with which it is still no job."""
        renew, call.renew = call.renew, None
        try:
            template = renew(call.template) if renew is not None else call.template
            if template != call.template:
                call.template = template
                self.add(call)
                return
        except Error as e:
            why = e
        self._tell(call, {"exception": why})

    def _broken(self, exchange: Exchange) -> None:
        """Leave a connection, and queue again what it leaves without an answer."""
        with self._lock:
            if self._exchange is exchange:
                self._exchange = None
                self._queue = deque(self._waiting[n] for n in sorted(self._waiting))
                if self._failing is None:
                    self._failing = time.monotonic()
                self._wake.notify()
        exchange.close()
