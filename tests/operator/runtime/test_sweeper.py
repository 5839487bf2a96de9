from datetime import timedelta

import pytest

from support.operator_world import OperatorWorld
from support.tunnels import UID, a_class, tunnel_body
from tunnel_azure_sim.relay.model import HybridConnection
from tunnel_operator.adapters.marks import Mark, write_mark
from tunnel_operator.api.tunnel import FINALIZER
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.sweeper import Sweeper, SweepPolicy

HOURS = timedelta(hours=2)
LOST = "imaging/lost"


@pytest.fixture
def world():
    world = OperatorWorld()
    alive = world.apply(tunnel_body())
    world.cluster.tunnels[alive]["metadata"]["finalizers"] = [FINALIZER]
    old, young = world.now - HOURS, world.now
    for name, made_at, mark in (
        ("orphan", old, Mark(LOST, "uid-1", "here")),
        ("alive", old, Mark(str(alive), UID, "here")),
        ("reborn", old, Mark(str(alive), "uid-of-an-earlier-one", "here")),
        ("young", young, Mark(LOST, "uid-2", "here")),
        ("elsewhere", old, Mark(LOST, "uid-3", "there")),
        ("kept", old, Mark(LOST, "uid-4", "here", is_retained=True)),
    ):
        made = HybridConnection(name, made_at, made_at, user_metadata=write_mark(mark))
        world.azure.add(made)
    return world


def sweeper(world, *, cluster_id="here", is_dry=False):
    leadership = Leadership(lambda: 0.0)
    leadership.grant(1.0)
    return Sweeper(
        world.cluster,
        world.azure.start_relay(world.leadership.require),
        leadership,
        lambda: world.now,
        SweepPolicy(cluster_id, is_dry),
        world.cache.class_of,
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


@pytest.mark.parametrize("is_leading", [True, False])
async def test_sweeps_each_namespace_once_and_outlives_what_fails(world, is_leading):
    class EnoughError(Exception):
        pass

    world.azure.outage = True
    if not is_leading:
        world.leadership.revoke()
    rounds = 0

    async def sleep(_):
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        await sweeper(world).run(lambda: [a_class().spec, a_class("b").spec], sleep)
    assert world.azure.calls["list"] == (2 if is_leading else 0)
