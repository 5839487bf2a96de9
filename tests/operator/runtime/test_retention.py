"""Hybrid connections that outlive their Tunnel, since the class says so."""

import base64
from datetime import timedelta

import pytest

from support.operator_azure import HOST, mark_of
from support.tunnels import ONE_PORT, a_class, tunnel_body
from tunnel_operator.core.observed import Kind


def retaining(world, **spec):
    world.classes = [a_class(deletionPolicy="Retain", **spec)]
    world.start_operator()


def kept(world, name="imaging.mri-7"):
    """Return whether just this one is there, and lets nobody in."""
    [(there, connection)] = world.azure.connections.items()
    is_open = connection.rules or world.azure.listening or world.cluster.children
    return there == name and mark_of(connection).is_retained and not is_open


async def test_a_hybrid_connection_may_be_kept_without_its_rules(world):
    retaining(world)
    key = world.apply(tunnel_body())
    await world.settle(key)
    token = base64.b64decode(world.cluster.child(Kind.SECRET)["data"]["token"]).decode()
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert kept(world)
    assert world.azure.calls["close mri-7"] == 1
    assert not world.azure.rights(HOST, "imaging.mri-7", token)


async def test_a_tunnel_of_the_same_name_takes_over_what_was_kept_and_another_does_not(world):
    retaining(world, hybridConnectionNaming="Device", portName="test")
    key = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(key)
    world.delete(key)
    await world.reconcile(key)
    other = tunnel_body(uid="22222222-0000", **ONE_PORT)
    other["metadata"]["name"] = "other"
    second = world.apply(other)
    await world.reconcile(second)
    assert world.ready(second) == ("False", "NameTaken")
    message = world.tunnel(second).status.condition("Ready").message
    assert message.startswith("Hybrid connection 'mri-7' is kept for Tunnel imaging/mri-7.")
    world.delete(second)
    await world.reconcile(second)
    assert kept(world, "mri-7")
    key = world.apply(tunnel_body(uid="11111111-0000", **ONE_PORT))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    [connection] = world.azure.connections.values()
    assert mark_of(connection).uid == "11111111-0000"
    assert not mark_of(connection).is_retained
    assert list(connection.rules) == ["tunnel-send-11111111"]


async def test_a_suspended_or_ended_tunnel_lets_nobody_in_and_takes_over_what_was_kept_of_it(world):
    retaining(world)
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="10m", suspend=True))
    await world.settle(key)
    assert world.ready(key) == ("False", "Suspended")
    assert kept(world)
    assert not world.tunnel(key).has_finalizer
    world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    await world.pass_time(key, timedelta(minutes=11))
    assert world.ready(key) == ("False", "Expired")
    assert kept(world)
    world.delete(key)
    await world.reconcile(key)
    assert kept(world)


@pytest.mark.parametrize("at", range(10))
async def test_killed_after_any_step_of_keeping_it_ends_in_the_same_state(world, at):
    retaining(world)
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    assert await world.crash_and_recover(key, at)
    assert key not in world.cluster.tunnels
    assert kept(world)


@pytest.mark.parametrize("policies", [("Delete", "Retain"), ("Retain", "Delete")])
async def test_a_class_that_is_made_anew_with_another_policy_closes_what_the_old_one_opened(
    world, policies
):
    before, after = (a_class(deletionPolicy=policy) for policy in policies)
    world.classes = [before]
    world.start_operator()
    key = world.apply(tunnel_body())
    await world.settle(key)
    [name] = world.azure.connections
    world.cache.drop_class("azure")
    world.classes = [after]
    world.cache.put_class(after)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert list(world.azure.connections) == [name]
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert kept(world, name) if policies[1] == "Retain" else world.is_bare()
