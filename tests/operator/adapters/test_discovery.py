import asyncio

import pytest

from tunnel_operator.adapters import discovery
from tunnel_operator.adapters.kube_api import NotFoundError
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.observed import Kind
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
    monkeypatch.setattr(discovery, "ROUTES_SECONDS", 0)


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


class GatewayApi:
    """Serves the Gateway API in these versions, or not at all."""

    def __init__(self, **versions):
        self.versions = versions
        self.outages = 0
        self.answered = asyncio.Event()

    async def request(self, method, path):
        assert method == "GET"
        if self.outages:
            self.outages -= 1
            raise Retryable(Reason.UNAVAILABLE, "no answer")
        self.answered.set()
        _, _, group, *version = path.split("/")
        assert group == "gateway.networking.k8s.io"
        if not self.versions:
            raise NotFoundError(Reason.NOT_FOUND, "no such group")
        if not version:
            return {"versions": [{"version": name} for name in self.versions]}
        return {"resources": [{"name": name} for name in self.versions[version[0]]]}


GROUP = "gateway.networking.k8s.io"


async def test_each_kind_of_route_is_taken_in_the_best_version_that_is_served():
    api = GatewayApi(v1=["httproutes", "gateways"], v1alpha2=["tcproutes", "tlsroutes"])
    assert await discovery.known_routes(api) == {
        Kind.HTTP_ROUTE: f"{GROUP}/v1",
        Kind.TLS_ROUTE: f"{GROUP}/v1alpha2",
        Kind.TCP_ROUTE: f"{GROUP}/v1alpha2",
    }
    newer = GatewayApi(v1=["httproutes", "tlsroutes"], v1alpha3=["tlsroutes"], v1beta1=["x"])
    assert await discovery.known_routes(newer) == {
        Kind.HTTP_ROUTE: f"{GROUP}/v1",
        Kind.TLS_ROUTE: f"{GROUP}/v1",
    }


async def test_without_the_gateway_api_there_are_no_routes():
    assert await discovery.known_routes(GatewayApi()) == {}


async def test_an_api_server_that_does_not_answer_is_no_cluster_without_routes():
    api = GatewayApi(v1=["httproutes"])
    known = await discovery.known_routes(api)
    api.outages = 3
    api.answered.clear()
    changed = asyncio.create_task(discovery.until_routes_change(api, known, every=0.01))
    async with asyncio.timeout(30):
        await api.answered.wait()
        assert api.outages == 0
        assert not changed.done()
        api.versions = {}
        await changed


async def test_a_watch_that_failed_for_another_reason_is_told_from_one_whose_kind_has_gone(
    monkeypatch,
):
    monkeypatch.setattr(discovery, "GONE_SECONDS", 0.05)
    api = GatewayApi(v1=["httproutes"])
    known = await discovery.known_routes(api)
    assert not await discovery.have_routes_gone(api, {})
    assert not await discovery.have_routes_gone(api, known)
    api.versions = {}
    assert await discovery.have_routes_gone(api, known)
