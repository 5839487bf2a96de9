"""A forwarder whose node has lost its power: its Pod is deleted, and no kubelet ever confirms that."""

import copy
from datetime import datetime, timedelta

import pytest

from support.tunnels import tunnel_body
from tunnel_operator.core.children import UNCONFIRMED_AFTER
from tunnel_operator.core.observed import Kind

SECOND = timedelta(seconds=1)


@pytest.fixture
async def key(world):
    """Return the key of an open tunnel, whose Pod has just been evicted from a node that is dead."""
    key = world.apply(tunnel_body(ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    world.cluster.is_node_dead = True
    pod = world.cluster.begin_to_end(world.cluster.child(Kind.POD))
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    world.cache.put_child(copy.deepcopy(pod))
    await world.reconcile(key)
    return key


def due(world):
    return datetime.fromisoformat(world.cluster.child(Kind.POD)["metadata"]["deletionTimestamp"])


def says(world, key):
    return world.tunnel(key).status.condition("ForwarderReady").message


async def test_its_pod_is_waited_for_and_then_replaced(world, key):
    old, end = world.cluster.child(Kind.POD)["metadata"]["uid"], due(world)
    assert "confirmed" not in says(world, key)
    await world.pass_time(key, end + UNCONFIRMED_AFTER - SECOND - world.now)
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] == old
    assert (
        says(world, key)
        == "The node of the last forwarder has not confirmed that its Pod has ended."
    )
    await world.pass_time(key, SECOND)
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] != old
    assert world.cluster.writes["delete Pod"] == 1
    await world.pass_time(key, SECOND)
    assert world.ready(key) == ("True", "Open")


async def test_a_pod_that_somebody_holds_is_left_to_them(world, key):
    pod = world.cluster.child(Kind.POD)
    pod["metadata"]["finalizers"] = ["example.com/keeps-its-logs"]
    world.cluster.touch(pod)
    world.cache.put_child(copy.deepcopy(pod))
    await world.pass_time(key, timedelta(hours=1))
    assert world.cluster.writes["delete Pod"] == 0


async def test_a_pod_whose_node_is_alive_is_never_forced(world):
    key = world.apply(tunnel_body(ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    pod = world.cluster.begin_to_end(world.cluster.child(Kind.POD))
    world.cache.put_child(copy.deepcopy(pod))
    await world.reconcile(key)
    world.now += 5 * SECOND
    del world.cluster.children["imaging", Kind.POD, pod["metadata"]["name"]]
    world.cache.drop_child(pod)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.cluster.writes["delete Pod"] == 0
