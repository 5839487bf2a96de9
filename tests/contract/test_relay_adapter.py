"""What the operator's own adapter asks of ARM, and how often."""

import asyncio
from functools import partial
from urllib.parse import urlsplit

import pytest
from azure.identity.aio import WorkloadIdentityCredential

from support.clock import Time
from support.proxy import ConnectProxy
from support.tunnels import class_body
from tunnel_operator.adapters.arm_client import make_client
from tunnel_operator.adapters.budget import Budget
from tunnel_operator.adapters.calls import Terms
from tunnel_operator.adapters.relay import LISTING_SECONDS, ArmRelay
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel_class import TunnelClass
from tunnel_operator.core.actions import EnsureHybridConnection
from tunnel_operator.errors import Terminal


@pytest.fixture
def time():
    return Time()


@pytest.fixture
async def relay(sim, workload, time):  # noqa: ARG001 - the SDK finds it in the environment
    budget = Budget("ARM", rate=1000, burst=1000, monotonic=time)
    ca_file = str(sim.endpoints.ca_file)
    async with WorkloadIdentityCredential(connection_verify=ca_file) as credential:
        # An operator is told whom to trust before aiohttp is imported.
        connect = partial(make_client, credential, authorities=ca_file)
        made = ArmRelay(connect, Terms(budget, lambda *_: None, lambda: None), monotonic=time)
        yield made
        await made.close()


@pytest.fixture
def klass(sim):
    body = class_body()
    body["spec"]["relay"] |= {
        "subscriptionId": sim.endpoints.subscription_id,
        "resourceGroup": sim.endpoints.resource_group,
        "namespace": "demo",
        "resourceManagerEndpoint": sim.endpoints.arm_base_url,
    }
    return TunnelClass.from_dict(body).spec


def wanted(name):
    rules = ((f"send-{name}", "Send"), (f"listen-{name}", "Listen"))
    return EnsureHybridConnection(name, f"uid-{name}", f"imaging/{name}", "c-1", rules)


async def test_what_was_made_is_as_a_look_finds_it(relay, klass):
    made = await relay.ensure(klass, wanted("a"))
    assert made == await relay.observe(klass, "a", with_rules=True)
    assert made.owner_name == "imaging/a"


async def test_an_identity_that_gets_no_token_is_what_people_are_told_of(relay, klass, workload):
    workload.write_text(workload.read_text() + "broken")
    with pytest.raises(Terminal) as raised:
        await relay.observe(klass, "a", with_rules=True)
    assert raised.value.reason is Reason.UNAUTHORIZED
    assert raised.value.message == (
        "Entra ID refused the operator a token with 400: check its workload identity."
    )


async def test_nothing_costs_one_request(relay, klass, sim):
    assert await relay.observe(klass, "a", with_rules=True) is None
    assert sim.arm_counts() == {"GET": 1}


@pytest.mark.parametrize("page_size", [2], indirect=True)
async def test_many_tunnels_share_one_list(relay, klass, sim, time):
    names = ["a", "b", "c"]
    for name in names:
        await relay.ensure(klass, wanted(name))
    seen = await asyncio.gather(*(relay.observe(klass, name, with_rules=False) for name in names))
    assert [one.owner_name for one in seen] == ["imaging/a", "imaging/b", "imaging/c"]
    assert {one.rules for one in seen} == {None}
    assert sim.arm_counts()["GET"] == 2  # pages
    time.now = LISTING_SECONDS - 1
    await relay.delete(klass, "a")
    await relay.observe(klass, "b", with_rules=False)
    assert sim.arm_counts()["GET"] == 2
    time.now = LISTING_SECONDS
    assert await relay.observe(klass, "a", with_rules=False) is None


async def test_what_is_younger_than_the_list_is_asked_for_by_itself(relay, klass):
    await relay.observe(klass, "a", with_rules=False)
    made = await relay.ensure(klass, wanted("a"))
    assert await relay.observe(klass, "a", with_rules=False) == made


@pytest.mark.usefixtures("workload")
async def test_calls_take_the_proxy_of_the_environment_but_for_the_hosts_it_spares(
    sim, klass, monkeypatch
):
    ca_file = str(sim.endpoints.ca_file)
    place = (klass.relay.resource_group, klass.relay.namespace)
    seen = []
    async with ConnectProxy().running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        for spared in ("elsewhere.test", urlsplit(klass.relay.resource_manager_endpoint).hostname):
            monkeypatch.setenv("NO_PROXY", spared)
            async with (
                WorkloadIdentityCredential(
                    connection_verify=ca_file, use_env_settings=False
                ) as credential,
                make_client(credential, klass.relay, authorities=ca_file) as client,
            ):
                await client.namespaces.get(*place)
            seen.append(len(proxy.asked))
    assert proxy.asked == [f"CONNECT {urlsplit(klass.relay.resource_manager_endpoint).netloc}"]
    assert seen == [1, 1]
