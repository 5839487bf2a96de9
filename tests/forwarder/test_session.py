"""Lifetimes and totals, with clocks of the tests' own."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.clock import Clock
from tunnel_forwarder.lifetime import EndReason, Lifetime
from tunnel_forwarder.session import MESSAGE_LIMIT, Session

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Time:
    def __init__(self):
        self.passed = 0.0

    def clock(self):
        return Clock(lambda: NOON + timedelta(seconds=self.passed), lambda: 1000 + self.passed)


@pytest.mark.parametrize(
    ("seconds", "idle_for", "reason", "left"),
    [
        (0, 0, None, 10),
        (9.9, 0, None, 0.1),
        (10, 0, EndReason.EXPIRED, 0),
        (11, 9, EndReason.EXPIRED, 0),
        (5, 2, None, 1),
        (5, 3, EndReason.IDLE, 0),
    ],
)
def test_whichever_comes_first_ends_it(seconds, idle_for, reason, left):
    lifetime = Lifetime(NOON + timedelta(seconds=10), idle_seconds=3 if idle_for else 0)
    now = NOON + timedelta(seconds=seconds)
    assert lifetime.end(now, idle_for) is reason
    assert lifetime.seconds_left(now, idle_for) == pytest.approx(left)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_it_ends_exactly_when_nothing_is_left(passed, idle_for, ttl, idle_seconds):
    lifetime = Lifetime(NOON + timedelta(seconds=ttl), idle_seconds)
    now = NOON + timedelta(seconds=passed)
    assert (lifetime.end(now, idle_for) is None) == (lifetime.seconds_left(now, idle_for) > 0)


def test_a_fresh_start_counts_as_activity():
    time = Time()
    session = Session(time.clock())
    time.passed = 5
    assert session.idle_for == 5
    session.touch()
    time.passed = 7
    assert session.idle_for == 2


def test_the_message_holds_the_totals():
    time = Time()
    session = Session(time.clock())
    time.passed = 60
    session.touch()
    time.passed = 90
    session.touch()
    time.passed = 300
    assert json.loads(session.termination_message(EndReason.IDLE)) == {
        "reason": "Idle",
        "connections": 0,
        "bytesIn": 0,
        "bytesOut": 0,
        "firstActivity": "2026-11-24T12:01:00Z",
        "lastActivity": "2026-11-24T12:01:30Z",
    }


@given(st.text())
def test_the_message_fits_whatever_went_wrong(sentence):
    text = Session(Time().clock()).termination_message(EndReason.FAILED, sentence * 3000)
    assert len(text.encode()) <= MESSAGE_LIMIT
    assert json.loads(text)["reason"] == "Failed"
