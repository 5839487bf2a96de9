import base64
import json
from datetime import timedelta

import pytest

from support.operator_world import Crash, OperatorWorld, ended_status
from support.tunnels import GATEWAY, a_class, tunnel_body
from tunnel_forwarder.protocol import sas
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import Postponed


@pytest.fixture
def world():
    world = OperatorWorld()
    world.azure.online.add("mri-7")
    return world


def without_remains(world):
    return not world.azure.connections and not world.azure.listening and not world.cluster.children


async def test_opens_a_tunnel_to_a_device_that_is_online(world):
    key = world.apply(tunnel_body(expose={"ingress": {"host": "mri-7.tunnels.test"}}))
    await world.settle(key)
    ingress = world.cluster.child(Kind.INGRESS)
    assert world.ready(key) == ("False", "WaitingForAddress")
    ingress["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    world.cluster.touch(ingress)
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    status = world.tunnel(key).status
    assert status.url == "http://mri-7.tunnels.test"
    assert [e.address for e in status.endpoints] == ["mri-7.imaging.svc:80", "mri-7.imaging.svc:22"]
    assert {c.type: c.status for c in status.conditions} == dict.fromkeys(
        (
            "Accepted",
            "HybridConnectionReady",
            "DeviceListening",
            "ForwarderReady",
            "Exposed",
            "Ready",
        ),
        "True",
    )


async def test_hands_the_forwarder_a_token_that_only_sends_and_ends_with_the_tunnel(world):
    key = world.apply(tunnel_body(ttl="30m"))
    await world.settle(key)
    data = world.cluster.child(Kind.SECRET)["data"]
    token = sas.parse(base64.b64decode(data["token"]).decode())
    assert token.rule == "tunnel-send-0f1e2d3c"
    [(name, connection)] = world.azure.connections.items()
    assert token.is_signed_with(connection["rules"]["tunnel-send-0f1e2d3c"][1].encode())
    assert token.expires_at == int((world.now + timedelta(minutes=30)).timestamp())
    assert token.audience == f"http://clinic-relay.servicebus.windows.net/{name}"


async def test_a_converged_tunnel_costs_no_write_and_no_method_call(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    writes, opened = dict(world.cluster.writes), world.azure.calls["open mri-7"]
    await world.pass_time(key, timedelta(minutes=20))
    assert dict(world.cluster.writes) == writes
    assert world.azure.calls["open mri-7"] == opened == 1


async def test_a_tunnel_that_is_refused_after_its_end_is_not_looked_at_without_a_pause(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="24h"))
    await world.settle(key)
    assert world.ready(key) == ("False", "TTLTooLong")
    await world.pass_time(key, timedelta(hours=2))
    assert without_remains(world)
    assert await world.reconcile(key) is None


async def test_a_restarted_operator_writes_nothing_for_a_tunnel_that_runs(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    writes = dict(world.cluster.writes)
    world.start_operator()
    await world.settle(key)
    assert dict(world.cluster.writes) == writes
    assert world.azure.calls["open mri-7"] == 1


async def test_waits_for_an_offline_device_and_opens_when_it_comes(world):
    world.azure.online.clear()
    key = world.apply(tunnel_body())
    await world.settle(key)
    assert world.ready(key) == ("False", "DeviceOffline")
    await world.pass_time(key, timedelta(minutes=5))
    attempts = world.azure.calls["open mri-7"]
    assert 5 <= attempts <= 10
    assert (
        "the next try is at 2026-03-01T12:0" in world.tunnel(key).status.condition("Ready").message
    )
    world.azure.online.add("mri-7")
    await world.pass_time(key, timedelta(seconds=121))
    assert world.ready(key) == ("True", "Open")


async def test_says_what_it_waits_for_once(world):
    words = "Waiting for ARM's budget, 37 ahead, about 4 s."
    four = timedelta(seconds=4)
    world.azure.postponed = Postponed(Reason.OPENING, words, retry_after=four)
    key = world.apply(tunnel_body())
    await world.settle(key)
    waiting = world.tunnel(key).status.condition("HybridConnectionReady")
    assert (waiting.reason, waiting.message) == ("Opening", words)
    writes, calls = world.cluster.writes["status"], world.azure.calls["observe"]
    world.now += four / 2
    await world.reconcile(key)
    assert (world.cluster.writes["status"], world.azure.calls["observe"]) == (writes, calls)
    world.azure.postponed = None
    await world.pass_time(key, timedelta(seconds=5))
    assert world.ready(key) == ("True", "Open")
    assert [notice.reason for notice in world.told] == ["Opening", "Starting", "Open"]


async def test_deleting_removes_everything_and_tells_the_device(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert without_remains(world)
    assert world.azure.calls["close mri-7"] == 1


async def test_an_offline_device_does_not_hold_a_deletion(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.azure.online.clear()
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert without_remains(world)


async def test_a_deletion_waits_for_azure_and_gives_up_once_the_tokens_are_dead(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.azure.outage = True
    world.delete(key)
    await world.reconcile(key)
    await world.pass_time(key, timedelta(minutes=50))
    assert world.ready(key) == ("False", "Closing")
    await world.pass_time(key, timedelta(minutes=25))
    assert key not in world.cluster.tunnels


async def test_closes_at_the_end_of_its_time_and_stays_closed(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=10, seconds=1))
    assert world.ready(key) == ("False", "Expired")
    assert without_remains(world)
    assert not world.tunnel(key).has_finalizer
    world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")
    assert without_remains(world)


async def test_a_changed_spec_opens_an_ended_tunnel_again(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    world.apply(tunnel_body(ttl="10m", renewals=1))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.expires_at == world.now + timedelta(minutes=10)
    assert world.tunnel(key).status.session is None


async def test_a_longer_ttl_extends_without_replacing_the_pod(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    pod, opened_at = world.cluster.child(Kind.POD), world.tunnel(key).status.opened_at
    await world.pass_time(key, timedelta(minutes=5))
    world.apply(tunnel_body(ttl="30m"))
    await world.settle(key)
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] == pod["metadata"]["uid"]
    assert world.tunnel(key).status.expires_at == opened_at + timedelta(minutes=30)
    assert world.azure.listening["mri-7"].expires_at == opened_at + timedelta(minutes=30)
    assert world.ready(key) == ("True", "Open")


async def test_suspend_closes_and_resume_opens_anew(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.apply(tunnel_body(suspend=True))
    await world.settle(key)
    assert world.ready(key) == ("False", "Suspended")
    assert without_remains(world)
    world.now += timedelta(minutes=3)
    world.apply(tunnel_body(suspend=False))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.opened_at == world.now


async def test_an_idle_forwarder_ends_the_session_with_its_totals(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=16))
    world.cluster.child(Kind.POD)["status"] = ended_status("Idle", bytesIn=77)
    world.cluster.touch(world.cluster.child(Kind.POD))
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.ready(key) == ("False", "Idle")
    session = world.tunnel(key).status.session
    assert (session.connections, session.bytes_in, session.bytes_out) == (3, 77, 20)
    assert without_remains(world)


async def test_a_forwarder_that_was_drained_is_replaced(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    pod = world.cluster.child(Kind.POD)
    pod["status"] = ended_status("Drained")
    world.cluster.touch(pod)
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] != pod["metadata"]["uid"]
    assert world.ready(key) == ("True", "Open")


async def test_a_device_that_forgot_the_tunnel_is_asked_again(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    world.azure.listening.clear()
    world.run_kubelet()
    await world.settle(key)
    assert world.azure.calls["open mri-7"] == 2
    assert world.ready(key) == ("True", "Open")


async def test_what_the_device_refuses_waits_for_a_person(world):
    world.azure.allowed = {"web"}
    key = world.apply(tunnel_body())
    await world.settle(key)
    assert world.ready(key) == ("False", "DeviceRefused")
    types = {c.type for c in world.tunnel(key).status.conditions}
    assert "Stalled" in types
    assert "Reconciling" not in types
    await world.pass_time(key, timedelta(minutes=4))
    assert world.azure.calls["open mri-7"] == 1


async def test_a_mended_spec_is_tried_at_once(world):
    world.azure.allowed = {"web"}
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.apply(tunnel_body(ports=[{"name": "web", "port": 80, "protocol": "HTTP"}]))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_edited_and_deleted_children_are_put_back(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    service = world.cluster.child(Kind.SERVICE)
    service["spec"]["ports"][0]["targetPort"] = 1
    world.cluster.touch(service)
    world.cluster.feed(world.cache)
    secret = world.cluster.child(Kind.SECRET)
    del world.cluster.children["imaging", Kind.SECRET, "mri-7-forwarder"]
    world.cache.drop_child(secret)
    await world.settle(key)
    assert world.cluster.child(Kind.SERVICE)["spec"]["ports"][0]["targetPort"] == 10002
    assert world.cluster.child(Kind.SECRET) is not None


async def test_a_hybrid_connection_that_was_removed_is_made_again_with_new_tokens(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=1))
    world.azure.connections.clear()
    world.azure.listening.clear()
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_key_that_was_changed_in_azure_is_found_out(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    [connection] = world.azure.connections.values()
    connection["rules"]["tunnel-send-0f1e2d3c"] = ("Send", "another key")
    world.start_operator()
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_changed_secret_reaches_the_pod_at_once(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="30m"))
    await world.settle(key)
    secret, pod = world.cluster.child(Kind.SECRET), world.cluster.child(Kind.POD)
    told = pod["metadata"]["annotations"]["tunnels.dev/secret-version"]
    assert told == secret["metadata"]["resourceVersion"]


async def test_people_are_told_of_transitions_once(world):
    world.azure.online.clear()
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=5))
    world.azure.online.add("mri-7")
    await world.pass_time(key, timedelta(minutes=45))
    told = [(notice.severity.value, notice.reason.value) for notice in world.told]
    assert told == [
        ("Normal", "Opening"),
        ("Warning", "DeviceOffline"),
        ("Normal", "Starting"),
        ("Normal", "Open"),
    ]
    await world.pass_time(key, timedelta(minutes=20))
    assert [notice.reason.value for notice in world.told[4:]] == ["ExpiresSoon", "Expired"]


async def test_a_device_is_told_that_one_socket_may_be_shared(world):
    world.classes = [a_class(forwarder={"multiplex": True})]
    world.start_operator()
    key = world.apply(tunnel_body())
    await world.settle(key)
    assert world.azure.listening["mri-7"].features == ("mux/1",)


async def test_clients_are_settled_before_anybody_is_let_in_and_may_change(world):
    key = world.apply(tunnel_body(allowedClients=[{"podSelector": {}}]))
    await world.settle(key)
    kinds = [kind for _, kind, _ in world.cluster.children]
    assert kinds.index(Kind.NETWORK_POLICY) < kinds.index(Kind.POD)
    world.apply(tunnel_body())
    await world.settle(key)
    assert world.cluster.child(Kind.NETWORK_POLICY) is None
    assert world.ready(key) == ("True", "Open")


def for_stock_devices(world, **spec):
    world.classes = [a_class(hybridConnectionNaming="Device", portName="test", **spec)]
    world.start_operator()


ONE_PORT = {"ports": [{"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"}]}


async def test_a_stock_device_is_met_at_the_hybrid_connection_of_its_name(world):
    for_stock_devices(world)
    key = world.apply(tunnel_body(**ONE_PORT, ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert list(world.azure.connections) == ["mri-7"]
    # The device brings its own credential: it gets none of ours.
    assert list(world.azure.connections["mri-7"]["rules"]) == ["tunnel-send-0f1e2d3c"]
    data = world.cluster.child(Kind.SECRET)["data"]
    settings = json.loads(base64.b64decode(data["settings.json"]))
    assert settings["ports"] == [{"name": "test", "listen": 10001}]
    world.apply(tunnel_body(**ONE_PORT, ttl="30m"))
    await world.settle(key)
    assert world.azure.calls["open mri-7"] == 1
    world.delete(key)
    await world.reconcile(key)
    assert without_remains(world)


async def test_a_hybrid_connection_that_was_there_before_is_left_in_place(world):
    for_stock_devices(world)
    there = {"rules": {"provisioned": ("Listen", "a key")}}
    world.azure.connections["mri-7"] = there
    key = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert "owner" not in there
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.azure.connections == {"mri-7": {"rules": {"provisioned": ("Listen", "a key")}}}


async def test_a_second_tunnel_to_a_stock_device_waits_and_says_for_whom(world):
    for_stock_devices(world)
    first = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(first)
    body = tunnel_body(uid="11111111-0000", **ONE_PORT)
    body["metadata"]["name"] = "second"
    second = world.apply(body)
    await world.reconcile(second)
    assert world.ready(second) == ("False", "NameTaken")
    ready = world.tunnel(second).status.condition("Ready")
    assert ready.message == "Hybrid connection 'mri-7' is in use by Tunnel imaging/mri-7."
    world.delete(second)
    await world.reconcile(second)
    assert list(world.azure.connections) == ["mri-7"]


async def test_a_changed_pod_template_replaces_the_pod_and_nothing_else(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    pod, writes = world.cluster.child(Kind.POD), dict(world.cluster.writes)
    template = {"spec": {"nodeSelector": {"pool": "edge"}}}
    world.cache.put_class(a_class(forwarder={"podTemplate": template}))
    await world.settle(key)
    replaced = world.cluster.child(Kind.POD)
    assert replaced["metadata"]["uid"] != pod["metadata"]["uid"]
    assert replaced["spec"]["nodeSelector"] == {"pool": "edge"}
    assert world.ready(key) == ("True", "Open")
    changed = {k for k, n in world.cluster.writes.items() if n != writes.get(k, 0)}
    assert changed == {"status", "Pod", "delete Pod"}


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
    assert without_remains(world)


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


async def test_a_service_of_somebody_else_is_left_alone(world):
    foreign = {
        "kind": "Service",
        "metadata": {"name": "mri-7", "namespace": "imaging", "ownerReferences": [{"uid": "x"}]},
    }
    world.cluster.children["imaging", Kind.SERVICE, "mri-7"] = foreign
    key = world.apply(tunnel_body())
    await world.reconcile(key)
    assert world.ready(key) == ("False", "NameTaken")
    assert world.cluster.children["imaging", Kind.SERVICE, "mri-7"] == foreign


async def test_a_tunnel_of_another_operators_class_is_left_alone(world):
    world.classes = []
    world.start_operator()
    world.cache.put_class(a_class(controllerName="elsewhere.test/operator"))
    key = world.apply(tunnel_body())
    await world.reconcile(key)
    assert "status" not in world.cluster.tunnels[key]


async def test_says_that_the_class_is_missing_and_begins_when_it_comes(world):
    world.classes, known = [], world.classes
    world.start_operator()
    key = world.apply(tunnel_body())
    await world.settle(key)
    assert world.ready(key) == ("False", "ClassNotFound")
    world.cache.put_class(known[0])
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_an_outage_of_azure_says_nothing_against_a_tunnel_that_runs(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    writes = dict(world.cluster.writes)
    world.azure.outage = True
    await world.pass_time(key, timedelta(minutes=20))
    assert world.ready(key) == ("True", "Open")
    assert dict(world.cluster.writes) == writes


def retaining(world, **spec):
    world.classes = [a_class(deletionPolicy="Retain", **spec)]
    world.start_operator()


def kept(world, name="imaging.mri-7"):
    """Return whether just this one is there, and lets nobody in."""
    [(there, connection)] = world.azure.connections.items()
    is_open = connection["rules"] or world.azure.listening or world.cluster.children
    return there == name and connection["is_retained"] and not is_open


async def test_a_hybrid_connection_may_be_kept_without_its_rules(world):
    retaining(world)
    key = world.apply(tunnel_body())
    await world.settle(key)
    token = base64.b64decode(world.cluster.child(Kind.SECRET)["data"]["token"]).decode()
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert kept(world)
    assert world.azure.calls["close mri-7"] == 1
    assert not world.azure.lets_in("imaging.mri-7", token)


async def test_a_tunnel_of_the_same_name_takes_over_what_was_kept_and_another_does_not(world):
    retaining(world, hybridConnectionNaming="Device", portName="test")
    key = world.apply(tunnel_body(**ONE_PORT))
    await world.settle(key)
    world.delete(key)
    await world.reconcile(key)
    other = tunnel_body(uid="22222222-0000", **ONE_PORT)
    other["metadata"]["name"] = "other"
    second = world.apply(other)
    await world.reconcile(second)
    assert world.ready(second) == ("False", "NameTaken")
    message = world.tunnel(second).status.condition("Ready").message
    assert message.startswith("Hybrid connection 'mri-7' is kept for Tunnel imaging/mri-7.")
    world.delete(second)
    await world.reconcile(second)
    assert kept(world, "mri-7")
    key = world.apply(tunnel_body(uid="11111111-0000", **ONE_PORT))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    [connection] = world.azure.connections.values()
    assert connection["owner"] == "11111111-0000"
    assert not connection["is_retained"]
    assert list(connection["rules"]) == ["tunnel-send-11111111"]


async def test_a_suspended_or_ended_tunnel_lets_nobody_in_and_takes_over_what_was_kept_of_it(world):
    retaining(world)
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="10m", suspend=True))
    await world.settle(key)
    assert world.ready(key) == ("False", "Suspended")
    assert kept(world)
    assert not world.tunnel(key).has_finalizer
    world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    await world.pass_time(key, timedelta(minutes=11))
    assert world.ready(key) == ("False", "Expired")
    assert kept(world)
    world.delete(key)
    await world.reconcile(key)
    assert kept(world)


@pytest.mark.parametrize("at", range(8))
async def test_killed_after_any_step_of_keeping_it_ends_in_the_same_state(world, at):
    retaining(world)
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    assert await crash_and_recover(world, key, at)
    assert key not in world.cluster.tunnels
    assert kept(world)


async def test_azure_is_written_once_for_a_tunnel_whose_mark_is_older_than_what_is_marked_now(
    world,
):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=20))
    world.start_operator()
    await world.settle(key)
    assert world.azure.calls["ensure"] == 1


async def crash_and_recover(world, key, at):
    world.crash_at = world.steps + at
    crashed = False
    try:
        await world.settle(key)
    except (Crash, BaseExceptionGroup):
        crashed = True
    world.crash_at = None
    world.start_operator()
    world.run_kubelet()
    await world.settle(key)
    return crashed


@pytest.mark.parametrize("at", range(11))
async def test_killed_after_any_step_of_opening_it_ends_in_the_same_state(world, at):
    key = world.apply(tunnel_body())
    assert await crash_and_recover(world, key, at)
    assert world.ready(key) == ("True", "Open")
    assert len(world.azure.connections) == 1
    # Asked twice only when the first answer was not on record yet.
    assert world.azure.calls["open mri-7"] <= 2


@pytest.mark.parametrize("at", range(6))
async def test_killed_after_any_step_of_closing_everything_is_removed(world, at):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    assert await crash_and_recover(world, key, at)
    assert key not in world.cluster.tunnels
    assert without_remains(world)


async def test_deleted_while_the_operator_is_down_everything_is_removed(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    world.start_operator()
    await world.settle(key)
    assert key not in world.cluster.tunnels
    assert without_remains(world)
