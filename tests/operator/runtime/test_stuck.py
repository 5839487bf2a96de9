"""What somebody else will not let be as it is wanted is no reason to write it for ever."""

from datetime import timedelta

import pytest
import structlog

from support.operator_world import OperatorWorld
from support.tunnels import a_class, tunnel_body
from tunnel_operator.core.observed import Kind

MINUTE = timedelta(minutes=1)


@pytest.fixture
def world():
    world = OperatorWorld()
    klass = a_class(exposure={"allowedServiceTypes": ["NodePort"]})
    world.classes[:] = [klass]
    world.cache.put_class(klass)
    world.azure.online.add("mri-7")
    return world


def make_all_internal(world):
    """Change each Service that is written, as an admission webhook does."""
    apply = world.cluster.apply

    async def webhook(manifest, *, is_known):
        body = await apply(manifest, is_known=is_known)
        if body["kind"] != Kind.SERVICE or not webhook.is_there:
            return body
        stored = world.cluster.child(Kind.SERVICE)
        stored["spec"]["type"] = "ClusterIP"
        return {**body, "spec": body["spec"] | {"type": "ClusterIP"}}

    webhook.is_there = True
    world.cluster.apply = webhook
    return webhook


async def test_a_child_that_a_webhook_changes_is_written_ever_more_seldom_and_said_to_be(world):
    webhook = make_all_internal(world)
    with structlog.testing.capture_logs() as lines:
        key = world.apply(tunnel_body(ttl="3h", expose={"service": {"type": "NodePort"}}))
        await world.settle(key)
        assert world.cluster.writes["Service"] == 1
        await world.pass_time(key, 30 * MINUTE)
    assert 10 < world.cluster.writes["Service"] < 20
    altered = [line for line in lines if line["event"] == "child.altered"]
    assert {line["child"] for line in altered} == {"Service mri-7"}
    assert not [line for line in lines if line["event"] == "reconcile.unsettled"]
    assert world.ready(key) == ("False", "Rejected")
    assert world.tunnel(key).status.condition("Ready").message == (
        "The Service does not stay as it is written: something in the cluster, such as an admission webhook, "
        "changes it."
    )
    # All else is seen to as ever.
    assert world.cluster.child(Kind.POD)
    webhook.is_there = False
    await world.pass_time(key, 5 * MINUTE)
    assert world.ready(key) == ("True", "Open")


async def test_a_child_that_is_held_back_is_made_anew_at_once_when_it_goes(world):
    make_all_internal(world)
    key = world.apply(tunnel_body(expose={"service": {"type": "NodePort"}}))
    await world.settle(key)
    gone = world.cluster.child(Kind.SERVICE)
    del world.cluster.children[key.namespace, Kind.SERVICE, key.name]
    world.cache.drop_child(gone)
    await world.settle(key)
    assert world.cluster.child(Kind.SERVICE)


async def test_a_change_of_the_tunnel_is_written_at_once(world):
    make_all_internal(world)
    key = world.apply(tunnel_body(expose={"service": {"type": "NodePort"}}))
    await world.settle(key)
    await world.pass_time(key, 10 * MINUTE)
    world.apply(tunnel_body())
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_pass_without_an_end_comes_again_later_each_time_but_for_what_is_due(world):
    """As when an object's marks are changed by which the operator knows it."""
    key = world.apply(tunnel_body(ttl="10m"))
    apply = world.cluster.apply

    async def without_marks(manifest, *, is_known):
        body = await apply(manifest, is_known=is_known)
        if body["kind"] == Kind.SECRET:
            body["metadata"]["annotations"] = {}
        return body

    world.cluster.apply = without_marks
    with structlog.testing.capture_logs() as lines:
        waits = []
        for _ in range(6):
            at = await world.reconcile(key)
            waits.append(at - world.now)
            world.now = at
    assert waits == sorted(waits)
    assert timedelta(seconds=10) < waits[-1] <= timedelta(seconds=32)
    said = [line for line in lines if line["event"] == "reconcile.unsettled"]
    assert len(said) == 6
    assert "ApplyForwarderSecret" in said[0]["actions"]
