"""A function that can be called elsewhere."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Union

from . import _codec, _modules
from ._future import Future
from ._map import AsyncMapped, Mapped
from ._spec import Options

if TYPE_CHECKING:
    from ._client import Client


class Function:
    """What Client.function makes of a function. Called plainly, it runs here."""

    def __init__(self, client: "Client", function: Callable[..., Any], options: Options,
                 definition: Optional[_codec.Definition] = None) -> None:
        if not callable(function):
            raise TypeError(f"{function!r} cannot be called")
        self._client = client
        self._function = function
        self._options = options
        self._definition = definition
        self._defining = threading.Lock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<navvy function {getattr(self._function, '__qualname__', self._function)}>"

    def __reduce__(self) -> Any:
        # Elsewhere it is the plain function: it may call itself, and needs no navvy for it.
        return functools.partial, (self._function,)

    def __get__(self, instance: Any, owner: Optional[type] = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _job(self, batch: bool = False, gone: Optional[str] = None) -> Dict[str, Any]:
        """The job of its calls. The first time, the function is registered; and once more, if
        the server does not know the id that it had."""
        with self._defining:
            if self._definition is None:
                self._definition = _codec.define(self._function)
            definition = self._definition
        what = dict(self._client.register(definition, gone), encoding="pickle")
        if self._client.transport.here:
            what.update(_modules.here())
        if batch:
            what["batch"] = True
        return self._options.job(what, self._options.name or definition.name)

    @functools.cached_property
    def _template(self) -> bytes:
        return self._line(None)

    def _line(self, gone: Optional[str]) -> bytes:
        self._client.ready_for_errands()  # among which _renewed is
        return json.dumps({"job": self._job(gone=gone)}).encode() + b"\n"

    def _renewed(self, template: bytes) -> bytes:
        """The template of now, in place of one whose function the server does not know."""
        line = self._line(function_id(json.loads(template)["job"]))
        self.__dict__["_template"] = line
        return line

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call it elsewhere. The call is durable once the server has it."""
        return Future(self._client, self._template, _codec.dumps((args, kwargs)), self._renewed)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call it elsewhere, and wait for what it returns or raises."""
        return self.submit(*args, **kwargs).result()

    async def asubmit(self, *args: Any, **kwargs: Any) -> Any:
        """Call it elsewhere, and await what it returns or raises."""
        if "_template" not in self.__dict__:  # which asks the server
            await asyncio.get_running_loop().run_in_executor(None, lambda: self._template)
        return await asyncio.wrap_future(self.submit(*args, **kwargs))

    def map(self, *iterables: Any, chunksize: "Union[int, str]" = "auto", ordered: bool = True,
            progress: Optional[bool] = None) -> Mapped:
        """Call it for each item, as one job, and give the values as they are needed: in the
        order of the items, or with ordered=False as they come.

        A call that raises does so when its item is next; the others may then still be had.
        Calls go together in chunks: of so many, or with "auto" of as many as take some
        tenths of a second. Items are taken as they are needed, so they may have no end.
        Whoever leaves the iterator stops the job. progress shows a bar of tqdm; by
        default, if that is there and somebody can see it."""
        if not iterables:
            raise TypeError("map needs at least one iterable")
        if chunksize != "auto" and (not isinstance(chunksize, int) or chunksize < 1):
            raise ValueError(f"chunksize {chunksize!r}: want a number above 0, or 'auto'")
        size = None if chunksize == "auto" else int(chunksize)
        return Mapped(self._client, self._job(batch=True), iterables, size, ordered, progress,
                      lambda job: self._job(batch=True, gone=function_id(job)))

    def amap(self, *iterables: Any, chunksize: "Union[int, str]" = "auto", ordered: bool = True) -> "AsyncMapped":
        """map for async for."""
        return AsyncMapped(lambda: self.map(*iterables, chunksize=chunksize, ordered=ordered, progress=False))


def function_id(job: Dict[str, Any]) -> str:
    """The id of the function that a job calls."""
    return str(job["spec"]["function"]["id"])
