"""A changed class reaches the forwarders of its tunnels a few at a time."""

from datetime import timedelta

import pytest

from support.operator_world import OperatorWorld
from support.tunnels import a_class, tunnel_body
from tunnel_operator.core.observed import Kind
from tunnel_operator.core.rollout import AT_ONCE

TUNNELS = [f"mri-{number}" for number in range(2 * AT_ONCE + 2)]


@pytest.fixture
async def world():
    world = OperatorWorld()
    world.azure.online |= set(TUNNELS)
    for number, name in enumerate(TUNNELS):
        await world.settle(world.apply(tunnel_body(name, uid=f"{number:08d}-uid")))
    return world


def change_image(world, image):
    world.classes = [a_class(forwarder={"image": image})]
    world.cache.put_class(world.classes[0])


def pods(world):
    return [body for (_, kind, _), body in world.cluster.children.items() if kind is Kind.POD]


def images(world):
    return [pod["spec"]["containers"][0]["image"] for pod in pods(world)]


def working(world):
    ready = {"type": "Ready", "status": "True"}
    return sum(ready in pod["status"].get("conditions", ()) for pod in pods(world))


async def roll(world):
    """Let the operator look at every tunnel once, and then at those that it wakes; see how many work."""
    fewest = len(TUNNELS)
    for key in list(world.cluster.tunnels):
        await world.reconcile(key)
        fewest = min(fewest, working(world))
    while True:
        world.run_kubelet()
        for _ in range(2):
            for key in list(world.cluster.tunnels):
                if world.tunnel(key).status.condition("Ready").status != "True":
                    await world.reconcile(key)
        if not world.woken:
            return fewest
        await world.reconcile(world.woken.pop(0))
        fewest = min(fewest, working(world))


async def test_all_are_replaced_and_never_more_than_a_few_are_away(world):
    change_image(world, "registry.test/forwarder:2")
    fewest = await roll(world)
    assert set(images(world)) == {"registry.test/forwarder:2"}
    assert working(world) == len(TUNNELS)
    assert fewest >= len(TUNNELS) - AT_ONCE
    assert all(world.ready(key) == ("True", "Open") for key in world.cluster.tunnels)
    assert {world.azure.calls[f"open {name}"] for name in TUNNELS} == {1}


async def test_a_class_with_a_bad_image_takes_no_more_than_a_few_down(world):
    world.missing_images.add("registry.test/typo")
    change_image(world, "registry.test/typo")
    for _ in range(20):
        await roll(world)
        world.now += timedelta(minutes=1)
    assert working(world) == len(TUNNELS) - AT_ONCE
    assert world.rollout.waiting == len(TUNNELS) - AT_ONCE
    change_image(world, "registry.test/forwarder:2")
    await roll(world)
    assert world.rollout.waiting == 0
    assert set(images(world)) == {"registry.test/forwarder:2"}
    assert working(world) == len(TUNNELS)


async def test_devices_that_have_gone_meanwhile_hold_nobody_up_for_long(world):
    change_image(world, "registry.test/forwarder:2")
    gone = TUNNELS[:AT_ONCE]
    for name in gone:
        world.azure.online.discard(name)
        world.azure.stop_listening(name)
    await roll(world)
    assert images(world).count("registry.test/forwarder:2") == AT_ONCE
    world.now += timedelta(minutes=3)
    await roll(world)
    assert set(images(world)) == {"registry.test/forwarder:2"}
    assert working(world) == len(TUNNELS) - AT_ONCE


async def test_a_tunnel_that_closes_meanwhile_gives_its_turn_on(world):
    world.missing_images.add("registry.test/typo")
    change_image(world, "registry.test/typo")
    await roll(world)
    down = [k for k in world.cluster.tunnels if world.ready(k) == ("False", "ImageUnavailable")]
    assert len(down) == AT_ONCE
    world.delete(down[0])
    await world.reconcile(down[0])
    assert len(world.woken) == 1
