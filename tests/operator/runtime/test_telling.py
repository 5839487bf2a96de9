from collections import Counter
from datetime import timedelta

from support.tunnels import NOON, a_tunnel
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.notices import Notice, Severity
from tunnel_operator.runtime.telling import MOST, WITHIN, MeasuredEvents

SECOND = timedelta(seconds=1)


class Stand:
    def __init__(self):
        self.now = NOON
        self.told = []
        self.events = MeasuredEvents(self, lambda: self.now)

    async def record(self, tunnel, notice):
        self.told.append((tunnel.metadata.uid, notice.reason))

    async def tell(self, reason, uid="one"):
        notice = Notice(Severity.NORMAL, reason, "Open", "words")
        await self.events.record(a_tunnel(uid=uid), notice)


async def test_of_a_tunnel_that_comes_and_goes_people_are_told_some_times_only():
    stand = Stand()
    for _ in range(20):
        for reason in (Reason.OPEN, Reason.DEVICE_OFFLINE):
            stand.now += SECOND
            await stand.tell(reason)
    assert Counter(reason for _, reason in stand.told) == {
        Reason.OPEN: MOST,
        Reason.DEVICE_OFFLINE: MOST,
    }
    await stand.tell(Reason.OPEN, uid="a later namesake")
    assert stand.told[-1] == ("a later namesake", Reason.OPEN)


async def test_what_was_told_a_while_ago_is_told_again_and_remembered_no_longer():
    stand = Stand()
    for number in range(1000):
        await stand.tell(Reason.OPEN, uid=str(number))
    for _ in range(MOST + 1):
        await stand.tell(Reason.OPEN)
    assert len(stand.told) == 1000 + MOST
    stand.now += WITHIN
    await stand.tell(Reason.OPEN)
    assert len(stand.told) == 1000 + MOST + 1
    assert len(stand.events._told) == len(stand.events._counts) == 1
