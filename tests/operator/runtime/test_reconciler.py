"""How a Tunnel opens, waits, and stays as it should be."""

import base64
import copy
from datetime import timedelta

import pytest

from support.operator_world import ended_status
from support.tunnels import a_class, tunnel_body
from tunnel_azure_sim.state import KeyPair
from tunnel_forwarder.protocol import sas
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import Postponed


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
    key = connection.rules["tunnel-send-0f1e2d3c"].keys.primary
    assert token.is_signed_with(sas.relay_key(key.reveal()))
    assert token.expires_at == int((world.now + timedelta(minutes=30)).timestamp())
    assert token.audience == f"http://clinic-relay.servicebus.windows.net/{name}"


async def test_a_converged_tunnel_costs_no_write_and_no_method_call(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    writes, opened = dict(world.cluster.writes), world.azure.calls["open mri-7"]
    await world.pass_time(key, timedelta(minutes=20))
    assert dict(world.cluster.writes) == writes
    assert world.azure.calls["open mri-7"] == opened == 1


async def test_a_child_whose_label_was_taken_off_gets_it_back_once(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    service = world.cluster.child(Kind.SERVICE)
    del service["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    world.cluster.touch(service)
    # To a watch by that label it is gone.
    world.cache.drop_child(copy.deepcopy(service))
    writes = world.cluster.writes["Service"]
    await world.settle(key)
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.cluster.writes["Service"] == writes + 1
    assert "app.kubernetes.io/managed-by" in world.cluster.child(Kind.SERVICE)["metadata"]["labels"]
    world.delete(key)
    await world.settle(key)
    assert world.is_bare()
    assert world.cluster.writes["delete Service"] == 1


async def test_a_restarted_operator_writes_nothing_for_a_tunnel_that_runs(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    writes, keys = dict(world.cluster.writes), world.azure.calls["key"]
    world.start_operator()
    await world.settle(key)
    assert dict(world.cluster.writes) == writes
    assert world.azure.calls["open mri-7"] == 1
    assert world.azure.calls["key"] == keys


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
    words = "Waiting for Azure Resource Manager's budget, 1 ahead, about 4 s."
    four = timedelta(seconds=4)
    await world.azure.budget.take("somebody", 200)
    with pytest.raises(Postponed):
        await world.azure.budget.take("another", 35)
    key = world.apply(tunnel_body())
    await world.settle(key)
    waiting = world.tunnel(key).status.condition("HybridConnectionReady")
    assert (waiting.reason, waiting.message) == ("Opening", words)
    writes = world.cluster.writes["status"]
    world.now += four / 2
    await world.reconcile(key)
    assert (world.cluster.writes["status"], world.azure.calls.total()) == (writes, 0)
    await world.pass_time(key, timedelta(seconds=5))
    assert world.ready(key) == ("True", "Open")
    assert [notice.reason for notice in world.told] == ["Starting", "Open"]


async def form_a_line(budget):
    """Let others stand in line for three quarters of a minute."""
    await budget.take("others", 190)
    for number in range(3):
        with pytest.raises(Postponed):
            await budget.take(f"other {number}", 150)


async def test_who_stands_in_line_to_be_opened_asks_azure_nothing_meanwhile(world):
    await form_a_line(world.azure.budget)
    key = world.apply(tunnel_body())
    await world.settle(key)
    # Longer than a look is good for on a tunnel's way up.
    await world.pass_time(key, timedelta(minutes=1))
    assert world.ready(key) == ("True", "Open")
    assert dict(world.azure.calls) == {"ensure": 1, "key": 2, "open mri-7": 1}


async def test_who_stands_in_line_to_be_opened_is_looked_at_when_it_may_be_its_turn(world):
    await form_a_line(world.azure.budget)
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.now = world.recheck_at[key]
    await world.settle(key)
    # Longer since the look than one on the way up is good for, and half of what is left of the wait.
    assert world.recheck_at[key] >= world.now + timedelta(seconds=10)


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
    world.azure.stop_listening()
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
    world.azure.remove()
    world.run_kubelet()
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_key_that_was_changed_in_azure_is_found_out(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    [connection] = world.azure.connections.values()
    connection.rules["tunnel-send-0f1e2d3c"].keys = KeyPair.generate()
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
        ("Warning", "DeviceOffline"),
        ("Normal", "Starting"),
        ("Normal", "Open"),
    ]
    await world.pass_time(key, timedelta(minutes=20))
    assert [notice.reason.value for notice in world.told[3:]] == ["ExpiresSoon", "Expired"]


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


async def test_what_an_earlier_namesake_left_is_waited_for(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    left = dict(world.cluster.children)
    assert len(left) == 3
    # Somebody has taken the finalizer away, and the garbage collector comes late.
    del world.cluster.tunnels[key]
    await world.settle(key)
    world.apply(tunnel_body(uid="11111111-0000-0000-0000-000000000000"))
    await world.settle(key)
    assert world.ready(key) == ("False", "NameTaken")
    assert world.cluster.children == left
    world.cluster.children.clear()
    for body in left.values():
        world.cache.drop_child(body)
    world.now += timedelta(seconds=30)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")


async def test_a_service_of_somebody_else_is_left_alone(world):
    foreign = {
        "kind": "Service",
        "metadata": {
            "name": "mri-7",
            "namespace": "imaging",
            "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "x"}],
        },
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


async def test_azure_is_written_once_for_a_tunnel_whose_mark_is_older_than_what_is_marked_now(
    world,
):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=20))
    world.start_operator()
    await world.settle(key)
    assert world.azure.calls["ensure"] == 1
