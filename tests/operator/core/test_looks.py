from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tunnels import NOON, a_class, a_tunnel
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import DeviceStatus
from tunnel_operator.core import looks
from tunnel_operator.core.looks import (
    JUST_NOW,
    LISTENER_LAG,
    LOOK_AGAIN,
    POLL,
    RULES_AGAIN,
    Look,
    Signs,
    needs_rules,
)
from tunnel_operator.core.observed import (
    Child,
    DeviceAnswer,
    Failure,
    HybridConnection,
    NoHybridConnection,
    Step,
)

SECOND = timedelta(seconds=1)
THERE = HybridConnection("hc", 0, "uid", None)


def look(at=NOON, rules_at=NOON, found=THERE):
    return Look(found, at, rules_at)


def is_due(tunnel, look, signs, now):
    return looks.is_due(tunnel, a_class().spec, look, signs, now)


def pod(*, is_ready):
    conditions = [{"type": "Ready", "status": "True" if is_ready else "False"}]
    return Child({"metadata": {}, "status": {"conditions": conditions}})


def a_tunnel_that_is(status):
    condition = {
        "type": "Ready",
        "status": status,
        "reason": "Open",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    return a_tunnel(status={"conditions": [condition]})


NOTHING = Signs()
WORKS, FAILS = Signs(pod(is_ready=True)), Signs(pod(is_ready=False))
OPEN, OPENING = a_tunnel_that_is("True"), a_tunnel_that_is("False")


def test_without_a_look_one_is_due():
    assert is_due(OPEN, None, WORKS, NOON)


def test_an_open_tunnel_with_a_ready_forwarder_is_looked_at_seldom():
    assert not is_due(OPEN, look(), WORKS, NOON + POLL - SECOND)
    assert is_due(OPEN, look(), WORKS, NOON + POLL)


def test_one_that_opens_is_looked_at_more_often():
    assert not is_due(OPENING, look(), NOTHING, NOON + LOOK_AGAIN - SECOND)
    assert is_due(OPENING, look(), NOTHING, NOON + LOOK_AGAIN)


def test_a_forwarder_that_is_ready_no_longer_makes_a_look_due():
    assert not is_due(OPEN, look(), FAILS, NOON + SECOND)
    assert is_due(OPEN, look(), FAILS, NOON + JUST_NOW)


def test_a_listener_is_not_missed_before_azure_may_count_it():
    answer = DeviceAnswer(DeviceStatus(revision="1"), NOON)
    counted = NOON + LISTENER_LAG
    assert is_due(OPENING, look(counted - SECOND), Signs(answer=answer), counted)
    assert not is_due(OPENING, look(counted), Signs(answer=answer), counted + SECOND)


@pytest.mark.parametrize(
    ("naming", "policy", "is_lasting"),
    [
        ("Tunnel", "Delete", True),
        # Somebody else makes it, or it was kept for the next Tunnel of the name.
        ("Device", "Delete", False),
        ("Tunnel", "Retain", False),
    ],
)
def test_what_only_we_make_is_taken_to_be_missing_until_we_make_it(naming, policy, is_lasting):
    klass = a_class(hybridConnectionNaming=naming, deletionPolicy=policy).spec
    seen = look(found=NoHybridConnection.ABSENT)
    due = NOON + (POLL if is_lasting else LOOK_AGAIN)
    assert not looks.is_due(OPENING, klass, seen, NOTHING, due - SECOND)
    assert looks.is_due(OPENING, klass, seen, NOTHING, due)


@given(st.integers(0, 10_000))
def test_a_look_that_is_due_stays_due(seconds):
    for tunnel in (OPEN, OPENING):
        for signs in (NOTHING, FAILS, WORKS):
            now = NOON + seconds * SECOND
            if is_due(tunnel, look(), signs, now):
                assert is_due(tunnel, look(), signs, now + SECOND)


def test_rules_are_looked_at_unless_the_tunnel_works():
    assert needs_rules(OPENING, look(), WORKS, NOON)
    assert needs_rules(OPEN, look(), FAILS, NOON)
    assert not needs_rules(OPEN, look(), WORKS, NOON)
    assert not needs_rules(OPEN, None, WORKS, NOON)


def test_rules_are_looked_at_once_in_a_while_even_so():
    assert not needs_rules(OPEN, look(), WORKS, NOON + RULES_AGAIN / 2 - SECOND)
    assert needs_rules(OPEN, look(), WORKS, NOON + RULES_AGAIN)


def test_a_device_that_can_not_be_told_is_no_reason_to_look():
    failure = Failure(Reason.DEVICE_OFFLINE, "", attempts=1, retry_at=NOON)
    signs = Signs(failures={Step.DEVICE: failure})
    assert not is_due(OPENING, look(), signs, NOON + POLL - SECOND)
    assert is_due(OPENING, look(), signs, NOON + POLL)
    assert not needs_rules(OPENING, look(), signs, NOON + POLL)
    # Nothing has been found yet, or it is not so any more.
    assert needs_rules(OPENING, None, signs, NOON)
