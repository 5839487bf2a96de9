"""What has failed is forgotten as soon as it is no longer wanting, however that has come about."""

from datetime import timedelta

from support.operator_azure import HOST
from support.tunnels import tunnel_body
from tunnel_operator.core.looks import LOOK_AGAIN
from tunnel_operator.core.observed import Kind, Step


async def test_a_device_that_listens_again_by_itself_is_offline_no_more(world):
    """As after a break of its network: it knows what it was told, and its forwarder meets it again."""
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    told = world.azure.listening["mri-7"]
    world.azure.stop_listening()
    world.azure.online.clear()
    world.run_kubelet()
    await world.pass_time(key, timedelta(minutes=3))
    await world.settle(key)
    assert world.ready(key) == ("False", "DeviceOffline")
    world.azure.online.add("mri-7")
    world.azure.listen("mri-7", HOST, told.hybrid_connection, told)
    asked = world.azure.calls["open mri-7"]
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["open mri-7"] == asked


async def test_what_azure_made_without_our_hearing_of_it_is_there(world):
    world.azure.arm.transport.lost["PUT authorizationRule"] = 2
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["ensure"] == 1


async def test_that_azure_could_not_be_asked_says_nothing_once_the_forwarder_meets_the_device(
    world,
):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    told = world.azure.listening["mri-7"]
    world.azure.outage = True
    world.azure.stop_listening()
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key)[0] == "False"
    world.azure.listen("mri-7", HOST, told.hybrid_connection, told)
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    memory = world.reconciler._world.memory
    assert memory.failure(key, Step.LOOK) is None
    await world.pass_time(key, timedelta(minutes=20))
    assert world.ready(key) == ("True", "Open")


async def test_a_way_that_breaks_long_after_the_last_look_is_looked_at_soon(world):
    key = world.apply(tunnel_body(ttl="6h", expose={"ingress": {"host": "mri-7.tunnels.test"}}))
    await world.settle(key)
    ingress = world.cluster.child(Kind.INGRESS)
    for status in ({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, {}):
        world.now += timedelta(minutes=1)
        ingress["status"] = status
        world.cluster.touch(ingress)
        world.cluster.feed(world.cache)
        # Once: what an operator writes itself is no news to it.
        await world.reconcile(key)
    assert world.ready(key) == ("False", "WaitingForAddress")
    assert world.recheck_at[key] <= world.now + LOOK_AGAIN
