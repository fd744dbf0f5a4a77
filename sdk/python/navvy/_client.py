"""The client of one navvy."""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar, overload

from . import _codec, _server
from ._callbacks import Callbacks, called
from ._calls import LEAVING_TIME, Call, Calls
from ._executor import Executor
from ._function import Function
from ._future import interrupts
from ._map import Mapped
from ._spec import Options
from ._wire import CALL_TIME, Exchange, failure
from .errors import Error, Unavailable

F = TypeVar("F", bound=Callable[..., Any])
STOPPING_TIME = 30.0  # seconds to stop what Ctrl-C has left at the end of the program
_STOPS = 32  # jobs at once

_all: "weakref.WeakSet[Client]" = weakref.WeakSet()


class Client:
    """A navvy to call functions on. It connects when something is called; any number of
    threads may use it, and a process that is forked connects by itself."""

    def __init__(self, url: Optional[str] = None, *, token: Optional[str] = None, cert: Optional[str] = None,
                 key: Optional[str] = None, ca: Optional[str] = None, data: Optional[str] = None, patience: float = 60.0) -> None:
        self.transport = _server.find(url, token, cert, key, ca, data)
        self.calls = Calls(self.transport, patience, self.errand)
        self._callbacks = Callbacks()
        self.maps: "weakref.WeakSet[Mapped]" = weakref.WeakSet()  # that have not ended
        self._registered: Dict[_codec.Definition, Dict[str, Any]] = {}
        self._registering = threading.Lock()
        self._errands: "queue.SimpleQueue[Optional[Callable[[], None]]]" = queue.SimpleQueue()
        self._runner: Optional[threading.Thread] = None
        self._left: Deque[Call] = deque()  # are to be stopped
        _all.add(self)

    def __reduce__(self) -> Any:
        raise TypeError("a navvy client cannot travel: make one with navvy.connect() where it is needed")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: Optional[type], *_: object) -> None:
        if interrupts(kind):
            self.cancel()
        self.close()

    def cancel(self) -> None:
        """Cancel all calls that have no answer yet, and close all maps."""
        for values in list(self.maps):
            values.close()
        for call in self.calls.open():
            if call.cancel is not None:
                call.cancel()

    def close(self) -> None:
        """Close all connections, when calls are durable, which go on. Maps that have not
        ended are stopped."""
        for values in list(self.maps):
            values.close(Unavailable("the map has more values, and its client was closed"))
        self.calls.flush(LEAVING_TIME)  # which may make errands
        self._finish_errands()
        self.calls.close()
        self._callbacks.close()
        self.transport.close()

    @overload
    def function(self, function: F) -> "Function": ...

    @overload
    def function(self, function: None = None, **options: Any) -> "Callable[[F], Function]": ...

    def function(self, function: Any = None, **options: Any) -> Any:
        """Make a function one that can be called elsewhere. A decorator, with options or
        without: name, retries, backoff, timeout, memory, cpus, pids, gpus, labels,
        resources, queue, priority, isolate, network."""
        asked = Options.of(options)
        if function is None:
            return lambda f: Function(self, f, asked)
        return Function(self, function, asked)

    def executor(self, **options: Any) -> Executor:
        """An Executor as of concurrent.futures, with a function's options."""
        return Executor(self, **options)

    def whoami(self) -> Dict[str, Any]:
        """Who we are to the server. It also shows that one answers."""
        return dict(self.transport.call("GET", "/v1/whoami"))

    # For functions and futures.

    def register(self, definition: _codec.Definition, gone: Optional[str] = None) -> Dict[str, Any]:
        """Register a function, once a process, and return what a job says of it. gone is an
        id that the server does not know any more."""
        with self._registering:
            known = self._registered.get(definition)
            if known is None or known["id"] == gone:
                version = self.transport.call("POST", "/v1/functions", definition.message())
                known = {"id": version["id"], "name": version["name"], "version": version["version"]}
                self._registered[definition] = known
        return known

    def slots(self) -> int:
        """How many calls may run at once, as far as it can be told; else as many as there
        are processors here."""
        try:
            workers = self.transport.call("GET", "/v1/workers")["workers"]
            found = sum(int(w.get("status", {}).get("slots") or 0) for w in workers)
        except Error:
            found = 0
        return found or os.cpu_count() or 1

    def job_of(self, call: Call) -> Optional[str]:
        """The id of a call's job; None if it has none."""
        return next(self._jobs_of([call], 60.0), None)

    def _jobs_of(self, calls: Sequence[Call], timeout: float) -> Iterator[str]:
        """The ids of calls' jobs. The server tells them to who calls again under their keys."""
        until = time.monotonic() + timeout
        asked: "List[Tuple[Call, threading.Event]]" = []
        for call in calls:
            if call.dropped and not call.sent:
                continue  # there is no job, and to ask would make one
            told = threading.Event()
            again = Call(call.template, call.key, call.data, teller(told))
            again.notify, again.job, again.renew = teller(told), call.job, call.renew
            if call.job is None:
                self.calls.add(again)
            asked.append((again, told))
        for again, told in asked:
            if again.job is None:
                told.wait(max(0.0, until - time.monotonic()))
                self.calls.take_back(again)
            if again.job is not None:
                yield again.job

    def call_back(self, callback: Callable[[Any], object], future: Any) -> None:
        """Call back in this thread, or in one that nobody waits for."""
        if self.calls.serves():
            self._callbacks.run(lambda: called(callback, future))
        else:
            callback(future)

    def abandon(self, call: Call) -> None:
        """Stop a call that nobody waits for any more, behind the caller's back."""
        if not self.calls.take_back(call):
            self._left.append(call)
            self.errand(self._stop_left)

    def _stop_left(self) -> None:
        """Stop all that gathered: many calls may be left at once."""
        calls = [self._left.popleft() for _ in range(len(self._left))]
        jobs = list(self._jobs_of(calls, 60.0))
        if not self._stop_all(jobs, time.monotonic() + 60.0):
            for job in jobs:
                self.stop(job)

    def _stop_all(self, jobs: Iterable[str], until: float) -> bool:
        """Stop jobs, many together: each is written to a disk. False says that some may not be."""
        busy: Deque[Exchange] = deque()
        try:
            for job in jobs:
                if time.monotonic() > until:
                    return False
                if len(busy) < _STOPS:
                    busy.append(self.transport.open())
                else:
                    busy.append(answered(busy.popleft()))
                busy[-1].begin("POST", f"/v1/jobs/{job}/stop", {"Content-Type": "application/json"}, b"{}")
            for exchange in busy:
                answered(exchange)
            return True
        except OSError:  # Unavailable, too
            return False
        finally:
            for exchange in busy:
                exchange.close()

    def stop(self, job: str) -> None:
        """Stop a job; one that has ended stays as it is. While no navvy answers, it is tried
        again behind the caller's back."""
        if not self._stopped(job):
            self.errand(lambda: self._stop_late(job))

    def _stopped(self, job: str) -> bool:
        try:
            self.transport.call("POST", f"/v1/jobs/{job}/stop", {})
        except Unavailable:
            return False
        except Error:
            pass  # it has ended
        return True

    def _stop_late(self, job: str) -> None:
        until = time.monotonic() + self.calls.patience
        while not self._stopped(job) and not self.calls.closed and time.monotonic() < until:
            time.sleep(0.1)

    def errand(self, do: Callable[[], None]) -> None:
        """Do something soon, in another thread."""
        self.ready_for_errands()
        self.soon(do)

    def soon(self, do: Callable[[], None]) -> None:
        """The same where nothing may wait, if the thread is ready."""
        self._errands.put(do)  # which may be interrupted by itself

    def ready_for_errands(self) -> None:
        """Start the thread of errands, unless it runs."""
        with self._registering:
            if self._runner is None:
                self._runner = threading.Thread(target=self._run_errands, args=(self._errands, self.calls.serve),
                                                name="navvy-errands", daemon=True)
                self._runner.start()

    @staticmethod
    def _run_errands(errands: "queue.SimpleQueue[Optional[Callable[[], None]]]", serve: Callable[[], None]) -> None:
        serve()
        for do in iter(errands.get, None):
            try:
                do()
            except Exception:  # nobody is there to hear of it
                pass
            del do  # it may be the last that holds a map

    def _finish_errands(self, timeout: float = LEAVING_TIME) -> None:
        with self._registering:
            runner, self._runner = self._runner, None
        if runner is not None:
            self._errands.put(None)
            runner.join(timeout)

    def output_lines(self, job: str, index: int, follow: bool, stream: str) -> Iterator[str]:
        """The lines of a task's output."""
        exchange = self.transport.open()
        try:
            exchange.begin("GET", f"/v1/jobs/{job}/tasks/{index}/output?stream={stream}" + ("&follow" if follow else ""), {}, b"")
            if exchange.head() != 200:
                raise failure(exchange)
            rest = b""
            for part in exchange.parts():
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
            if rest:
                yield rest.decode("utf-8", "replace")
        finally:
            exchange.close()

    def _forked(self) -> None:
        """In a child: what waits is the parent's, connections too."""
        self.transport.forget()
        self.calls.forget()
        self._callbacks = Callbacks()
        self.maps = weakref.WeakSet()
        self._registering = threading.Lock()
        self._errands = queue.SimpleQueue()
        self._runner = None
        self._left = deque()

    def _leave(self, interrupted: bool) -> None:
        """At the end of the process: what was called is sent, what was cancelled or left is
        stopped. If Ctrl-C is what ends it, all calls are."""
        for values in list(self.maps):
            values.close()
        if not interrupted:
            self.calls.flush(LEAVING_TIME)  # which may make errands
        self._finish_errands(STOPPING_TIME if interrupted else LEAVING_TIME)
        if interrupted:  # by this thread: from here on Python starts no other
            until = time.monotonic() + STOPPING_TIME
            sent = [call for call in self.calls.open() if not self.calls.take_back(call)]
            self._stop_all(self._jobs_of(sent, LEAVING_TIME), until)
        self.calls.leave(LEAVING_TIME)


def answered(exchange: Exchange) -> Exchange:
    """Wait for an answer, whatever it is: a job that cannot be stopped has ended."""
    exchange.settimeout(CALL_TIME)
    exchange.head()
    exchange.read()
    return exchange


def teller(told: threading.Event) -> Callable[..., None]:
    return lambda *_: told.set()


def _after_fork() -> None:
    for client in list(_all):
        client._forked()


def _at_exit() -> None:
    # What nobody has caught is there, unless it was at a prompt, which went on after it.
    interrupted = interrupts(getattr(sys, "last_type", None)) and not hasattr(sys, "ps1")
    for client in list(_all):
        client._leave(interrupted)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def connect(url: Optional[str] = None, *, token: Optional[str] = None, cert: Optional[str] = None, key: Optional[str] = None,
            ca: Optional[str] = None, data: Optional[str] = None, patience: float = 60.0) -> Client:
    """Return a client of the navvy that is named, or that the navvy command would use: that
    of NAVVY_URL, NAVVY_SERVER or the current context, else the one of this machine, which is
    started if none runs. patience is for how many seconds calls wait for one that is away."""
    return Client(url, token=token, cert=cert, key=key, ca=ca, data=data, patience=patience)
