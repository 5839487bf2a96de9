import asyncio

import pytest

from support.clock import Time
from tunnel_operator.adapters.lanes import KEPT_SECONDS, LONGEST_SECONDS, Lane
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import Postponed


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def lane(time):
    return Lane(2, time)


def call(lane, who):
    """Begin a call; return what ends it."""
    ended = asyncio.get_running_loop().create_future()
    with lane.slot(who, Reason.OPENING, "Waiting") as slot:
        slot.call = ended
    return ended


def postponed(lane, who):
    with pytest.raises(Postponed) as raised:
        call(lane, who)
    return raised.value


async def end(call):
    call.set_result(None)
    await asyncio.sleep(0)


async def test_who_finds_no_slot_is_sent_away_at_once_and_keeps_its_place(lane):
    first, _ = call(lane, "a"), call(lane, "b")
    error = postponed(lane, "c")
    assert (error.message, error.reason) == ("Waiting, 0 ahead, about 1 s.", Reason.OPENING)
    assert error.retry_after.total_seconds() == 1
    assert "1 ahead" in postponed(lane, "d").message
    assert len(lane) == 2
    await end(first)
    postponed(lane, "d")
    call(lane, "c")
    assert "0 ahead" in postponed(lane, "d").message
    assert len(lane) == 1


async def test_a_slot_is_taken_as_long_as_its_call_goes_on(lane):
    first = call(lane, "a")
    call(lane, "b")
    # Nobody waits for either any more; their threads go on.
    postponed(lane, "c")
    await end(first)
    call(lane, "c")


async def test_what_ends_before_its_call_leaves_the_slot(lane):
    for _ in range(3):
        with pytest.raises(KeyError), lane.slot("a", Reason.OPENING, "Waiting"):
            raise KeyError
    call(lane, "a")
    call(lane, "b")


async def test_who_does_not_come_back_holds_nobody_up(lane, time):
    first, _ = call(lane, "a"), call(lane, "b")
    gone = postponed(lane, "gone").retry_after.total_seconds()
    await end(first)
    postponed(lane, "c")
    time.now += gone + KEPT_SECONDS + 1
    call(lane, "c")


async def test_what_is_said_of_the_wait_follows_how_long_calls_take(lane, time):
    for _ in range(50):
        one = call(lane, "a")
        time.now += 40
        await end(one)
    call(lane, "a")
    call(lane, "b")
    waits = [postponed(lane, f"c{number}") for number in range(20)]
    assert "19 ahead, about 400 s" in waits[-1].message
    assert waits[-1].retry_after.total_seconds() == LONGEST_SECONDS
