"""Devices that bring their own credentials and know one hybrid connection, that of their name."""

import base64
import json

from support.tunnels import ONE_PORT, a_class, tunnel_body
from tunnel_azure_sim.relay.model import HybridConnection, Right, Rule
from tunnel_azure_sim.state import KeyPair
from tunnel_operator.core.observed import Kind


def for_stock_devices(world, **spec):
    world.classes = [a_class(hybridConnectionNaming="Device", portName="test", **spec)]
    world.start_operator()


async def test_a_stock_device_is_met_at_the_hybrid_connection_of_its_name(world):
    for_stock_devices(world)
    key = world.apply(tunnel_body(**ONE_PORT, ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert list(world.azure.connections) == ["mri-7"]
    # The device brings its own credential: it gets none of ours.
    assert list(world.azure.connections["mri-7"].rules) == ["tunnel-send-0f1e2d3c"]
    data = world.cluster.child(Kind.SECRET)["data"]
    settings = json.loads(base64.b64decode(data["settings.json"]))
    assert settings["ports"] == [{"name": "test", "listen": 10001}]
    world.apply(tunnel_body(**ONE_PORT, ttl="30m"))
    await world.settle(key)
    assert world.azure.calls["open mri-7"] == 1
    world.delete(key)
    await world.reconcile(key)
    assert world.is_bare()


async def test_a_hybrid_connection_that_was_there_before_is_left_in_place(world):
    for_stock_devices(world)
    there = world.azure.add(HybridConnection("mri-7", world.now, world.now))
    provisioned = Rule("provisioned", frozenset({Right.LISTEN}), KeyPair.generate())
    there.rules["provisioned"] = provisioned
    key = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert there.user_metadata is None
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.azure.connections == {"mri-7": there}
    assert there.rules == {"provisioned": provisioned}
    assert (there.user_metadata, there.updated_at) == (None, there.created_at)


async def test_a_second_tunnel_to_a_stock_device_waits_and_says_for_whom(world):
    for_stock_devices(world)
    first = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(first)
    body = tunnel_body(uid="11111111-0000", **ONE_PORT)
    body["metadata"]["name"] = "second"
    second = world.apply(body)
    await world.reconcile(second)
    assert world.ready(second) == ("False", "NameTaken")
    ready = world.tunnel(second).status.condition("Ready")
    assert ready.message == "Hybrid connection 'mri-7' is in use by Tunnel imaging/mri-7."
    world.delete(second)
    await world.reconcile(second)
    assert list(world.azure.connections) == ["mri-7"]
