"""Tunnels behind a Gateway."""

from datetime import timedelta

from support.tunnels import GATEWAY, a_class, tunnel_body
from tunnel_operator.core.observed import Kind

ROUTED = {"expose": {"gateway": {"http": {"host": "a.test"}, "tcp": {}}}}


def with_gateway(world):
    world.classes = [a_class(exposure={"gateway": GATEWAY})]
    world.start_operator()


async def test_routes_are_made_followed_put_back_and_removed(world):
    with_gateway(world)
    key = world.apply(tunnel_body(**ROUTED))
    await world.settle(key)
    assert world.ready(key) == ("False", "WaitingForGateway")
    world.run_gateway(Accepted="NotAllowedByListeners")
    await world.settle(key)
    assert world.ready(key) == ("False", "RouteNotAccepted")
    world.run_gateway()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.url == "http://a.test"
    route = world.cluster.child(Kind.HTTP_ROUTE)
    route["spec"]["hostnames"] = ["b.test"]
    world.cluster.touch(route)
    gone = world.cluster.child(Kind.TCP_ROUTE)
    del world.cluster.children["imaging", Kind.TCP_ROUTE, "mri-7-tcp"]
    world.cache.drop_child(gone)
    world.cluster.feed(world.cache)
    await world.settle(key)
    world.run_gateway()
    await world.settle(key)
    assert world.cluster.child(Kind.HTTP_ROUTE)["spec"]["hostnames"] == ["a.test"]
    assert world.ready(key) == ("True", "Open")
    world.apply(tunnel_body())
    await world.settle(key)
    assert not {kind for _, kind, _ in world.cluster.children} & set(world.routes)
    assert world.ready(key) == ("True", "Open")


async def test_a_tunnel_with_routes_costs_no_write_and_leaves_nothing(world):
    with_gateway(world)
    key = world.apply(tunnel_body(**ROUTED))
    await world.settle(key)
    world.run_gateway()
    await world.settle(key)
    writes = dict(world.cluster.writes)
    await world.pass_time(key, timedelta(minutes=20))
    assert dict(world.cluster.writes) == writes
    world.delete(key)
    await world.reconcile(key)
    assert world.is_bare()


async def test_a_cluster_without_the_gateway_api_is_told_apart_and_all_else_works(world):
    world.routes.clear()
    with_gateway(world)
    key = world.apply(tunnel_body(**ROUTED))
    await world.settle(key)
    assert world.ready(key) == ("False", "GatewayAPINotInstalled")
    assert world.tunnel(key).status.condition("ForwarderReady").status == "True"
    world.apply(tunnel_body())
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
