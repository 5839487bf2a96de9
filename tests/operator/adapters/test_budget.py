import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_operator.adapters.budget import LONGEST_WAIT_SECONDS, Budget
from tunnel_operator.errors import Retryable


class Time:
    def __init__(self):
        self.now = 0.0
        self.waits = []

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.waits.append(seconds)


def budget(time, rate=10.0, burst=20):
    return Budget("ARM", rate=rate, burst=burst, monotonic=time.monotonic, sleep=time.sleep)


async def test_a_burst_is_free_and_then_there_is_a_rate():
    time = Time()
    calls = budget(time)
    await calls.take(20)
    assert time.waits == []
    await calls.take()
    await calls.take()
    assert time.waits == [pytest.approx(0.1), pytest.approx(0.2)]


async def test_time_refills_up_to_the_burst():
    time = Time()
    calls = budget(time)
    await calls.take(20)
    time.now = 1000.0
    await calls.take(20)
    assert time.waits == []
    await calls.take()
    assert time.waits == [pytest.approx(0.1)]


async def test_a_wait_that_is_too_long_is_refused_and_costs_nothing():
    time = Time()
    calls = budget(time, rate=1.0, burst=1)
    await calls.take(1 + int(LONGEST_WAIT_SECONDS))
    with pytest.raises(Retryable, match="taken by other tunnels"):
        await calls.take()
    time.now = 1.0
    await calls.take()
    assert time.waits[-1] == pytest.approx(LONGEST_WAIT_SECONDS)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3)), max_size=60))
async def test_never_more_than_burst_and_rate_allow(asks):
    time = Time()
    calls = budget(time, rate=2.0, burst=4)
    allowed = []
    for gap, count in asks:
        time.now += gap
        before = len(time.waits)
        await calls.take(count)
        wait = time.waits[-1] if len(time.waits) > before else 0.0
        allowed.append((time.now + wait, count))
    for at, _ in allowed:
        spent = sum(count for when, count in allowed if when <= at)
        assert spent <= 4 + 2.0 * at + 1e-6
