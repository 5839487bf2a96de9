"""A class's limit on the tunnels of a namespace: others wait, and are opened in the order they were made."""

import asyncio
from datetime import timedelta

import pytest

from support.operator_world import OperatorWorld
from support.tunnels import a_class, tunnel_body
from tunnel_operator.api.base import format_time
from tunnel_operator.api.tunnel_class import DEFAULT_ANNOTATION

NAMES = ["mri-1", "mri-2", "mri-3", "mri-4", "mri-5"]


@pytest.fixture
def world():
    world = OperatorWorld()
    world.classes = [a_class(limits={"maxTunnelsPerNamespace": 2})]
    world.azure.online |= set(NAMES)
    world.start_operator()
    return world


def make(world, name, *, namespace="imaging", **spec):
    body = tunnel_body(name, uid=f"{name}-{namespace}", **spec)
    body["metadata"] |= {"namespace": namespace, "creationTimestamp": format_time(world.now)}
    world.now += timedelta(seconds=1)
    return world.apply(body)


async def go_round(world, keys):
    """Look at all, as often as the watch would bring what the others have done."""
    for _ in keys:
        for key in keys:
            known = world.cache.tunnels().get(key)
            if key in world.cluster.tunnels:
                await world.settle(key)
            world.cluster.feed(world.cache)
            if key not in world.cluster.tunnels and known is not None:
                world.cache.drop_tunnel(key, *known)


def open_ones(world):
    found = [key.name for key in world.cluster.tunnels if world.ready(key) == ("True", "Open")]
    assert len(world.azure.connections) == len(found)
    return sorted(found)


async def test_no_more_than_the_limit_are_open_and_the_oldest_wait_least(world):
    keys = [make(world, name) for name in NAMES]
    await go_round(world, keys[::-1])
    assert open_ones(world) == ["mri-1", "mri-2"]
    last = world.tunnel(keys[4]).status
    assert world.ready(keys[4]) == ("False", "TooManyTunnels")
    assert last.condition("Ready").message == (
        "Namespace 'imaging' has as many open tunnels of TunnelClass 'azure' as "
        "limits.maxTunnelsPerNamespace allows: 2. This one is opened when one of them is closed, the oldest "
        "that waits first."
    )
    assert {c.type for c in last.conditions} == {"Accepted", "Ready", "Reconciling"}
    assert last.opened_at is None
    assert world.cache.next_in_line("imaging") == [keys[2]]
    assert world.cache.waiting == 3

    writes = dict(world.cluster.writes)
    await go_round(world, keys)
    assert dict(world.cluster.writes) == writes

    world.delete(keys[0])
    await go_round(world, keys)
    assert open_ones(world) == ["mri-2", "mri-3"]
    world.apply(tunnel_body("mri-2", suspend=True))
    await go_round(world, keys)
    assert "mri-4" in open_ones(world)


async def test_of_two_that_are_looked_at_in_the_same_moment_one_waits(world):
    keys = [make(world, name) for name in NAMES]
    async with asyncio.TaskGroup() as group:
        for key in keys[::-1]:
            group.create_task(world.reconcile(key))
    assert len(world.azure.connections) == 2


async def test_each_namespace_has_its_own_places(world):
    keys = [
        make(world, name, namespace=namespace) for namespace in ("a", "b") for name in NAMES[:2]
    ]
    await go_round(world, keys)
    assert len(world.azure.connections) == 4


async def test_what_is_not_to_be_open_takes_no_place(world):
    refused = make(world, "mri-1", ttl="24h")
    suspended = make(world, "mri-2", suspend=True)
    keys = [make(world, name) for name in NAMES[2:4]]
    await go_round(world, [refused, suspended, *keys])
    assert open_ones(world) == ["mri-3", "mri-4"]


async def test_a_tunnel_that_runs_stays_open_when_the_limit_is_lowered_or_the_operator_restarts(
    world,
):
    keys = [make(world, name) for name in NAMES[:3]]
    await go_round(world, keys)
    world.classes = [a_class(limits={"maxTunnelsPerNamespace": 1})]
    world.start_operator()
    await go_round(world, keys)
    assert open_ones(world) == ["mri-1", "mri-2"]
    world.delete(keys[0])
    await go_round(world, keys)
    assert open_ones(world) == ["mri-2"]


async def test_a_raised_limit_lets_in_who_waits(world):
    keys = [make(world, name) for name in NAMES[:3]]
    await go_round(world, keys)
    world.classes = [a_class()]
    world.cache.put_class(world.classes[0])
    await go_round(world, keys)
    assert open_ones(world) == NAMES[:3]


async def test_a_tunnel_that_is_being_closed_keeps_its_place_until_azure_has_let_go(world):
    keys = [make(world, name) for name in NAMES[:3]]
    await go_round(world, keys)
    world.azure.outage = True
    world.delete(keys[0])
    await go_round(world, keys)
    assert world.ready(keys[2]) == ("False", "TooManyTunnels")
    world.azure.outage = False
    world.now += timedelta(minutes=5)
    await go_round(world, keys)
    assert open_ones(world) == ["mri-2", "mri-3"]


async def test_the_oldest_of_each_class_is_next_in_line(world):
    one = {"maxTunnelsPerNamespace": 1}
    world.classes = [a_class("a", limits=one), a_class("b", limits=one)]
    default = world.classes[1].metadata.model_copy(
        update={"annotations": {DEFAULT_ANNOTATION: "true"}}
    )
    world.classes[1] = world.classes[1].model_copy(update={"metadata": default})
    world.start_operator()
    places = [("a", "mri-1"), ("b", "mri-2"), ("a", "mri-3"), (None, "mri-4"), ("b", "mri-5")]
    keys = [make(world, name, tunnelClassName=class_name) for class_name, name in places]
    await go_round(world, keys)
    assert open_ones(world) == ["mri-1", "mri-2"]
    assert sorted(world.cache.next_in_line("imaging")) == keys[2:4]
    world.delete(keys[1])
    await go_round(world, keys[:2])
    for key in world.cache.next_in_line("imaging"):
        await world.settle(key)
    assert open_ones(world) == ["mri-1", "mri-4"]
