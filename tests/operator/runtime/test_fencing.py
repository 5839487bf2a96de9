"""A process that stood still for longer than its lease does nothing more on waking, wherever it was."""

from datetime import timedelta

import pytest

from support.tunnels import tunnel_body
from tunnel_operator.runtime.leadership import NotLeadingError


def stop_at_the_next_wait(world):
    """Let the operator be frozen while it waits for its budget, until its lease is over."""

    async def frozen(_seconds):
        world.now += timedelta(minutes=1)
        world.leadership.revoke()

    world.azure.budget._sleep = frozen


async def spend(world, left):
    await world.azure.budget.take("somebody", 200 - left)


@pytest.mark.parametrize("left", [0, 1])
async def test_nothing_is_made_after_the_wait_for_the_budget(world, left):
    key = world.apply(tunnel_body())
    await spend(world, left)
    stop_at_the_next_wait(world)
    with pytest.raises((NotLeadingError, ExceptionGroup)) as raised:
        await world.reconcile(key)
    error = raised.value
    assert not isinstance(error, ExceptionGroup) or error.subgroup(NotLeadingError) is not None
    assert not world.leadership.is_held()
    assert world.azure.connections == {}
    assert world.azure.calls["ensure"] == 0


async def test_what_its_successor_deleted_is_not_made_again(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.azure.remove()
    world.cluster.children.clear()
    world.start_operator()
    await spend(world, 1)
    stop_at_the_next_wait(world)
    with pytest.raises((NotLeadingError, ExceptionGroup)):
        await world.settle(key)
    assert world.azure.connections == {}
