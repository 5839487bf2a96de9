import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from support.tunnels import NOON, a_tunnel
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import HybridConnectionStatus, Tunnel
from tunnel_operator.core.actions import AddFinalizer, Plan
from tunnel_operator.core.notices import Notice, Severity
from tunnel_operator.errors import Retryable
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.memory import Memory
from tunnel_operator.runtime.patience import Patience
from tunnel_operator.runtime.reporter import Reporter, Round


class Cluster:
    def __init__(self):
        self.written = []
        self.unchanged = []
        self.error = None
        self.wrote = asyncio.Event()

    async def apply_status(self, tunnel, status, *, only_unchanged):
        self.wrote.set()
        if self.error is not None:
            raise self.error
        self.written.append(status)
        self.unchanged.append(only_unchanged)
        body = tunnel.to_dict() | {"status": status.to_dict()}
        body["metadata"]["resourceVersion"] = "11"
        return Tunnel.from_dict(body)


@pytest.fixture
def cluster():
    return Cluster()


class Events:
    def __init__(self):
        self.told = []

    async def record(self, tunnel, notice):
        self.told.append(notice.reason)


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def reporter(cluster, events):
    leadership = Leadership(lambda: 0.0)
    leadership.grant(1.0)
    memory = Memory(lambda: 0.0)
    return Reporter(cluster, events, memory, leadership, Patience(0.005))


TUNNEL = a_tunnel(status={"openedAt": "2026-03-01T12:00:00Z"})


def plan(*, is_last=False, **changes):
    branches = () if is_last else ((AddFinalizer(),),)
    return Plan(branches, TUNNEL.status.model_copy(update=changes))


MADE = {"hybrid_connection": HybridConnectionStatus(name="hc")}


async def test_what_will_be_overtaken_is_not_written(reporter, cluster):
    await reporter.say(Round(TUNNEL, is_certain=False), plan(**MADE))
    assert cluster.written == []
    await reporter.say(Round(TUNNEL, is_certain=False), plan(is_last=True, **MADE))
    assert len(cluster.written) == 1


async def test_a_record_is_written_before_anything_is_done(reporter, cluster):
    current = Round(TUNNEL, is_certain=False)
    await reporter.say(current, plan(opened_at=NOON + timedelta(hours=1)))
    assert len(cluster.written) == 1
    assert current.newest.metadata.resource_version == "11"


async def test_a_record_is_written_on_nothing_but_what_it_was_decided_from(reporter, cluster):
    record = plan(opened_at=NOON + timedelta(hours=1))
    for is_certain in (False, True):
        await reporter.say(Round(TUNNEL, is_certain=is_certain), record)
    await reporter.say(Round(TUNNEL, is_certain=False), plan(is_last=True, **MADE))
    assert cluster.unchanged == [True, False, False]


async def test_what_takes_its_time_is_said_meanwhile(reporter, cluster):
    done = asyncio.Event()
    saying = asyncio.create_task(
        reporter.meanwhile(Round(TUNNEL, is_certain=False), plan(**MADE), done)
    )
    await asyncio.wait_for(cluster.wrote.wait(), 5)
    await saying
    assert len(cluster.written) == 1


async def test_what_is_done_soon_is_not(reporter, cluster):
    done = asyncio.Event()
    done.set()
    await reporter.meanwhile(Round(TUNNEL, is_certain=False), plan(**MADE), done)
    assert cluster.written == []


async def test_what_can_not_be_said_ends_nothing(reporter, cluster):
    cluster.error = Retryable(Reason.UNAVAILABLE, "no API")
    await reporter.meanwhile(Round(TUNNEL, is_certain=False), plan(**MADE), asyncio.Event())
    assert cluster.written == []


async def test_people_are_told_only_what_has_been_written(reporter, cluster, events):
    notice = Notice(Severity.NORMAL, Reason.OPEN, "Open", "words")
    decision = replace(plan(is_last=True, **MADE), notices=(notice,))
    cluster.error = Retryable(Reason.UNAUTHORIZED, "403")
    for _ in range(3):
        with pytest.raises(Retryable):
            await reporter.say(Round(TUNNEL, is_certain=False), decision)
    assert events.told == []
    cluster.error = None
    await reporter.say(Round(TUNNEL, is_certain=False), decision)
    assert events.told == [Reason.OPEN]


def test_the_newest_of_two_writes_counts_whichever_returns_last():
    older, newer = (
        TUNNEL.model_copy(
            update={"metadata": TUNNEL.metadata.model_copy(update={"resource_version": version})}
        )
        for version in ("20", "21")
    )
    current = Round(TUNNEL, is_certain=False)
    current.keep(newer)
    current.keep(older)
    assert current.newest is newer
    current.keep(None)
    current.keep(newer)
    assert current.newest is None
