"""A hybrid connection that the operator made and never put on record, and what is made instead of it.

The operator dies between the two. While it is down the class is made anew, by which the tunnel's hybrid connection
has another name, or another place; or the Tunnel itself is made anew.
"""

from datetime import timedelta

import pytest

from support.operator_world import Crash, OperatorWorld, only_crashed
from support.tunnels import ONE_PORT, a_class, class_body, tunnel_body
from tunnel_operator.core.sweep import GRACE
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.sweeper import Sweeper, SweepPolicy

ANOTHER_RELAY = {"relay": class_body()["spec"]["relay"] | {"namespace": "another-relay"}}
BY_DEVICE = {"hybridConnectionNaming": "Device"}
RETAINED = {"deletionPolicy": "Retain"}
CHANGES = [
    pytest.param({}, BY_DEVICE, id="named-after-the-device"),
    pytest.param(BY_DEVICE, {}, id="named-after-the-device-no-more"),
    pytest.param({}, RETAINED, id="retained"),
    pytest.param(RETAINED, {}, id="retained-no-more"),
    pytest.param({}, ANOTHER_RELAY, id="elsewhere"),
    pytest.param({}, ANOTHER_RELAY | RETAINED, id="elsewhere-and-retained"),
]
TUNNEL = {"ttl": "6h", **ONE_PORT}


async def open_and_die(world: OperatorWorld, **klass):
    """Kill the operator before anything in the cluster tells of the hybrid connection that it has just made."""

    def die(_name):
        if world.azure.connections:
            raise Crash

    make_class(world, **klass)
    key = world.apply(tunnel_body(**TUNNEL))
    world.cluster.hook, hook = die, world.cluster.hook
    with pytest.raises((Crash, BaseExceptionGroup)) as died:
        await world.settle(key)
    only_crashed(died.value)
    world.cluster.hook = hook
    assert world.tunnel(key).status.hybrid_connection is None
    [orphan] = all_connections(world)
    return key, orphan


def make_class(world, **spec):
    world.classes = [a_class(**spec)]
    world.start_operator()


def all_connections(world):
    return {
        (space.name, name) for space in world.azure.namespaces for name in space.hybrid_connections
    }


async def sweep(world):
    """Sweep both Relay namespaces: some class or other is of each."""
    leadership = Leadership(lambda: 0.0)
    leadership.grant(1.0)
    relay = world.azure.start_relay()
    policy = SweepPolicy("here", is_dry=False)
    clock = lambda: world.now  # noqa: E731
    sweeper = Sweeper(world.cluster, relay, leadership, clock, policy, world.cache.class_of)
    for klass in (a_class(), a_class(**ANOTHER_RELAY)):
        await sweeper.sweep(klass.spec)


async def sweep_before_and_after_the_grace(world, key, orphan):
    """See that the orphan alone is removed, and no sooner than it may; the tunnel notices nothing."""
    [new] = all_connections(world) - {orphan}
    await sweep(world)
    assert all_connections(world) == {orphan, new}
    await world.pass_time(key, GRACE)
    await sweep(world)
    assert all_connections(world) == {new}
    writes = dict(world.cluster.writes)
    await world.pass_time(key, GRACE + timedelta(minutes=10))
    await sweep(world)
    assert all_connections(world) == {new}
    assert world.ready(key) == ("True", "Open")
    assert dict(world.cluster.writes) == writes


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_what_was_not_on_record_is_swept_while_its_tunnel_is_open_with_another(
    world, before, after
):
    key, orphan = await open_and_die(world, **before)
    make_class(world, **after)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    await sweep_before_and_after_the_grace(world, key, orphan)


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_what_was_not_on_record_is_swept_when_its_tunnel_is_made_anew(world, before, after):
    key, orphan = await open_and_die(world, **before)
    world.delete(key)
    make_class(world, **after)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    world.apply(tunnel_body(uid="1f1e2d3c-0000-4000-8000-000000000002", **TUNNEL))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    await sweep_before_and_after_the_grace(world, key, orphan)


async def test_what_was_not_on_record_is_taken_up_when_the_class_is_as_it_was(world):
    key, orphan = await open_and_die(world)
    make_class(world)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert all_connections(world) == {orphan}
    await world.pass_time(key, 2 * GRACE)
    await sweep(world)
    assert all_connections(world) == {orphan}


async def test_what_is_not_on_record_may_be_in_use(world):
    """As of a tunnel that waits for its device, or for Azure, for longer than the grace."""
    key, orphan = await open_and_die(world)
    make_class(world)
    world.now += 2 * GRACE
    await sweep(world)
    assert all_connections(world) == {orphan}
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_class_that_is_written_in_other_letters_is_of_the_same_relay_namespace(world):
    relay = class_body()["spec"]["relay"]
    upper = {"namespace": relay["namespace"].upper(), "resourceGroup": "Tunnels"}
    make_class(world)
    key = world.apply(tunnel_body(**TUNNEL))
    await world.settle(key)
    world.classes = [
        a_class(relay=relay | upper | {"endpoint": "sb://clinic-relay.servicebus.windows.net/"})
    ]
    world.cache.put_class(world.classes[0])
    await world.pass_time(key, 2 * GRACE)
    there = all_connections(world)
    assert len(there) == 1
    await sweep(world)
    assert all_connections(world) == there
