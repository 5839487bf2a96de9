"""What somebody changes by hand, in Azure or in the cluster, is put back."""

from datetime import timedelta

import pytest

from support.tunnels import ONE_PORT, a_class, tunnel_body
from tunnel_azure_sim.relay.model import HybridConnection, Right
from tunnel_operator.core.looks import POLL, RULES_AGAIN

SEND, LISTEN = "tunnel-send-0f1e2d3c", "tunnel-listen-0f1e2d3c"


@pytest.fixture
async def key(world):
    """Return the key of a tunnel that is open."""
    key = world.apply(tunnel_body(ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    return key


def rights(world):
    [connection] = world.azure.connections.values()
    return {name: set(rule.rights) for name, rule in connection.rules.items()}


async def test_a_right_that_was_taken_away_is_given_back_as_soon_as_it_is_missed(world, key):
    [connection] = world.azure.connections.values()
    connection.rules[SEND].rights = frozenset({Right.LISTEN})
    world.run_kubelet()
    await world.pass_time(key, timedelta(minutes=1))
    assert rights(world) == {SEND: {Right.SEND}, LISTEN: {Right.LISTEN}}
    assert world.ready(key) == ("True", "Open")


async def test_a_right_that_was_added_is_taken_away_again(world, key):
    [connection] = world.azure.connections.values()
    connection.rules[SEND].rights = frozenset({Right.SEND, Right.LISTEN})
    await world.pass_time(key, RULES_AGAIN + POLL)
    assert rights(world) == {SEND: {Right.SEND}, LISTEN: {Right.LISTEN}}
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["ensure"] == 2


async def test_senders_need_a_token_again(world, key):
    [connection] = world.azure.connections.values()
    connection.requires_client_authorization = False
    await world.pass_time(key, 2 * POLL)
    assert connection.requires_client_authorization
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["ensure"] == 2


class Stubborn(HybridConnection):
    """One of which Azure does not change whether senders need a token, without a word."""

    requires_client_authorization = property(lambda _: False, lambda *_: None)


async def test_people_are_told_that_senders_need_no_token_when_that_can_not_be_changed(world, key):
    [found] = world.azure.connections.values()
    made = Stubborn(found.name, world.now, world.now, user_metadata=found.user_metadata)
    made.rules, made.listeners = found.rules, found.listeners
    world.azure.add(made)
    await world.pass_time(key, 3 * POLL)
    assert world.ready(key) == ("False", "Rejected")
    assert world.azure.calls["ensure"] <= 4
    world.azure.remove()
    await world.pass_time(key, 2 * POLL)
    assert world.ready(key) == ("True", "Open")


async def test_a_borrowed_hybrid_connection_is_left_as_it_is_but_for_our_rule(world):
    world.classes = [a_class(hybridConnectionNaming="Device", portName="test")]
    world.start_operator()
    there = HybridConnection(
        "mri-7", world.now, world.now, requires_client_authorization=False, user_metadata="theirs"
    )
    world.azure.add(there)
    key = world.apply(tunnel_body(**ONE_PORT, ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    there.rules[SEND].rights = frozenset({Right.SEND, Right.MANAGE, Right.LISTEN})
    await world.pass_time(key, RULES_AGAIN + POLL)
    assert rights(world) == {SEND: {Right.SEND}}
    assert world.ready(key) == ("True", "Open")
    assert (there.requires_client_authorization, there.user_metadata) == (False, "theirs")
