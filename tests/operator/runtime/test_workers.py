import asyncio
from datetime import timedelta

import pytest

from support.tunnels import NOON
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import Retryable, Terminal
from tunnel_operator.runtime.leadership import NotLeadingError
from tunnel_operator.runtime.workers import Workers
from tunnel_operator.runtime.workqueue import WorkQueue

A, B = Key("n", "a"), Key("n", "b")


async def at_once():
    """Prepare nothing."""


class Stand:
    """Workers over a queue, with passes that the test decides about."""

    def __init__(self):
        self.now = NOON
        self.outcomes = []
        self.visits = []
        self.answers = {}
        self.gate = asyncio.Event()
        self.gate.set()
        loop = asyncio.get_running_loop()
        # A hundred times as fast as the clock: a failed pass comes again after a second.
        self.queue = WorkQueue(lambda seconds, wake: loop.call_later(seconds / 100, wake))
        self.workers = Workers(
            self.queue,
            self.reconcile,
            count=2,
            clock=lambda: self.now,
            observe=lambda outcome, _: self.outcomes.append(outcome),
        )

    async def reconcile(self, key):
        self.visits.append(key)
        await self.gate.wait()
        answer = self.answers.get(key)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                # What changes it runs in this same loop: giving way is all that there is to wait for.
                await asyncio.sleep(0)


@pytest.fixture
async def stand():
    stand = Stand()
    running = asyncio.create_task(stand.workers.run(at_once))
    yield stand
    stand.gate.set()
    await stand.workers.drain(timedelta(seconds=5))
    await running


async def test_a_fault_in_one_pass_does_not_end_the_work(stand):
    stand.answers[A] = ZeroDivisionError()
    stand.queue.add(A)
    stand.queue.add(B)
    await stand.until(lambda: len(stand.outcomes) == 2)
    assert sorted(stand.outcomes) == ["crashed", "done"]


async def test_a_failed_pass_comes_again_no_sooner_than_the_failure_says(stand):
    long = timedelta(minutes=5)
    stand.answers[A] = Terminal(Reason.REJECTED, "unreadable", retry_after=long)
    stand.answers[B] = Retryable(Reason.UNAVAILABLE, "no API")
    stand.queue.add(A)
    stand.queue.add(B)
    await stand.until(lambda: stand.visits.count(B) == 3)
    assert stand.visits.count(A) == 1


async def test_a_failed_pass_comes_again(stand):
    stand.answers[A] = Retryable(Reason.UNAVAILABLE, "no API")
    stand.queue.add(A)
    await stand.until(lambda: stand.visits.count(A) == 2)
    assert stand.outcomes[0] == "failed"


async def test_a_pass_that_was_fenced_comes_again_in_case_the_lead_comes_back(stand):
    stand.answers[A] = ExceptionGroup("branches", [NotLeadingError()])
    stand.queue.add(A)
    await stand.until(lambda: stand.visits.count(A) == 2)
    assert stand.outcomes[0] == "fenced"


async def test_comes_back_when_the_pass_asked_for_it(stand):
    stand.answers[A] = NOON + timedelta(milliseconds=5)
    stand.queue.add(A)
    await stand.until(lambda: stand.visits.count(A) == 2)


@pytest.mark.parametrize("is_prepared", [True, False])
async def test_no_pass_begins_before_all_is_prepared_and_draining_waits_for_nothing(
    stand, is_prepared
):
    prepared, visits = asyncio.Event(), []

    async def reconcile(key):
        visits.append((key, prepared.is_set()))

    queue = WorkQueue(asyncio.get_running_loop().call_later)
    workers = Workers(queue, reconcile, count=1, clock=lambda: NOON, observe=lambda *_: None)
    running = asyncio.create_task(workers.run(prepared.wait))
    queue.add(A)
    if is_prepared:
        prepared.set()
        await stand.until(lambda: visits)
    await workers.drain(timedelta(milliseconds=1))
    await asyncio.wait_for(running, 5)
    assert visits == ([(A, True)] if is_prepared else [])


async def test_a_pass_that_hangs_is_noticed(stand):
    stand.gate.clear()
    stand.queue.add(A)
    await stand.until(lambda: stand.visits == [A])
    assert not stand.workers.is_stuck()
    stand.now += timedelta(minutes=6)
    assert stand.workers.is_stuck()


async def test_draining_lets_a_pass_end_and_begins_no_other(stand):
    stand.gate.clear()
    stand.queue.add(A)
    await stand.until(lambda: stand.visits == [A])
    draining = asyncio.create_task(stand.workers.drain(timedelta(seconds=5)))
    await asyncio.sleep(0)
    stand.queue.add(B)
    stand.gate.set()
    await draining
    assert stand.outcomes == ["done"]
    assert stand.visits == [A]


async def test_draining_does_not_wait_for_ever(stand):
    stand.gate.clear()
    stand.queue.add(A)
    await stand.until(lambda: stand.visits == [A])
    await stand.workers.drain(timedelta(milliseconds=1))


async def test_workers_end_although_a_pass_makes_a_failure_of_the_call_to(stand):
    async def fenced_when_called_off(_key):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ExceptionGroup("branches", [NotLeadingError()]) from None

    queue = WorkQueue(asyncio.get_running_loop().call_later)
    workers = Workers(
        queue,
        fenced_when_called_off,
        count=2,
        clock=lambda: NOON,
        observe=lambda outcome, _: stand.outcomes.append(outcome),
    )
    running = asyncio.create_task(workers.run(at_once))
    queue.add(A)
    await stand.until(lambda: queue.active == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    assert stand.outcomes == ["fenced"]
