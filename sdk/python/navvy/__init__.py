"""Python functions that run elsewhere: on this machine's navvy, or on a team's.

    import navvy

    nv = navvy.connect()

    @nv.function(retries=3, timeout=60, memory="512M")
    def score(x): ...

    score.submit(3).result()
    list(score.map(range(10_000)))
"""

from ._client import Client, connect
from ._executor import Executor
from ._function import Function
from ._future import Future
from ._map import Mapped
from .errors import (CannotPickle, Denied, Error, Invalid, NotFound, OutOfMemory, RemoteTraceback, TaskFailed, TaskStopped,
                     TaskTimeout, Unavailable, WorkerDied)

__version__ = "0.1.0"

__all__ = [
    "CannotPickle", "Client", "Denied", "Error", "Executor", "Function", "Future", "Invalid", "Mapped", "NotFound", "OutOfMemory",
    "RemoteTraceback", "TaskFailed", "TaskStopped", "TaskTimeout", "Unavailable", "WorkerDied", "connect",
]
