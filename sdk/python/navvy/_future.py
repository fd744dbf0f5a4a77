"""A call that may be waited for, as concurrent.futures has it."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Iterator, List, Optional, Tuple, TypeVar, Union

from . import _codec
from ._calls import Call
from .errors import Error, NotFound, TaskStopped, from_attempt

if TYPE_CHECKING:
    from ._client import Client

T = TypeVar("T")
Item = Tuple[bool, Any]  # as of a batch: (True, value) or (False, exception)
_FAILED = Error("a call has failed")  # stands for what exception() reads when it is asked for


class Future(concurrent.futures.Future, Generic[T]):  # type: ignore[type-arg]
    """The answer of a call that is to come. It can be waited for with
    concurrent.futures.wait and as_completed, and awaited through asyncio.wrap_future."""

    def __init__(self, client: "Client", template: bytes, data: bytes, renew: "Optional[Callable[[bytes], bytes]]" = None) -> None:
        super().__init__()
        self._client = client
        self._call: Call = Call(template, client.calls.key(), data, self._answered)
        self._answer: Optional[Dict[str, Any]] = None
        self._settling = threading.Lock()  # of _answer: whoever sets it decides how this ends
        self._reading = threading.Lock()
        self._read: Any = None  # the value, or the exception
        self._has_read = False
        self._job: Optional[str] = None
        self._call.cancel, self._call.renew = self.cancel, renew
        client.calls.add(self._call)

    def _answered(self, call: Call, answer: Dict[str, Any]) -> None:
        """Take the answer. The value is read by whoever wants it, not by whoever brings it."""
        with self._settling:
            if self._answer is not None:
                return
            self._answer = answer
            self._job = call.job
        self.set_running_or_notify_cancel()
        if answer.get("result", {}).get("state") == "succeeded":
            self.set_result(None)
        else:
            self.set_exception(_FAILED)

    def result(self, timeout: Optional[float] = None) -> T:
        """What the function returned. What it raised is raised, its traceback as the cause."""
        e = self.exception(timeout)
        if e is not None:
            try:
                raise e
            finally:
                del e
        return self._read  # type: ignore[no-any-return]

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """What the function raised, or why there is no value; None if there is one. If
        this is interrupted, as by Ctrl-C, the call is cancelled."""
        try:
            failed = super().exception(timeout) is not None
        except KeyboardInterrupt:
            self.cancel()
            raise
        with self._reading:
            if not self._has_read:
                self._read, self._has_read = self._open(failed), True
                self._answer = {}
        return self._read if failed or isinstance(self._read, Unreadable) else None

    def _open(self, failed: bool) -> Any:
        assert self._answer is not None
        why = self._answer.get("exception")
        if why is not None:
            return why
        result = self._answer.get("result")
        if result is None:
            status = self._answer.get("status", {})
            return TaskStopped("stopped", str(status.get("why") or f"the job is {status.get('state')}"), self._job)
        try:
            return read_result(self._client, result, self._job)
        except Unreadable as e:
            return e
        except Exception as e:
            return e if failed else unreadable(e)

    @property
    def job(self) -> str:
        """The id of the call's job. It waits until the server has accepted it."""
        if self._job is None:
            self._job = self._client.job_of(self._call) or self._call.job
        if self._job is None:
            raise NotFound("the call has no job: it was refused, or cancelled before it was sent")
        return self._job

    def running(self) -> bool:
        """Tell whether the function runs now. This asks the server."""
        if self.done() or self._call.number == 0:
            return False
        try:
            status = self._client.transport.call("GET", f"/v1/jobs/{self.job}")["status"]
        except NotFound:
            return False
        return not self.done() and bool(status["counts"]["running"])

    def cancel(self) -> bool:
        """Stop the call's job, also if it runs. False if it is done."""
        with self._settling:
            if self._answer is not None:
                return self.cancelled()
            self._answer = {}
        self._client.abandon(self._call)
        super().cancel()
        self.set_running_or_notify_cancel()  # tells those who wait
        return True

    def add_done_callback(self, fn: "Callable[[concurrent.futures.Future[T]], object]") -> None:
        """Have fn called with this when it is done: in a thread for callbacks, which may
        wait for other calls; here, if it is done already."""
        call_back = self._client.call_back
        super().add_done_callback(lambda future: call_back(fn, future))

    def logs(self, follow: bool = False, stream: str = "both") -> Iterator[str]:
        """The lines that the function has written, to stdout, stderr or both; with follow
        also those to come, until the call has its answer. If following is interrupted, as
        by Ctrl-C, the call is cancelled."""
        lines = self._client.output_lines(self.job, 0, follow, stream)
        return self._followed(lines) if follow else lines

    def _followed(self, lines: Iterator[str]) -> Iterator[str]:
        try:
            yield from lines
        except KeyboardInterrupt:
            self.cancel()
            raise


def interrupts(kind: Optional[type]) -> bool:
    """Tell whether an exception of this type is what Ctrl-C raises."""
    return kind is not None and issubclass(kind, KeyboardInterrupt)


class Unreadable(Error):
    """A value came that cannot be unpickled here."""


def unreadable(why: Exception) -> Unreadable:
    """What stands for a value that cannot be read."""
    e = Unreadable(f"the value cannot be read here: {type(why).__name__}: {why}")
    e.__cause__ = why
    return e


def read_result(client: "Client", result: Dict[str, Any], job: Optional[str]) -> Any:
    """The value of a result, or of a failed one the exception. Unreadable says that the
    value has come, and cannot be read; anything else, that it did not come."""
    attempt = result.get("attempt") or {}
    failed = result.get("state") != "succeeded"
    if failed and attempt.get("reason") != "exception" and not result.get("value"):
        return from_attempt(attempt, job)
    data = value_bytes(client, result, job)
    if failed and not data:
        return from_attempt(attempt, job)
    try:
        value = _codec.loads(data) if data else None
    except Exception as e:
        if not failed:
            raise unreadable(e)
        why = from_attempt(attempt, job)
        why.__cause__ = e
        return why
    return _codec.with_cause(value) if failed and isinstance(value, BaseException) else value


def read_batch(client: "Client", result: Dict[str, Any], job: Optional[str]) -> "Union[List[Item], BaseException]":
    """The answers of a chunk of calls, or why there are none. Each call's is read by itself:
    one that cannot be read says nothing of its neighbours."""
    try:
        value = read_result(client, result, job)
    except Unreadable as e:
        return e
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "items":
        return [_item(good, data) for good, data in value[1]]
    return value  # type: ignore[no-any-return]


def _item(good: bool, data: bytes) -> Item:
    try:
        return good, _codec.loads(data)
    except Exception as e:
        return False, unreadable(e)


def value_bytes(client: "Client", result: Dict[str, Any], job: Optional[str]) -> bytes:
    """The bytes of a value: in the result, or in a log if it is long."""
    value = result.get("value")
    if value is not None:
        return _codec.from_json(value)
    if (result.get("attempt") or {}).get("output", {}).get("logged"):
        path = f"/v1/jobs/{job}/tasks/{result['index']}/output?stream=value"
        return bytes(client.transport.call("GET", path, raw=True))
    return b""
