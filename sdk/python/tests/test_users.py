"""What a user met, who had nothing but the documents."""

import asyncio
import concurrent.futures
import time

import pytest

import navvy


def ends(x):
    if x == 2:
        raise StopIteration
    return x


def third(x):
    return 12 // (x - 2)


def test_stop_iteration(nv):
    """It does not end the iteration of whoever reads."""
    there = nv.function(ends)
    for size in 1, 5:
        values = there.map(range(5), chunksize=size)
        assert [next(values), next(values)] == [0, 1]
        with pytest.raises(RuntimeError, match="StopIteration"):
            next(values)
        assert list(values) == [3, 4]
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(there.asubmit(2), 60))


def test_async_goes_on(nv):
    async def read():
        values, found = nv.function(third).amap(range(5)), []
        while True:
            try:
                found.append(await values.__anext__())
            except ZeroDivisionError:
                found.append("raised")
            except StopAsyncIteration:
                return found

    assert asyncio.run(read()) == [-6, -12, "raised", 12, 6]


def test_closed_client(data):
    """A map that is cut short by it says so."""
    with navvy.connect() as nv:
        values = nv.function(time.sleep).map([0.01] * 40, chunksize=1)
        next(values)
    with pytest.raises(navvy.Unavailable, match="closed"):
        list(values)
    with navvy.connect() as nv:
        whole = nv.function(ends).map([0, 1])
        assert list(whole) == [0, 1]
    assert list(whole) == []


def test_executor_timeout(nv):
    began = time.monotonic()
    with pytest.raises(concurrent.futures.TimeoutError):
        list(nv.executor().map(time.sleep, [30], timeout=0.3))
    assert time.monotonic() - began < 20


def test_options(nv):
    with pytest.raises(TypeError, match="no option 'retrys'.* retries,"):
        nv.function(retrys=1)
    with pytest.raises(navvy.Invalid, match="retries"):
        nv.function(retries=-1)
    with pytest.raises(navvy.Invalid, match="seconds"):
        nv.function(timeout="1m")(ends).submit(0)
