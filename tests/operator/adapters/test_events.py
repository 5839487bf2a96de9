from datetime import timedelta

import pytest

from support.tunnels import NOON, a_tunnel
from tunnel_operator.adapters.events import MAX_NOTE, KubeEvents
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.notices import expiry
from tunnel_operator.errors import ConflictError, Retryable

AWAY = Retryable(Reason.UNAVAILABLE, "The Kubernetes API can not be reached: TimeoutError.")
FORBIDDEN = Retryable(
    Reason.UNAUTHORIZED, "The Kubernetes API answered 403: it is being terminated"
)


class Api:
    """Keeps Events. Of each failure it is given it says whether the request had got through before."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.events = {}
        self.requests = 0

    async def request(self, method, path, *, body):
        assert (method, path) == ("POST", "/apis/events.k8s.io/v1/namespaces/imaging/events")
        self.requests += 1
        error, has_effect = self.failures.pop(0) if self.failures else (None, True)
        if body["metadata"]["name"] in self.events:
            raise ConflictError(Reason.UNAVAILABLE, "The Kubernetes API answered 409: it exists")
        if has_effect:
            self.events[body["metadata"]["name"]] = body
        if error is not None:
            raise error


async def record(api):
    events = KubeEvents(api, instance="operator-1", clock=lambda: NOON)
    await events.record(a_tunnel(), expiry(NOON + timedelta(minutes=5)))


async def test_tells_who_it_is_about_when_and_why():
    api = Api()
    await record(api)
    [event] = api.events.values()
    assert event["eventTime"] == "2026-03-01T12:00:00.000000Z"
    assert (event["reason"], event["type"]) == ("ExpiresSoon", "Warning")
    assert event["regarding"]["name"] == "mri-7"
    assert 0 < len(event["note"]) <= MAX_NOTE


@pytest.mark.parametrize("has_effect", [False, True])
async def test_what_no_answer_came_to_is_told_again_and_once(has_effect):
    api = Api((AWAY, has_effect))
    await record(api)
    assert (len(api.events), api.requests) == (1, 2)


async def test_is_not_tried_for_ever():
    api = Api((AWAY, False), (AWAY, False))
    with pytest.raises(Retryable):
        await record(api)
    assert api.requests == 2


async def test_what_is_refused_is_not_tried_again():
    api = Api((FORBIDDEN, False))
    with pytest.raises(Retryable):
        await record(api)
    assert api.requests == 1
