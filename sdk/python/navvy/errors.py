"""What goes wrong, as exceptions. All are kinds of Error."""

from __future__ import annotations

from typing import Any, Optional, Type


class Error(Exception):
    """Something that navvy says, not the function that was called."""


class Unavailable(Error, ConnectionError):
    """No navvy answers. What was called may yet run, once."""


class Denied(Error, PermissionError):
    """The server does not let us: a certificate, a token or a role is missing."""


class Invalid(Error, ValueError):
    """The server cannot do what is asked for, as it stands."""


class NotFound(Error, LookupError):
    """There is no such job or function."""


class CannotPickle(Error, TypeError):
    """A function or its arguments cannot travel as they are."""


class TaskFailed(Error):
    """A call has ended without a value, and its function has raised nothing.

    reason is navvy's word for why: "signal", "oom", "start", "lost", "stopped" and so on.
    """

    def __init__(self, reason: str, message: str, job: Optional[str] = None) -> None:
        super().__init__(reason, message, job)
        self.reason = reason
        self.message = message
        self.job = job

    def __str__(self) -> str:
        where = f" (job {self.job})" if self.job else ""
        return (self.message or self.reason) + where


class TaskTimeout(TaskFailed, TimeoutError):
    """A call ran longer than its function's timeout."""


class WorkerDied(TaskFailed):
    """The process that ran the call ended in the midst of it, or its whole worker did."""


class OutOfMemory(WorkerDied, MemoryError):
    """The call needed more memory than its limit."""


class TaskStopped(TaskFailed):
    """Somebody has stopped the call's job, or holds it."""


class RemoteTraceback(Exception):
    """The cause of an exception that a function has raised: its traceback, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return '\n"""\n' + self.text + '"""'


_BY_CODE: "dict[str, Type[Error]]" = {
    "unavailable": Unavailable, "closed": Unavailable, "timeout": Unavailable,
    "denied": Denied, "unauthenticated": Denied,
    "not_found": NotFound,
    "invalid": Invalid, "unsupported": Invalid, "conflict": Invalid, "exists": Invalid,
    "too_large": Invalid, "unsupported_media_type": Invalid, "method_not_allowed": Invalid,
}

_BY_REASON: "dict[str, Type[TaskFailed]]" = {
    "timeout": TaskTimeout, "oom": OutOfMemory, "signal": WorkerDied, "exit": WorkerDied, "lost": WorkerDied,
    "stopped": TaskStopped,
}


def from_answer(error: Any) -> Error:
    """The exception that stands for the "error" of an answer of the API."""
    if not isinstance(error, dict):
        return Error(f"the server says {error!r}")
    return _BY_CODE.get(str(error.get("code")), Error)(str(error.get("message") or error.get("code")))


def from_attempt(attempt: Any, job: Optional[str]) -> TaskFailed:
    """The exception of an attempt that has failed and left none of its own."""
    reason = str(attempt.get("reason") or "failed")
    return _BY_REASON.get(reason, TaskFailed)(reason, str(attempt.get("message") or ""), job)
