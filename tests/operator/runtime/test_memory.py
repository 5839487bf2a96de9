from datetime import timedelta

import pytest

from support.tunnels import NOON
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.observed import Kind, Step
from tunnel_operator.errors import Postponed, Retryable, Terminal
from tunnel_operator.runtime.memory import Memory

KEY = Key("imaging", "mri-7")
OFFLINE = Retryable(Reason.DEVICE_OFFLINE, "offline")


@pytest.fixture
def memory():
    return Memory(lambda: 0.0)


def test_waits_longer_with_each_failure_up_to_a_bound(memory):
    waits = [
        (memory.fail(KEY, Step.DEVICE, OFFLINE, NOON).retry_at - NOON).total_seconds()
        for _ in range(8)
    ]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_success_begins_the_count_again(memory):
    memory.fail(KEY, Step.DEVICE, OFFLINE, NOON)
    memory.fail(KEY, Step.DEVICE, OFFLINE, NOON)
    memory.succeed(KEY, Step.DEVICE)
    assert memory.fail(KEY, Step.DEVICE, OFFLINE, NOON).attempts == 1


def test_obeys_what_the_other_side_asked_for(memory):
    error = Retryable(Reason.THROTTLED, "busy", retry_after=timedelta(minutes=2))
    failure = memory.fail(KEY, Step.DEVICE, error, NOON)
    assert failure.retry_at == NOON + timedelta(minutes=2)


def test_what_needs_a_person_waits_long(memory):
    failure = memory.fail(KEY, Step.DEVICE, Terminal(Reason.DEVICE_REFUSED, "no"), NOON)
    assert failure.is_terminal
    assert failure.retry_at == NOON + timedelta(minutes=5)


def test_a_change_of_spec_or_class_forgets_failures(memory):
    assert memory.failures(KEY, (1, 1)) == {}
    memory.fail(KEY, Step.DEVICE, OFFLINE, NOON)
    assert Step.DEVICE in memory.failures(KEY, (1, 1))
    assert memory.failures(KEY, (1, 2)) == {}


def test_steps_fail_apart(memory):
    memory.fail(KEY, Step.DEVICE, OFFLINE, NOON)
    assert memory.failure(KEY, Step.HYBRID_CONNECTION) is None
    memory.forget(KEY)
    assert memory.failure(KEY, Step.DEVICE) is None


def test_what_was_not_tried_is_no_failed_attempt(memory):
    memory.fail(KEY, Step.DEVICE, OFFLINE, NOON)
    postponed = Postponed(Reason.DEVICE_OFFLINE, "later", retry_after=timedelta(seconds=50))
    failure = memory.fail(KEY, Step.DEVICE, postponed, NOON)
    assert (failure.attempts, failure.retry_at) == (1, NOON + timedelta(seconds=50))


def test_what_does_not_come_to_rest_is_tried_later_each_time_and_at_once_when_something_changes(
    memory,
):
    waits = [memory.hold(KEY, Kind.SERVICE, NOON) - NOON for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[0] == timedelta(seconds=1)
    assert waits[-1] == timedelta(minutes=5)
    assert [memory.unsettled(KEY, NOON) - NOON for _ in range(12)] == waits
    memory.release(KEY, Kind.SERVICE)
    memory.settled(KEY)
    assert memory.held(KEY) == {}
    assert memory.hold(KEY, Kind.SERVICE, NOON) - NOON == waits[0]
    assert memory.unsettled(KEY, NOON) - NOON == waits[0]
    memory.failures(KEY, (1, 2))
    assert memory.held(KEY) == {}
