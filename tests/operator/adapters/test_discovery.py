import asyncio

import pytest

from tunnel_operator.adapters import discovery
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import Retryable


class Api:
    """Answers discovery from a script, one entry for each look; the last one stays."""

    def __init__(self, *looks):
        self._looks = list(looks)
        self.count = 0

    async def request(self, method, path):
        assert method == "GET"
        look = self._looks[0]
        if path == "/apis":
            self.count += 1
            if isinstance(look, Exception):
                self._looks.pop(0)
                raise look
            names = ["apps"] if look is None else ["apps", "tunnels.dev"]
            if look is None:
                self._looks.pop(0)
            return {"groups": [{"name": name} for name in names]}
        assert path == "/apis/tunnels.dev/v1alpha1"
        if len(self._looks) > 1:
            self._looks.pop(0)
        return {"resources": [{"name": name} for name in look]}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(discovery, "RETRY_SECONDS", 0)


async def looks_needed(*looks, with_classes=True):
    api = Api(*looks)
    async with asyncio.timeout(5):
        await discovery.wait_until_served(api, with_classes=with_classes)
    return api.count


BOTH = ["tunnels", "tunnels/status", "tunnelclasses"]


async def test_what_is_served_is_seen_at_the_first_look():
    assert await looks_needed(BOTH) == 1


async def test_waits_for_the_group_both_resources_and_an_api_server_that_answers():
    outage = Retryable(Reason.UNAVAILABLE, "no answer")
    assert await looks_needed(None, outage, ["tunnels"], BOTH) == 4


async def test_classes_from_a_file_need_no_resource():
    assert await looks_needed(["tunnels"], with_classes=False) == 1
