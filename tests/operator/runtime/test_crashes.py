"""An operator that is killed after any step."""

import pytest

from support.tunnels import tunnel_body


@pytest.mark.parametrize("at", range(13))
async def test_killed_after_any_step_of_opening_it_ends_in_the_same_state(world, at):
    key = world.apply(tunnel_body())
    assert await world.crash_and_recover(key, at)
    assert world.ready(key) == ("True", "Open")
    assert len(world.azure.connections) == 1
    # Asked twice only when the first answer was not on record yet.
    assert world.azure.calls["open mri-7"] <= 2


@pytest.mark.parametrize("at", range(6))
async def test_killed_after_any_step_of_closing_everything_is_removed(world, at):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    assert await world.crash_and_recover(key, at)
    assert key not in world.cluster.tunnels
    assert world.is_bare()
