"""Hosts are replaced after 10,000 calls, and nobody notices."""

import collections
import os

import navvy
from test_transport import alone  # noqa: F401  a fixture

CALLS = 10_000  # that a host makes


def where(i):
    return i, os.getpid()


def test_recycled(alone, cli):  # noqa: F811
    """Every answer is right, and is that of its call."""
    with navvy.connect() as nv:
        nv.whoami()
        cli("queue", "create", "recycled", "--concurrency", "1")  # one call at a time: by the same host, if it may
        there, made = nv.function(queue="recycled")(where), collections.Counter()
        waiting = collections.deque()
        for i in range(CALLS * (nv.slots() + 1)):
            waiting.append((i, there.submit(i)))
            while len(waiting) > 500:
                number, future = waiting.popleft()
                answer, host = future.result(60)
                assert answer == number
                made[host] += 1
            if max(made.values(), default=0) == CALLS and made[host] < CALLS and i % 1000 == 0:
                break  # one has been replaced, and others have gone on
        assert [future.result(60)[0] for _, future in waiting] == [number for number, _ in waiting]
    assert max(made.values()) == CALLS and len(made) > 1
