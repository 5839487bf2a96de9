import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_operator.adapters.budget import HELD_SECONDS, KEPT_SECONDS, PATIENCE_SECONDS, Budget
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import Postponed


class Time:
    def __init__(self):
        self.now = 0.0
        self.waits = []

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def budget(time, rate=10.0, burst=20):
    return Budget("ARM", rate=rate, burst=burst, monotonic=time.monotonic, sleep=time.sleep)


async def postponed(calls, who, count=1):
    with pytest.raises(Postponed) as raised:
        await calls.take(who, count)
    return raised.value


async def test_a_burst_is_free_and_then_there_is_a_rate(time):
    calls = budget(time)
    await calls.take("a", 20)
    assert time.waits == []
    await calls.take("b")
    await calls.take("c")
    assert time.waits == [pytest.approx(0.1), pytest.approx(0.1)]


async def test_time_refills_up_to_the_burst(time):
    calls = budget(time)
    await calls.take("a", 20)
    time.now = 1000.0
    await calls.take("a", 20)
    assert time.waits == []
    await calls.take("a")
    assert time.waits == [pytest.approx(0.1)]


async def test_a_long_wait_is_given_back_with_its_place_in_the_line(time):
    calls = budget(time, rate=1.0, burst=4)
    await calls.take("a", 4)
    assert (await postponed(calls, "b", 4)).message == (
        "Waiting for ARM's budget, 0 ahead, about 4 s."
    )
    error = await postponed(calls, "c", 4)
    assert error.message == "Waiting for ARM's budget, 1 ahead, about 8 s."
    assert error.reason is Reason.OPENING
    assert error.retry_after.total_seconds() == 8
    assert len(calls) == 2
    # Who asks again is not put behind.
    await postponed(calls, "d", 4)
    assert "1 ahead" in (await postponed(calls, "c", 4)).message
    time.now = 8.0
    await calls.take("c", 4)
    await calls.take("b", 4)
    assert "0 ahead, about 4 s" in (await postponed(calls, "d", 4)).message


async def test_what_is_said_of_a_very_long_wait_is_renewed_in_time(time):
    calls = budget(time, rate=1.0, burst=4)
    await calls.take("a", 4)
    for number in range(99):
        await postponed(calls, f"b{number}", 4)
    assert (await postponed(calls, "c", 4)).retry_after.total_seconds() == 200


async def test_what_is_taken_ahead_needs_no_other_place_in_the_line(time):
    calls = budget(time, rate=1.0, burst=6)
    await calls.take("a", 1, ahead=5)
    await postponed(calls, "b", 6)
    await calls.take("a", 3)
    await asyncio.gather(calls.take("a"), calls.take("a"))
    assert time.waits == []


async def test_what_is_taken_ahead_and_not_used_goes_to_the_next(time):
    calls = budget(time, rate=0.01, burst=6)
    await calls.take("a", 1, ahead=5)
    await postponed(calls, "b", 5)
    time.now += KEPT_SECONDS
    await calls.take("b", 5)
    assert time.waits == []


async def test_a_turn_that_nobody_comes_for_is_not_lost(time):
    calls = budget(time, rate=1.0, burst=4)
    await calls.take("a", 4)
    await postponed(calls, "gone", 4)
    time.now = 4.0
    await postponed(calls, "b", 4)
    assert len(calls) == 1
    time.now += KEPT_SECONDS
    await calls.take("b", 4)
    await calls.take("c", 4)
    assert sum(time.waits) <= PATIENCE_SECONDS + 1


async def test_who_is_called_off_leaves_the_line():
    calls = Budget("ARM", rate=1.0, burst=1, monotonic=lambda: 0.0)
    await calls.take("a")
    waiting = asyncio.create_task(calls.take("b"))
    await asyncio.sleep(0)
    assert len(calls) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(calls) == 0


async def test_who_is_asked_to_wait_waits_for_all(time):
    calls = budget(time, rate=1.0, burst=20)
    await calls.take("a", 10, ahead=2)
    await postponed(calls, "b", 20)
    calls.hold(timedelta(seconds=30))
    calls.hold(timedelta(seconds=10))
    # Neither what is in line, nor what is new, nor what was taken ahead.
    assert (await postponed(calls, "b", 20)).message.endswith("0 ahead, about 50 s.")
    assert (await postponed(calls, "c")).message.endswith("1 ahead, about 51 s.")
    assert (await postponed(calls, "a", 2)).retry_after.total_seconds() == 15
    time.now = 29.0
    await calls.take("a", 2)
    assert time.now == 30.0
    # The burst is gone with it.
    assert (await postponed(calls, "b", 20)).message.endswith("0 ahead, about 20 s.")


async def test_nobody_is_made_to_wait_for_very_long(time):
    calls = budget(time)
    calls.hold(timedelta(hours=1))
    time.now = HELD_SECONDS
    await calls.take("a")
    assert time.waits == [pytest.approx(0.1)]


async def test_what_is_kept_is_not_lost_in_a_long_wait(time):
    calls = budget(time, rate=1.0, burst=6)
    await calls.take("a", 1, ahead=5)
    calls.hold(timedelta(seconds=KEPT_SECONDS + 30))
    time.now = KEPT_SECONDS + 30
    await calls.take("a", 5)
    assert time.waits == []


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3), st.integers(0, 5)), max_size=60))
async def test_never_more_than_burst_and_rate_allow(asks):
    time = Time()
    calls = budget(time, rate=2.0, burst=4)
    allowed = []
    for gap, count, who in asks:
        time.now += gap
        try:
            await calls.take(f"{who} {count}", count)
        except Postponed:
            continue
        allowed.append((time.now, count))
    for at, _ in allowed:
        spent = sum(count for when, count in allowed if when <= at)
        assert spent <= 4 + 2.0 * at + 1e-6
