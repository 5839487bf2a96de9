"""What a running tunnel has of its class: which one it took, and what becomes of it when the class goes."""

from datetime import timedelta

import pytest

from support.operator_world import ended_status
from support.tunnels import a_class, class_body, tunnel_body
from tunnel_operator.api.tunnel_class import DEFAULT_ANNOTATION, TunnelClass
from tunnel_operator.core.observed import Kind

RELAY = class_body()["spec"]["relay"]


def default_class(name, **spec):
    body = class_body(name, **spec)
    body["metadata"]["annotations"] = {DEFAULT_ANNOTATION: "true"}
    return TunnelClass.from_dict(body)


def drop_class(world, *, is_remembered, name="azure"):
    world.classes = [klass for klass in world.classes if klass.metadata.name != name]
    world.cache.drop_class(name)
    if not is_remembered:
        world.start_operator()


def accepted(world, key):
    condition = world.tunnel(key).status.condition("Accepted")
    return condition.status, condition.reason


async def test_another_default_class_moves_no_tunnel_that_runs(world):
    elsewhere = default_class("a", relay=RELAY | {"namespace": "another-relay"})
    world.classes = [default_class("b")]
    world.start_operator()
    key = world.apply(tunnel_body(tunnelClassName=None, ttl="1h"))
    await world.settle(key)
    assert world.tunnel(key).status.tunnel_class_name == "b"
    world.classes.append(elsewhere)
    for _ in range(2):
        await world.settle(key)
        assert world.ready(key) == ("True", "Open")
        assert world.azure.places() == {"clinic-relay"}
        world.start_operator()
    world.azure.outage = True
    world.apply(tunnel_body(tunnelClassName=None, suspend=True))
    await world.reconcile(key)
    world.apply(tunnel_body(tunnelClassName=None, ttl="2h"))
    await world.reconcile(key)
    world.azure.outage = False
    await world.pass_time(key, timedelta(minutes=1))
    # It had not been closed yet, so it is opened again where it was.
    assert world.azure.places() == {"clinic-relay"}


async def test_an_opening_after_the_end_takes_the_default_class_of_then(world):
    world.classes = [default_class("b")]
    world.start_operator()
    key = world.apply(tunnel_body(tunnelClassName=None, ttl="10m"))
    await world.settle(key)
    world.classes.append(default_class("a", relay=RELAY | {"namespace": "another-relay"}))
    world.start_operator()
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    assert world.is_bare()
    world.apply(tunnel_body(tunnelClassName=None, ttl="10m", renewals=1))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.tunnel_class_name == "a"
    assert world.azure.places() == {"another-relay"}


@pytest.mark.parametrize("is_remembered", [True, False], ids=["remembered", "restarted"])
async def test_a_tunnel_whose_class_is_deleted_runs_on_until_its_end_and_says_so(
    world, is_remembered
):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    pod = world.cluster.child(Kind.POD)["metadata"]["uid"]
    drop_class(world, is_remembered=is_remembered)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert accepted(world, key) == ("True", "ClassDeleted")
    kinds = ["Accepted", "HybridConnectionReady", "DeviceListening", "ForwarderReady", "Exposed"]
    assert [c.type for c in world.tunnel(key).status.conditions] == [*kinds, "Ready"]
    assert world.told[-1].reason == "ClassDeleted"
    writes = dict(world.cluster.writes)
    await world.pass_time(key, timedelta(minutes=40))
    assert dict(world.cluster.writes) == writes
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] == pod
    await world.pass_time(key, timedelta(minutes=21))
    assert world.ready(key) == ("False", "Expired")
    assert not world.cluster.children


async def test_a_class_that_comes_back_is_taken_up_again(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    drop_class(world, is_remembered=False)
    await world.settle(key)
    world.cache.put_class(a_class())
    await world.settle(key)
    assert accepted(world, key) == ("True", "Accepted")
    assert world.azure.calls["open mri-7"] == 1


@pytest.mark.parametrize("is_remembered", [True, False], ids=["remembered", "restarted"])
async def test_without_its_class_a_tunnel_is_not_made_longer(world, is_remembered):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    end = world.tunnel(key).status.expires_at
    drop_class(world, is_remembered=is_remembered)
    world.apply(tunnel_body(ttl="2h"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.expires_at == end


async def test_what_is_remembered_of_a_class_mends_its_tunnels_and_closes_them(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    drop_class(world, is_remembered=True)
    world.cluster.children.clear()
    for kind in Kind:
        child = world.cache.children(key).get(kind)
        if child is not None:
            world.cache.drop_child(child.body)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()
    # And with its last tunnel it is forgotten.
    world.cache.drop_tunnel(key, *world.cache.tunnels()[key])
    assert world.cache.classes_in_use() == []


async def test_what_breaks_without_its_class_is_said(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    drop_class(world, is_remembered=False)
    world.azure.stop_listening()
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("False", "ClassNotFound")
    ready = world.tunnel(key).status.condition("Ready")
    assert ready.message == (
        "There is no TunnelClass 'azure'. The tunnel does not work just now, and is not mended without."
    )
    assert world.azure.calls["open mri-7"] == 1


@pytest.mark.parametrize("end", ["Idle", "suspend"])
async def test_an_end_without_its_class_closes_what_can_be_closed_and_says_what_is_left(world, end):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    [left] = world.azure.connections
    drop_class(world, is_remembered=False)
    if end == "suspend":
        world.apply(tunnel_body(ttl="1h", suspend=True))
    else:
        pod = world.cluster.child(Kind.POD)
        pod["status"] = ended_status("Idle")
        world.cluster.touch(pod)
        world.cluster.feed(world.cache)
    await world.settle(key)
    assert not world.cluster.children
    ready = world.tunnel(key).status.condition("Ready")
    assert ready.reason == ("Suspended" if end == "suspend" else "Idle")
    assert (
        world.tunnel(key)
        .status.condition("Reconciling")
        .message.startswith("The TunnelClass is gone")
    )
    # The tokens live until the end of the tunnel, and it waits for the class as long as that and a little more.
    await world.pass_time(key, timedelta(minutes=76))
    tunnel = world.tunnel(key)
    assert not tunnel.has_finalizer
    assert tunnel.status.hybrid_connection.name == left
    assert left in tunnel.status.condition("Ready").message
    assert tunnel.status.condition("Reconciling") is None
    assert [notice.reason for notice in world.told if left in notice.message] == ["LeftBehind"]
    writes = dict(world.cluster.writes)
    await world.reconcile(key)
    assert dict(world.cluster.writes) == writes


async def test_a_deletion_without_its_class_ends_and_says_what_is_left(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    [left] = world.azure.connections
    drop_class(world, is_remembered=False)
    world.delete(key)
    await world.reconcile(key)
    assert not world.cluster.children
    await world.pass_time(key, timedelta(minutes=76))
    assert key not in world.cluster.tunnels
    assert [notice.reason for notice in world.told if left in notice.message] == ["LeftBehind"]


async def test_a_class_that_comes_back_lets_a_waiting_deletion_end_cleanly(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    drop_class(world, is_remembered=False)
    world.delete(key)
    await world.reconcile(key)
    world.cache.put_class(a_class())
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()


async def test_an_ended_tunnel_stays_as_it_ended_when_its_class_is_deleted(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    writes = dict(world.cluster.writes)
    drop_class(world, is_remembered=False)
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")
    assert dict(world.cluster.writes) == writes


async def test_a_deleted_class_opens_nothing_more(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    drop_class(world, is_remembered=True)
    world.apply(tunnel_body(ttl="10m", renewals=1))
    await world.settle(key)
    assert world.ready(key) == ("False", "ClassNotFound")
    assert world.is_bare()


def change_access(world, access):
    world.classes = [a_class(**({} if access is None else {"access": access}))]
    world.cache.put_class(world.classes[0])


ONLY_IMAGING = [{"namespaces": {"matchLabels": {"team": "imaging"}}}]


async def test_a_stricter_rule_closes_a_tunnel_and_a_later_one_opens_it_for_the_rest_of_its_time(
    world,
):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    ends = world.tunnel(key).status.expires_at
    change_access(world, ONLY_IMAGING)
    await world.settle(key)
    assert world.is_bare()
    tunnel = world.tunnel(key)
    assert not tunnel.has_finalizer
    assert world.ready(key) == ("False", "NotAllowed")
    assert {c.type for c in tunnel.status.conditions} == {"Accepted", "Ready", "Stalled"}
    status = tunnel.status
    assert (status.url, status.endpoints, status.hybrid_connection, status.device) == (
        *(None, ()),
        *(None, None),
    )
    assert status.condition("Ready").message == (
        "TunnelClass 'azure' has no rule in spec.access for namespace 'imaging'."
    )
    assert world.told[-1].reason == "NotAllowed"
    world.now += timedelta(minutes=10)
    world.cluster.namespaces["imaging"] = {"team": "imaging"}
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.expires_at == ends


async def test_what_was_not_allowed_until_its_end_has_expired(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    change_access(world, ONLY_IMAGING)
    await world.settle(key)
    world.now += timedelta(hours=2)
    change_access(world, None)
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")


async def test_an_ended_tunnel_stays_as_it_ended_whatever_the_rules_are(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    change_access(world, [])
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")


async def test_what_is_not_allowed_is_closed_as_soon_as_azure_can_be_asked(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.azure.outage = True
    change_access(world, [])
    await world.settle(key)
    assert not world.cluster.children
    assert world.ready(key) == ("False", "NotAllowed")
    assert "can not be reached" in world.tunnel(key).status.condition("Ready").message
    world.azure.outage = False
    await world.pass_time(key, timedelta(minutes=5))
    assert world.is_bare()


async def test_suspending_closes_a_tunnel_that_its_class_refuses(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="24h", suspend=True))
    await world.settle(key)
    assert world.ready(key) == ("False", "TTLTooLong")
    assert world.is_bare()
