import json

import pytest

from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.observed import Child
from tunnel_operator.core.pods import end_of, is_ready, trouble, what_is_read


def pod(status, **metadata):
    # As the cache keeps it: what is left out there is not to be missed here.
    return Child({"metadata": {"uid": "u", **metadata}, "status": what_is_read(status)})


def ended(message, phase="Succeeded"):
    terminated = {"exitCode": 0, "reason": "Completed", "message": message}
    return pod({"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}]})


def test_a_pod_is_ready_when_it_says_so_and_stays():
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert is_ready(pod(ready))
    assert not is_ready(pod(ready, deletionTimestamp="2026-03-01T12:00:00Z"))
    assert not is_ready(pod({}))
    assert not is_ready(None)


def test_the_forwarders_last_words_are_read():
    words = {
        "reason": "Idle",
        "connections": 3,
        "bytesIn": 5,
        "bytesOut": 7,
        "lastActivity": "2026-03-01T12:00:00Z",
    }
    end = end_of(ended(json.dumps(words)))
    assert (end.reason, end.connections, end.bytes_in, end.bytes_out) == ("Idle", 3, 5, 7)
    assert end.last_activity.hour == 12


@pytest.mark.parametrize(
    "message", [None, "", "no JSON", "[]", "{}", '{"reason": "Idle", "bytesIn": "x"}']
)
def test_other_last_words_are_a_failure(message):
    end = end_of(ended(message))
    assert end.reason == "Failed"
    assert end.message == (message or "Completed")


def test_a_pod_that_was_evicted_has_no_containers_to_ask():
    end = end_of(pod({"phase": "Failed", "message": "The node was low on memory."}))
    assert (end.reason, end.message) == ("Failed", "The node was low on memory.")


def test_a_running_pod_has_not_ended():
    assert end_of(pod({"phase": "Running"})) is None
    assert end_of(pod({})) is None


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]},
            Reason.IMAGE_UNAVAILABLE,
            "ErrImagePull",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {
                            "terminated": {"exitCode": 2, "message": "usage\nbad option"}
                        },
                    }
                ]
            },
            Reason.FORWARDER_FAILED,
            "keeps failing: bad option.",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]},
            Reason.STARTING,
            "no room",
        ),
    ],
)
def test_says_what_keeps_it_from_running(status, reason, words):
    found, message = trouble(pod(status))
    assert found is reason
    assert words in message


def test_a_pod_that_just_starts_has_no_trouble():
    assert trouble(pod({"phase": "Pending"})) is None


def test_of_an_ordinary_start_nothing_is_to_be_read_but_that_the_pod_is_ready():
    scheduled = {"type": "PodScheduled", "status": "True"}
    creating = {"waiting": {"reason": "ContainerCreating"}}
    start = [
        {"phase": "Pending"},
        {"phase": "Pending", "conditions": [scheduled]},
        {"phase": "Pending", "containerStatuses": [{"state": creating, "lastState": {}}]},
        {
            "phase": "Running",
            "conditions": [scheduled, {"type": "Ready", "status": "False", "message": "not yet"}],
            "containerStatuses": [{"state": {"running": {}}, "ready": False}],
        },
    ]
    assert [what_is_read(status) for status in start] == [what_is_read({})] * len(start)
    ready = {"conditions": [scheduled, {"type": "Ready", "status": "True"}]}
    assert what_is_read(ready) != what_is_read({})
