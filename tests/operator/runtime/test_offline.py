"""A device that can not be told costs Azure's budget next to nothing, and is found as soon as it is back."""

from datetime import timedelta

import pytest

from support.operator_azure import HOST
from support.tunnels import tunnel_body
from tunnel_operator.core.breaker import LONGEST_WAIT
from tunnel_operator.core.looks import POLL

HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def requests(world):
    """Return a list that gets each request to Azure Resource Manager from now on."""
    transport, seen = world.azure.arm.transport, []
    hook = transport.hook

    def note(what):
        seen.append(what)
        hook(what)

    transport.hook = note
    return seen


@pytest.fixture
async def offline(world):
    """Return the key of a tunnel whose device has never been told."""
    world.azure.online.clear()
    key = world.apply(tunnel_body(ttl="5h"))
    await world.settle(key)
    return key


async def test_costs_less_than_a_call_a_minute(world, offline, requests):
    secrets = world.cluster.writes["Secret"]
    requests.clear()
    await world.pass_time(offline, HALF_AN_HOUR)
    assert world.ready(offline) == ("False", "DeviceOffline")
    assert len(requests) <= HALF_AN_HOUR / timedelta(minutes=1)
    assert world.cluster.writes["Secret"] == secrets


async def test_costs_no_more_when_it_was_open_before(world, requests):
    key = world.apply(tunnel_body(ttl="5h"))
    await world.settle(key)
    world.azure.online.clear()
    world.azure.stop_listening()
    world.run_kubelet()
    await world.settle(key)
    requests.clear()
    await world.pass_time(key, HALF_AN_HOUR)
    assert world.ready(key) == ("False", "DeviceOffline")
    assert len(requests) <= HALF_AN_HOUR / timedelta(minutes=1)


async def test_is_found_when_it_is_back(world, offline):
    await world.pass_time(offline, HALF_AN_HOUR)
    world.azure.online.add("mri-7")
    await world.pass_time(offline, LONGEST_WAIT + timedelta(seconds=1))
    assert world.ready(offline) == ("True", "Open")


async def test_a_hybrid_connection_that_was_removed_meanwhile_is_put_back(world, offline):
    await world.pass_time(offline, HALF_AN_HOUR)
    world.azure.remove()
    await world.pass_time(offline, POLL)
    assert len(world.azure.connections) == 1


@pytest.mark.parametrize("which", ["listen", "send"])
async def test_a_rule_that_was_removed_meanwhile_keeps_nobody_out(world, offline, which):
    await world.pass_time(offline, HALF_AN_HOUR)
    [connection] = world.azure.connections.values()
    for rule in [name for name in connection.rules if which in name]:
        del connection.rules[rule]
    world.azure.online.add("mri-7")
    await world.pass_time(offline, POLL)
    assert world.ready(offline) == ("True", "Open")
    [told] = world.azure.listening.values()
    assert world.azure.may_listen(HOST, told)


async def test_both_ends_get_what_was_made_anew_at_once(world, offline):
    """The forwarder's token is not held up by a device that is away: a node is slow to bring a Secret."""
    await world.pass_time(offline, HALF_AN_HOUR)
    secrets = world.cluster.writes["Secret"]
    world.azure.remove()
    await world.pass_time(offline, POLL)
    assert world.cluster.writes["Secret"] == secrets + 1
