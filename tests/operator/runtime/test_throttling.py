"""Azure that asks one tunnel to wait means all of them."""

from datetime import timedelta

from support.tunnels import tunnel_body
from tunnel_azure_sim import ArmFailure


async def test_azure_is_left_alone_for_as_long_as_it_has_asked(world):
    world.azure.arm.faults.add(ArmFailure(429, verb="PUT", retry_after=90))
    one = world.apply(tunnel_body("one", uid="11111111-uid", device={"id": "one"}))
    await world.settle(one)
    assert world.ready(one) == ("False", "Throttled")
    before = world.azure.calls.total()
    keys = [
        world.apply(tunnel_body(name, uid=f"{name}-uid", device={"id": name}))
        for name in ("two", "three")
    ]
    world.azure.online |= {"one", "two", "three"}
    for key in keys:
        await world.settle(key)
    assert world.azure.calls.total() == before
    message = world.tunnel(keys[0]).status.condition("HybridConnectionReady").message
    assert message == "Waiting for Azure Resource Manager's budget, 0 ahead, about 90 s."
    for key in (one, *keys):
        await world.pass_time(key, timedelta(minutes=2))
        assert world.ready(key) == ("True", "Open")
