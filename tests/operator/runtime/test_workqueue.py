import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tunnel_operator.runtime.workqueue import WorkQueue


class Schedule:
    """A scheduler whose clock is moved by hand."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, delay, callback):
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        self.now += seconds
        due = [t for t in self.timers if t.at <= self.now and not t.cancelled]
        self.timers = [t for t in self.timers if t.at > self.now and not t.cancelled]
        for timer in sorted(due, key=lambda t: t.at):
            if not timer.cancelled:
                timer.callback()


class Timer:
    def __init__(self, at, callback):
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self):
        self.cancelled = True

    def when(self):
        return self.at


@pytest.fixture
def schedule():
    return Schedule()


@pytest.fixture
def queue(schedule):
    return WorkQueue(schedule.call_later)


def test_a_key_is_queued_once(queue):
    queue.add("a")
    queue.add("a")
    assert queue.get_nowait() == "a"
    assert queue.get_nowait() is None


def test_a_key_that_is_added_during_work_comes_again_after_it(queue):
    queue.add("a")
    queue.get_nowait()
    queue.add("a")
    assert queue.get_nowait() is None
    queue.done("a")
    assert queue.get_nowait() == "a"


def test_the_earliest_delay_wins(queue, schedule):
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 20)
    schedule.advance(2)
    assert queue.get_nowait() == "a"
    queue.done("a")
    schedule.advance(100)
    assert queue.get_nowait() is None


def test_being_due_now_calls_a_delay_off(queue, schedule):
    queue.add_after("a", 10)
    queue.add("a")
    assert queue.get_nowait() == "a"
    queue.done("a")
    schedule.advance(100)
    assert queue.get_nowait() is None


def test_a_closed_queue_hands_nothing_out(queue, schedule):
    queue.add("a")
    queue.add_after("b", 1)
    queue.close()
    schedule.advance(2)
    assert queue.get_nowait() is None


async def test_get_waits_for_a_key():
    queue = WorkQueue(asyncio.get_running_loop().call_later)
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await getting == "a"


async def test_idle_waits_for_the_work_to_end():
    queue = WorkQueue(asyncio.get_running_loop().call_later)
    await queue.idle()
    queue.add("a")
    await queue.get()
    idle = asyncio.create_task(queue.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    queue.done("a")
    await idle


class QueueMachine(RuleBasedStateMachine):
    """No key is active twice, and none that was added is forgotten."""

    keys = st.sampled_from("abc")

    def __init__(self):
        super().__init__()
        self.schedule = Schedule()
        self.queue = WorkQueue(self.schedule.call_later)
        self.owed = {}
        self.active = set()

    def owe(self, key, at):
        self.owed[key] = min(at, self.owed.get(key, at))

    @rule(key=keys)
    def add(self, key):
        self.queue.add(key)
        self.owe(key, self.schedule.now)

    @rule(key=keys, delay=st.integers(0, 5))
    def add_after(self, key, delay):
        self.queue.add_after(key, delay)
        self.owe(key, self.schedule.now + delay)

    @rule(seconds=st.integers(0, 5))
    def advance(self, seconds):
        self.schedule.advance(seconds)

    @rule()
    def get(self):
        key = self.queue.get_nowait()
        self.schedule.advance(0)
        due = {k for k, at in self.owed.items() if at <= self.schedule.now} - self.active
        if key is None:
            assert not due
        else:
            assert key not in self.active
            assert self.owed.pop(key) <= self.schedule.now
            self.active.add(key)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def done(self, data):
        key = data.draw(st.sampled_from(sorted(self.active)))
        self.active.remove(key)
        self.queue.done(key)

    @invariant()
    def knows_what_is_active(self):
        self.schedule.advance(0)
        assert self.queue.active == len(self.active)


TestQueueMachine = QueueMachine.TestCase
