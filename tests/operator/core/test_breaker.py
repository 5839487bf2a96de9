"""The breaker alone, and whatever a device and its tunnels do to it."""

from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.tunnels import NOON
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.breaker import (
    FIRST_WAIT,
    LONGEST_WAIT,
    LOST_AFTER,
    THRESHOLD,
    Breaker,
    State,
    wait,
)

SECOND = timedelta(seconds=1)


def fail(breaker, now, *, is_probe=False):
    return breaker.failed(now, Reason.DEVICE_SILENT, "silent", is_probe=is_probe)


def opened():
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker = fail(breaker, NOON)
    return breaker


def test_opens_after_failures_in_a_row():
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        breaker = fail(breaker, NOON)
        assert breaker.state(NOON) is State.CLOSED
    assert fail(breaker, NOON).state(NOON) is State.OPEN


def test_lets_one_attempt_through_when_its_time_has_come():
    breaker = opened()
    assert not breaker.may_ask(NOON + FIRST_WAIT - SECOND)
    then = NOON + FIRST_WAIT
    assert breaker.state(then) is State.HALF_OPEN
    assert breaker.may_ask(then)
    assert not breaker.asked(then).may_ask(then)


def test_an_attempt_that_is_lost_does_not_hold_it_for_ever():
    then = NOON + FIRST_WAIT
    breaker = opened().asked(then)
    assert not breaker.may_ask(then + LOST_AFTER - SECOND)
    assert breaker.may_ask(then + LOST_AFTER)


def test_failures_that_were_under_way_when_it_opened_do_not_lengthen_its_wait():
    breaker = opened()
    assert fail(breaker, NOON + SECOND) == breaker


@pytest.mark.parametrize(("failures", "seconds"), [(5, 15), (6, 30), (7, 60), (8, 120), (99, 120)])
def test_waits_longer_with_each_failure_up_to_a_bound(failures, seconds):
    assert wait(failures) == timedelta(seconds=seconds)


class Device(RuleBasedStateMachine):
    """Attempts of several tunnels, side by side, at a device that works or does not."""

    def __init__(self):
        super().__init__()
        self.now = NOON
        self.breaker = Breaker()
        self.attempts = []
        self.works = False

    @rule(seconds=st.integers(0, 200))
    def time_passes(self, seconds):
        self.now += seconds * SECOND
        # Every call has a deadline.
        self.attempts = [a for a in self.attempts if self.now < a[0] + LOST_AFTER / 2]
        if not any(is_probe for _, is_probe in self.attempts) and self.breaker.probed_at:
            self.breaker = self.breaker.unsettled()

    @rule(works=st.booleans())
    def device_changes(self, works):
        self.works = works

    @rule()
    def a_tunnel_asks(self):
        if not self.breaker.may_ask(self.now):
            return
        is_probe = self.breaker.state(self.now) is State.HALF_OPEN
        self.breaker = self.breaker.asked(self.now)
        self.attempts.append((self.now, is_probe))

    @precondition(lambda self: self.attempts)
    @rule(index=st.integers(0, 50))
    def an_attempt_ends(self, index):
        _, is_probe = self.attempts.pop(index % len(self.attempts))
        before = self.breaker
        self.breaker = Breaker() if self.works else fail(before, self.now, is_probe=is_probe)
        if self.works:
            assert self.breaker.may_ask(self.now)
        elif before.until is not None and is_probe:
            assert self.breaker.state(self.now) is State.OPEN

    @invariant()
    def at_most_one_attempt_is_under_way_once_it_has_opened(self):
        if self.breaker.until is not None:
            assert sum(is_probe for _, is_probe in self.attempts) <= 1

    @invariant()
    def it_is_never_open_for_longer_than_the_bound(self):
        if self.breaker.until is not None:
            assert self.breaker.until <= self.now + LONGEST_WAIT
            assert self.breaker.failures >= THRESHOLD

    @invariant()
    def it_asks_again_in_the_end(self):
        assert self.breaker.may_ask(self.now + LONGEST_WAIT + LOST_AFTER)


TestDevice = Device.TestCase
