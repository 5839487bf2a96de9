"""The Lease against an API server that keeps one object with a version, and is slow when told to be."""

import asyncio
import copy

import pytest

from tunnel_operator.adapters.kube_api import NotFoundError
from tunnel_operator.adapters.lease import LeaseElector, LeaseLostError, LeaseName
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import ConflictError, Retryable
from tunnel_operator.runtime.leadership import Leadership


class Server:
    """Keeps one Lease. `lost` is how many of the next requests are done, or not, and never answered."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.asked = []
        self.lost = 0
        self.has_effect = True

    async def request(self, method, path, *, body=None):
        self.asked.append(method)
        if not self.lost:
            return self._answer(method, body)
        self.lost -= 1
        if self.has_effect:
            self._answer(method, body)
        return await asyncio.Future()

    def _answer(self, method, body):
        if method != "POST" and self.lease is None:
            raise NotFoundError(Reason.NOT_FOUND, "no such Lease")
        if method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError(Reason.UNAVAILABLE, "changed meanwhile")
        if method != "GET":
            self.version += 1
            metadata = {**body["metadata"], "resourceVersion": str(self.version)}
            self.lease = {**body, "metadata": metadata}
        return copy.deepcopy(self.lease)

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Time:
    """Goes on by itself while somebody sleeps or waits, at once."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(asyncio, "sleep", self.sleep)
        monkeypatch.setattr(asyncio, "timeout", self.timeout)

    def __call__(self):
        return self.now

    async def sleep(self, seconds, _sleep=asyncio.sleep):
        self.now += seconds
        await _sleep(0)

    def timeout(self, seconds, _timeout=asyncio.timeout):
        """Give what never comes a moment, and let it have taken all of its time."""
        clock = self

        class Passing:
            async def __aenter__(self):
                self._inner = _timeout(0.01)
                await self._inner.__aenter__()

            async def __aexit__(self, *error):
                if error[0] is asyncio.CancelledError:
                    clock.now += seconds
                return await self._inner.__aexit__(*error)

        return Passing()


@pytest.fixture
def time(monkeypatch):
    return Time(monkeypatch)


@pytest.fixture
def server():
    return Server()


def an_elector(server, time, identity="a"):
    right = Leadership(time)
    return LeaseElector(server, LeaseName("tunnels", "operator", identity), right, time), right


async def keep_until(elector, condition):
    keeping = asyncio.create_task(elector.keep())
    async with asyncio.TaskGroup() as group:

        async def until():
            while not condition() and not keeping.done():  # noqa: ASYNC110 - it is any condition
                await asyncio.sleep(0)

        group.create_task(until())
    keeping.cancel()
    return (await asyncio.gather(keeping, return_exceptions=True))[0]


async def test_a_renewal_is_one_request(server, time):
    elector, right = an_elector(server, time)
    await elector.acquire()
    assert server.asked == ["GET", "POST"]
    await keep_until(elector, lambda: len(server.asked) >= 8)
    assert set(server.asked[2:]) == {"PUT"}
    assert right.is_held()


async def test_one_renewal_that_is_not_answered_is_made_up_for_in_time(server, time):
    elector, right = an_elector(server, time)
    await elector.acquire()
    await keep_until(elector, lambda: len(server.asked) >= 4)
    for has_effect in (True, False):
        server.has_effect, server.lost = has_effect, 1
        before = len(server.asked)
        error = await keep_until(elector, lambda: len(server.asked) >= before + 4)  # noqa: B023
        assert isinstance(error, asyncio.CancelledError)
        assert right.is_held()
        assert server.holder == "a"


async def test_who_hears_nothing_for_long_stops(server, time):
    elector, right = an_elector(server, time)
    await elector.acquire()
    server.lost = 100
    error = await keep_until(elector, lambda: False)
    assert isinstance(error, LeaseLostError)
    assert not right.is_held()


async def test_another_takes_over_only_what_has_not_changed_for_its_time(server, time):
    elector, _ = an_elector(server, time, "a")
    await elector.acquire()
    other, right = an_elector(server, time, "b")
    began = time.now
    await other.acquire()
    assert server.holder == "b"
    assert right.is_held()
    assert 10 <= time.now - began <= 12
    # The first finds out by the version, whatever it remembers.
    error = await keep_until(elector, lambda: False)
    assert isinstance(error, LeaseLostError)
    assert server.holder == "b"


async def test_a_refusal_is_no_answer(server, time):
    elector, right = an_elector(server, time)

    async def refuse(*_, **__):
        raise Retryable(Reason.UNAUTHORIZED, "forbidden")

    await elector.acquire()
    server.request = refuse
    assert isinstance(await keep_until(elector, lambda: False), LeaseLostError)
    assert not right.is_held()
