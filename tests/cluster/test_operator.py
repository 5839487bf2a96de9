"""One tunnel's life, through the official SDKs, a real API server and the operator's own rights."""

import json

import pytest

from support.kubectl import KubectlError, eventually
from support.tunnels import tunnel_body

WAYS = [
    "Accepted",
    "HybridConnectionReady",
    "DeviceListening",
    "ForwarderReady",
    "Exposed",
    "Ready",
]


async def test_opens_shows_and_closes_a_tunnel(stage):
    await stage.open()

    body = stage.tunnel()
    assert [c["type"] for c in body["status"]["conditions"]] == WAYS
    assert {c["observedGeneration"] for c in body["status"]["conditions"]} == {1}
    [connection] = stage.azure.hybrid_connections().values()
    assert connection.name == body["status"]["hybridConnection"]["name"]
    assert connection.listeners == 1
    assert connection.requires_client_authorization
    rules = [rule.rpartition("-")[0] for rule in connection.rules]
    assert sorted(rules) == ["tunnel-listen", "tunnel-send"]
    assert [child["kind"] for child in stage.children()] == ["Pod", "Secret", "Service"]
    line = stage.kubectl("get", "tun", "-n", stage.namespace, "--no-headers").split()
    assert line[:4] == ["mri-7", "mri-7", "True", "Open"]

    events = stage.kubectl.items("events.events.k8s.io", "-n", stage.namespace)
    events.sort(key=lambda event: event["eventTime"])
    about = [e["reason"] for e in events if e["regarding"]["kind"] == "Tunnel"]
    assert "Opening" not in about
    assert about[-1] == "Open"

    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    assert [c.method for c in stage.azure.method_calls] == ["CreateConnection", "DeleteConnection"]


async def test_an_offline_device_is_said_to_be_and_the_tunnel_opens_when_it_comes(stage):
    await stage.operator.start()
    stage.apply()
    await stage.until_ready_is("False", "DeviceOffline")
    await stage.device.start()
    await stage.until_ready_is("True", "Open", within=60)


async def test_killed_between_hybrid_connection_and_pod_it_ends_the_same_and_does_nothing_twice(
    stage,
):
    """A policy that refuses Pods holds the operator at that very point."""
    forbid_pods(stage)
    await eventually(lambda: are_pods_refused(stage))
    await stage.device.start()
    await stage.operator.start()
    stage.apply()
    await eventually(lambda: "refused-for-the-test" in str(stage.tunnel().get("status")))
    assert [child["kind"] for child in stage.children() if child["kind"] == "Pod"] == []
    await stage.operator.kill()
    stage.kubectl("delete", "validatingadmissionpolicybinding", stage.namespace)
    await eventually(lambda: not are_pods_refused(stage))
    await stage.start_operator_again()
    await stage.until_ready_is("True", "Open")
    assert len(stage.azure.hybrid_connections()) == 1
    puts = [call.kind for call in stage.azure.arm_calls if call.method == "PUT"]
    assert len(puts) == 3
    assert [call.method for call in stage.azure.method_calls] == ["CreateConnection"]


async def test_deleted_while_the_operator_is_down_everything_is_removed(stage):
    await stage.open()
    await stage.operator.kill()
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    assert stage.tunnel()["metadata"]["deletionTimestamp"]
    await stage.start_operator_again()
    await stage.until_gone()


async def test_a_tunnel_that_was_restored_with_its_finalizer_is_removed_in_the_end(stage):
    """It is the restorer's then, too, as all fields are once `managedFields` are cleared."""
    where = ("-n", stage.namespace)
    body = tunnel_body(tunnelClassName=stage.class_name)
    finalizers = ["example.com/first", "tunnels.dev/cleanup"]
    body["metadata"] = {"name": "mri-7", "namespace": stage.namespace, "finalizers": finalizers}
    stage.kubectl("create", "-f", "-", stdin=json.dumps(body))
    await stage.device.start()
    await stage.operator.start()
    await stage.until_ready_is("True", "Open")
    cleared = json.dumps({"metadata": {"managedFields": [{}]}})
    stage.kubectl("patch", "tunnel", "mri-7", *where, "--type=merge", "-p", cleared)
    stage.kubectl("delete", "tunnel", "mri-7", *where, "--wait=false")
    await eventually(lambda: stage.tunnel()["metadata"]["finalizers"] == ["example.com/first"])
    no_finalizer = json.dumps({"metadata": {"finalizers": None}})
    stage.kubectl("patch", "tunnel", "mri-7", *where, "--type=merge", "-p", no_finalizer)
    # No garbage collector runs here; the test plays it.
    for child in stage.children():
        options = ("--grace-period=0", "--force")
        name = f"{child['kind']}/{child['metadata']['name']}"
        stage.kubectl("delete", name, *where, *options, "--ignore-not-found")
    await stage.until_gone()


@pytest.fixture
def newer_crd(stage):
    """Let Tunnels say what this version does not know, as after the operator was rolled back."""
    name = ("crd", "tunnels.tunnels.dev")
    protocol = (
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ports/items/properties"
        "/protocol/enum/-"
    )
    patch = [{"op": "add", "path": protocol, "value": "QUIC"}]
    stage.kubectl("patch", *name, "--type=json", "-p", json.dumps(patch))
    yield
    stage.kubectl("delete", "tunnels", "-l", "is=unreadable", "-n", stage.namespace)
    patch = [{"op": "remove", "path": f"{protocol[:-1]}3"}]
    stage.kubectl("patch", *name, "--type=json", "-p", json.dumps(patch))


def create_unreadable(stage, name):
    body = tunnel_body(ports=[{"name": "web", "port": 80, "protocol": "QUIC"}])
    labels = {"is": "unreadable"}
    body["metadata"] = {"name": name, "namespace": stage.namespace, "labels": labels}
    try:
        stage.kubectl.apply(body)
    except KubectlError:
        # The API server takes a moment to heed a changed schema.
        return False
    return True


@pytest.mark.usefixtures("newer_crd")
async def test_a_tunnel_that_this_version_can_not_read_stops_no_other(stage):
    await eventually(lambda: create_unreadable(stage, "a-newer-one"))
    await stage.open()
    assert create_unreadable(stage, "a-second-one")
    await eventually(
        lambda: stage.operator.output.count("tunnel.unreadable") >= 2,
        explain=lambda: stage.operator.output,
    )
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    for word in ("pass.crashed", "pass.failed", "Traceback"):
        assert word not in stage.operator.output


async def test_what_is_edited_or_deleted_is_put_back_and_a_settled_tunnel_is_not_written(stage):
    await stage.open()
    where = ("-n", stage.namespace)
    settled = stage.tunnel()["metadata"]["resourceVersion"]

    patch = '{"spec": {"selector": {"tunnels.dev/tunnel": "another"}}}'
    stage.kubectl("patch", "service", "mri-7", *where, "-p", patch)
    await eventually(
        lambda: (
            stage.kubectl.get("service", "mri-7", *where)["spec"]["selector"]
            == {"tunnels.dev/tunnel": "mri-7"}
        )
    )
    for kind in ("pod", "secret"):
        name = (kind, "mri-7-forwarder", *where)
        stage.kubectl("label", "--overwrite", *name, "tunnels.dev/tunnel=another")
        await eventually(
            lambda name=name: (
                stage.kubectl.get(*name)["metadata"]["labels"]["tunnels.dev/tunnel"] == "mri-7"
            )
        )
    secret = ("secret", "mri-7-forwarder", *where)
    told = stage.kubectl.get(*secret)["data"]
    stage.kubectl("patch", *secret, "-p", '{"data": {"settings.json": "e30=", "token": "e30="}}')
    await eventually(lambda: stage.kubectl.get(*secret)["data"] == told)
    stage.kubectl("delete", "service", "mri-7", *where)
    await eventually(lambda: stage.kubectl.get("service", "mri-7", *where))
    stage.kubectl("delete", "secret", "mri-7-forwarder", *where)
    await eventually(lambda: stage.kubectl.get("secret", "mri-7-forwarder", *where))
    await stage.until_ready_is("True", "Open")

    quiet = stage.tunnel()["metadata"]["resourceVersion"]
    await stage.operator.stop()
    calls = len(stage.azure.arm_calls)
    await stage.operator.start()
    await stage.azure.until(lambda: len(stage.azure.arm_calls) > calls, timeout=20)
    assert stage.tunnel()["metadata"]["resourceVersion"] == quiet
    assert int(quiet) >= int(settled)
    assert [call.method for call in stage.azure.method_calls] == ["CreateConnection"]


async def test_a_child_whose_label_is_taken_off_gets_it_back_and_is_removed_with_its_tunnel(stage):
    """To a watch by that label it is gone."""
    await stage.open()
    label, service = "app.kubernetes.io/managed-by", ("service", "mri-7", "-n", stage.namespace)
    stage.kubectl("label", *service, f"{label}-")
    await eventually(lambda: label in stage.kubectl.get(*service)["metadata"]["labels"])
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    assert "reconcile.unsettled" not in stage.operator.output


async def test_a_changed_port_reaches_service_and_device(stage):
    await stage.open()
    stage.apply(ports=[{"name": "web", "port": 81, "target": "localhost:8080", "protocol": "HTTP"}])
    await eventually(
        lambda: (
            [
                port["port"]
                for port in stage.kubectl.get("service", "mri-7", "-n", stage.namespace)["spec"][
                    "ports"
                ]
            ]
            == [81]
        )
    )
    await stage.until_ready_is("True", "Open")
    [forward] = stage.azure.method_calls[-1].payload["forwards"]
    assert forward["portName"] == "web"


async def test_clients_are_kept_to_those_that_are_allowed(stage):
    await stage.open(allowedClients=[{"podSelector": {"matchLabels": {"app": "browser"}}}])
    policies = stage.kubectl.items("networkpolicies", "-n", stage.namespace)
    assert [policy["metadata"]["name"] for policy in policies] == ["mri-7-forwarder"]
    stage.apply(allowedClients=[{"cidr": "192.0.2.0/24"}])
    await eventually(
        lambda: "192.0.2.0/24" in str(stage.kubectl.items("networkpolicies", "-n", stage.namespace))
    )
    # The API server leaves the empty labels out.
    everybody = {"matchLabels": {}}
    stage.apply(allowedClients=[{"podSelector": everybody, "namespaceSelector": everybody}])
    await eventually(
        lambda: (
            "namespaceSelector"
            in str(stage.kubectl.items("networkpolicies", "-n", stage.namespace))
        )
    )
    stage.apply()
    await eventually(lambda: not stage.kubectl.items("networkpolicies", "-n", stage.namespace))
    for word in ("child.altered", "reconcile.unsettled"):
        assert word not in stage.operator.output


async def test_what_the_device_does_not_allow_is_said(stage):
    await stage.device.start()
    await stage.operator.start()
    stage.apply(ports=[{"name": "db", "port": 5432}])
    await stage.until_ready_is("False", "DeviceRefused")
    stalled = next(c for c in stage.tunnel()["status"]["conditions"] if c["type"] == "Stalled")
    assert stalled["message"] == (
        "Device 'mri-7' does not allow: db. Its own list of targets decides."
    )


async def test_no_key_and_no_token_reaches_log_status_or_pod(stage):
    await stage.open()
    shown = stage.operator.output + str(stage.tunnel())
    shown += str([child for child in stage.children() if child["kind"] != "Secret"])
    for mark in ("SharedAccess", "sig=", "eyJ"):
        assert mark not in shown


@pytest.fixture
def hub_connection_string(stage, tunnel_class):
    text = stage.azure.endpoints.hubs[0].connection_string.reveal()
    stage.kubectl(
        *("create", "secret", "generic", stage.namespace, "-n", "tunnels-system"),
        f"--from-literal=connectionString={text}",
    )
    tunnel_class["spec"]["iotHub"]["connectionStringSecretRef"] = {"name": stage.namespace}
    stage.kubectl.apply(tunnel_class)
    yield
    stage.kubectl("delete", "secret", stage.namespace, "-n", "tunnels-system")


@pytest.mark.usefixtures("hub_connection_string")
async def test_iot_hub_can_be_reached_by_a_connection_string_from_a_secret(stage):
    await stage.open()


def forbid_pods(stage):
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": stage.namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": stage.namespace}
                },
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            },
            "validations": [{"expression": "false", "message": "refused-for-the-test"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": stage.namespace},
        "spec": {"policyName": stage.namespace, "validationActions": ["Deny"]},
    }
    stage.kubectl.apply(policy)
    stage.kubectl.apply(binding)


def are_pods_refused(stage):
    """Ask the API server, which takes a moment to heed a changed policy."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": stage.namespace},
        "spec": {"containers": [{"name": "probe", "image": "none"}]},
    }
    try:
        stage.kubectl.apply(pod, "--dry-run=server")
    except KubectlError as error:
        return "refused-for-the-test" in str(error)
    return False
