from datetime import timedelta

import pytest

from support.operator_world import OperatorWorld
from support.tunnels import UID, a_class, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import FINALIZER
from tunnel_operator.core.sweep import Marked
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.sweeper import Sweeper, SweepPolicy

HOURS = timedelta(hours=2)


@pytest.fixture
def world():
    world = OperatorWorld()
    for name in ("orphan", "alive", "young", "elsewhere", "reborn", "kept"):
        world.azure.connections[name] = {"rules": {}}
    lost = Key("imaging", "lost")
    alive = world.apply(tunnel_body())
    world.cluster.tunnels[alive]["metadata"]["finalizers"] = [FINALIZER]
    old, young = world.now - HOURS, world.now
    world.azure.marks = [
        Marked("orphan", lost, "uid-1", "here", old),
        Marked("alive", alive, UID, "here", old),
        Marked("reborn", alive, "uid-of-an-earlier-one", "here", old),
        Marked("young", lost, "uid-2", "here", young),
        Marked("elsewhere", lost, "uid-3", "there", old),
        Marked("kept", lost, "uid-4", "here", old, is_retained=True),
    ]
    return world


def sweeper(world, *, cluster_id="here", is_dry=False):
    leadership = Leadership(lambda: 0.0)
    leadership.grant(1.0)
    return Sweeper(
        world.cluster,
        world.azure,
        leadership,
        lambda: world.now,
        SweepPolicy(cluster_id, is_dry),
    )


async def test_removes_what_was_left_behind_and_nothing_else(world):
    await sweeper(world).sweep(a_class().spec)
    assert set(world.azure.connections) == {"alive", "young", "elsewhere", "kept"}


async def test_removes_what_a_tunnel_was_let_go_of_without(world):
    """Without the finalizer a Tunnel has nothing in Azure, so what is there was left when it gave up."""
    world.cluster.tunnels["imaging", "mri-7"]["metadata"]["finalizers"] = []
    await sweeper(world).sweep(a_class().spec)
    assert set(world.azure.connections) == {"young", "elsewhere", "kept"}


async def test_a_dry_run_removes_nothing(world):
    await sweeper(world, is_dry=True).sweep(a_class().spec)
    assert len(world.azure.connections) == 6


async def test_without_a_cluster_id_nothing_is_known_to_be_ours(world):
    await sweeper(world, cluster_id="").sweep(a_class().spec)
    assert len(world.azure.connections) == 6


async def test_sweeps_each_namespace_once_and_outlives_an_outage(world):
    class EnoughError(Exception):
        pass

    world.azure.outage = True
    rounds = 0

    async def sleep(_):
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        await sweeper(world).run(lambda: [a_class().spec, a_class("b").spec], sleep)
    assert world.azure.calls["marked"] == 2
