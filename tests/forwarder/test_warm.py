"""The pool of warm connections, with links that only pretend."""

import asyncio
import contextlib

from support.waiting import until
from tunnel_forwarder.errors import DialError, Reason
from tunnel_forwarder.link import Ending
from tunnel_forwarder.warm import WarmPool


class FakeLink:
    def __init__(self):
        self.connected = True
        self.ending = None
        self.closed = False
        self.watched = False
        self._callback = None

    def watch_path(self, *, watch):
        self.watched = watch

    def when_ended(self, callback):
        self._callback = callback

    def end(self):
        self.ending = Ending(1000)
        self._callback()

    def close(self):
        self.closed = True

    abandon = close


class Dials:
    def __init__(self):
        self.links = []
        self.failures = 0

    async def __call__(self):
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise DialError(Reason.NO_LISTENER, "Nobody listens.")
        self.links.append(FakeLink())
        return self.links[-1]


@contextlib.asynccontextmanager
async def pooling(dial, size, **options):
    pool = WarmPool(dial, size, **({"retry": (0.001,)} | options))
    task = asyncio.create_task(pool.run())
    try:
        yield pool
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_it_is_filled_and_what_is_taken_is_replaced():
    dial = Dials()
    async with pooling(dial, 3) as pool:
        await until(lambda: len(pool) == 3)
        assert all(link.watched for link in dial.links)
        link = pool.take()
        assert link is dial.links[-1]
        assert not link.watched
        await until(lambda: len(pool) == 3)
        assert len(dial.links) == 4
    assert not link.closed
    assert [each.closed for each in dial.links].count(True) == 3


async def test_there_may_be_none():
    async with pooling(Dials(), 1) as pool:
        assert pool.take() is None


async def end_each(dial, pool, count):
    for made in range(1, count + 1):
        await until(lambda made=made: len(dial.links) == made and len(pool) == 1)
        dial.links[-1].end()


async def test_what_ends_is_replaced():
    dial = Dials()
    async with pooling(dial, 1, settled=0.0) as pool:
        await end_each(dial, pool, 3)
        await until(lambda: len(dial.links) == 4 and len(pool) == 1)


async def test_what_ends_at_once_is_replaced_after_a_pause_only():
    dial = Dials()
    async with pooling(dial, 1, settled=60.0, retry=(0.001, 60.0)) as pool:
        await end_each(dial, pool, 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(dial.links), len(pool)) == (2, 0)


async def test_what_ended_unnoticed_is_never_taken():
    dial = Dials()
    async with pooling(dial, 2) as pool:
        await until(lambda: len(pool) == 2)
        dial.links[1].connected = False
        assert pool.take() is dial.links[0]
        assert dial.links[1].closed


async def test_failures_are_retried():
    dial = Dials()
    dial.failures = 5
    async with pooling(dial, 1) as pool:
        await until(lambda: len(pool) == 1)


async def test_none_are_kept_when_none_are_wanted():
    dial = Dials()
    async with pooling(dial, 0, probe_every=0.001) as pool:
        await until(lambda: len(dial.links) >= 3)
        assert len(pool) == 0
        assert all(link.closed for link in dial.links[:-1])


async def test_it_grows_on_demand_and_shrinks_when_nobody_comes():
    dial = Dials()
    async with pooling(dial, 1, most=4, shrink_after=0.3, refill_after=0) as pool:
        await until(lambda: len(pool) == 1)
        pool.take()
        await until(lambda: pool.wanted == 2 and len(pool) == 2)
        pool.take()
        pool.take()
        await until(lambda: pool.wanted == 4 and len(pool) == 4)
        for _ in range(4):
            pool.take()
        await until(lambda: pool.wanted == 1 and len(pool) == 1)


async def test_links_that_are_distrusted_are_made_anew():
    dial = Dials()
    async with pooling(dial, 2, refill_after=0) as pool:
        await until(lambda: len(pool) == 2)
        old = tuple(dial.links)
        pool.distrust()
        assert all(link.closed for link in old)
        await until(lambda: len(pool) == 2)
        assert len(dial.links) == 4


async def test_it_has_a_fixed_size_unless_told_otherwise():
    dial = Dials()
    async with pooling(dial, 2, shrink_after=0.01) as pool:
        await until(lambda: len(pool) == 2)
        for _ in range(5):
            pool.take()
        await until(lambda: len(pool) == 2)
        assert pool.wanted == 2
