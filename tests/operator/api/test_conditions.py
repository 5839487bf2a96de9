from datetime import timedelta

from support.tunnels import NOON
from tunnel_operator.api.conditions import Finding, merge
from tunnel_operator.api.reasons import ConditionType, Reason

LATER = NOON + timedelta(minutes=1)


def finding(status, reason=Reason.OPENING, message=""):
    return Finding(type=ConditionType.READY, status=status, reason=reason, message=message)


def test_the_time_moves_with_the_status_alone():
    [first] = merge((), [finding("False")], generation=1, now=NOON)
    [same] = merge([first], [finding("False", Reason.THROTTLED, "x")], generation=2, now=LATER)
    [turned] = merge([same], [finding("True", Reason.OPEN)], generation=2, now=LATER)
    assert same.last_transition_time == NOON
    assert (same.reason, same.message, same.observed_generation) == ("Throttled", "x", 2)
    assert turned.last_transition_time == LATER


def test_what_is_not_found_any_more_is_left_out():
    [first] = merge((), [finding("True")], generation=1, now=NOON)
    assert merge([first], [], generation=1, now=LATER) == ()
