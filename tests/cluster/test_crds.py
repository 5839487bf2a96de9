"""What the API server itself says to a person who writes a Tunnel or a TunnelClass."""

import json

import pytest

from support.kubectl import KubectlError
from support.tunnels import class_body, tunnel_body


def tunnel(name="mri-7", **spec):
    body = tunnel_body(name, **spec)
    body["metadata"] = {"name": name, "namespace": "default"}
    return body


def tunnel_class(**spec):
    body = class_body(**spec)
    body["metadata"] = {"name": "azure"}
    return body


def refusal(kubectl, body):
    with pytest.raises(KubectlError) as error:
        kubectl.apply(body, "--dry-run=server")
    return str(error.value)


WEB = {"name": "web", "port": 80, "protocol": "HTTP"}
BAD_TUNNELS = [
    (tunnel("Mri"), "must consist of lower case"),
    (tunnel("7-mri"), "begins with a letter"),
    (tunnel("m" * 53), "at most 52 characters"),
    (tunnel(device={"id": ""}), "should be at least 1 chars long"),
    (tunnel(device={"id": "no spaces"}), "spec.device.id"),
    (tunnel(ports=[]), "should have at least 1 items"),
    (tunnel(ports=[WEB, WEB | {"name": "web2"}]), "two ports have the same number"),
    (tunnel(ports=[WEB | {"name": "80"}]), "a port's name needs a letter"),
    (tunnel(ports=[WEB | {"port": 70000}]), "should be less than or equal to 65535"),
    (tunnel(ports=[WEB | {"target": "localhost"}]), "spec.ports[0].target"),
    (
        tunnel(ports=[WEB | {"target": "localhost:70000"}]),
        "the target's port must be between 1 and 65535",
    ),
    (tunnel(ports=[WEB | {"protocol": "UDP"}]), 'supported values: "HTTP", "HTTPS", "TCP"'),
    (
        tunnel(ports=[{"name": "ssh", "port": 22}], expose={"ingress": {"host": "a.test"}}),
        "an Ingress carries HTTP only",
    ),
    (
        tunnel(expose={"ingress": {"portName": "ssh"}}),
        "expose.ingress.portName must be the name of one of the ports with protocol HTTP",
    ),
    (tunnel(expose={"gateway": {}}), "should have at least 1 properties"),
    (
        tunnel(ports=[{"name": "ssh", "port": 22}], expose={"gateway": {"http": {}}}),
        "expose.gateway.http needs a port with protocol HTTP",
    ),
    (tunnel(expose={"gateway": {"http": {"portName": "ssh"}}}), "expose.gateway.http needs"),
    (
        tunnel(expose={"gateway": {"tls": {}}}),
        "expose.gateway.tls needs a port with protocol HTTPS",
    ),
    (tunnel(expose={"gateway": {"tls": {"portName": "web"}}}), "expose.gateway.tls needs"),
    (tunnel(ports=[WEB], expose={"gateway": {"tcp": {}}}), "expose.gateway.tcp needs a port"),
    (tunnel(expose={"gateway": {"tcp": {"portName": "none"}}}), "expose.gateway.tcp needs"),
    (tunnel(ttl="soon"), "spec.ttl"),
    (tunnel(ttl=""), "ttl must be at least 30s"),
    (tunnel(ttl="5s"), "ttl must be at least 30s"),
    (tunnel(ttl="1000h"), "ttl must be at most 168h"),
    (tunnel(idleTimeout="3s"), "idleTimeout must be 0s (never) or at least 10s"),
    (tunnel(allowedClients=[{}]), "give a cidr, or a podSelector"),
    (
        tunnel(allowedClients=[{"cidr": "192.0.2.0/24", "podSelector": {}}]),
        "give a cidr, or a podSelector",
    ),
    *(
        (tunnel(allowedClients=[{"cidr": cidr}]), "cidr must be an address and the length")
        for cidr in ("192.0.2.0/99", "192.0.2.0/33", "256.0.2.0/24", "192.0.2/24", "::/129")
    ),
    *(
        (
            tunnel(allowedClients=[{side: {"matchExpressions": [expression]}}]),
            "In and NotIn need values, Exists and DoesNotExist have none",
        )
        for side in ("podSelector", "namespaceSelector")
        for expression in (
            {"key": "app", "operator": "In"},
            {"key": "app", "operator": "NotIn", "values": []},
            {"key": "app", "operator": "Exists", "values": ["x"]},
        )
    ),
    (tunnel(bogus=True), 'unknown field "spec.bogus"'),
]


def templated(**template):
    return tunnel_class(forwarder={"podTemplate": template})


BAD_CLASSES = [
    (
        templated(metadata={"labels": {"tunnels.dev/tunnel": "x"}}),
        "are the operator's, which finds its Pods by them",
    ),
    (
        templated(metadata={"labels": {"app.kubernetes.io/managed-by": "x"}}),
        "are the operator's, which finds its Pods by them",
    ),
    (
        templated(metadata={"annotations": {"tunnels.dev/revision": "x"}}),
        "annotations of tunnels.dev/ are the operator's",
    ),
    (
        templated(
            metadata={
                "annotations": {"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}
            }
        ),
        "an annotation must not change the forwarder's security profile",
    ),
    (
        templated(spec={"tolerations": [{"operator": "Equal"}]}),
        "a toleration without a key needs operator Exists",
    ),
    (
        templated(spec={"containers": []}),
        'unknown field "spec.forwarder.podTemplate.spec.containers"',
    ),
    (
        templated(spec={"securityContext": {}}),
        'unknown field "spec.forwarder.podTemplate.spec.securityContext"',
    ),
    (
        tunnel_class(limits={"defaultTTL": "4h", "maxTTL": "2h"}),
        "limits.defaultTTL must not be longer than limits.maxTTL",
    ),
    (tunnel_class(iotHub={"hostName": "https://hub"}), "spec.iotHub.hostName"),
    (tunnel_class(access=[{"devices": ["mri *"]}]), "spec.access[0].devices[0]"),
    (
        tunnel_class(exposure={"allowedServiceTypes": ["ExternalName"]}),
        'supported values: "ClusterIP", "NodePort", "LoadBalancer"',
    ),
    (
        tunnel_class(exposure={"allowedDomains": ["*.tunnels.test"]}),
        "spec.exposure.allowedDomains[0]",
    ),
    (tunnel_class(access=[{"ports": [0]}]), "should be greater than or equal to 1"),
    (
        tunnel_class(
            access=[{"namespaces": {"matchExpressions": [{"key": "team", "operator": "In"}]}}]
        ),
        "In and NotIn need values, Exists and DoesNotExist have none",
    ),
    (
        tunnel_class(
            relay=class_body()["spec"]["relay"] | {"endpoint": "https://x.servicebus.windows.net"}
        ),
        "spec.relay.endpoint",
    ),
]


@pytest.mark.parametrize(
    ("body", "sentence"), BAD_TUNNELS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_bad_tunnel_is_refused_with_a_sentence(kubectl, body, sentence):
    assert sentence in refusal(kubectl, body)


@pytest.mark.parametrize(
    ("body", "sentence"), BAD_CLASSES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_bad_class_is_refused_with_a_sentence(kubectl, body, sentence):
    assert sentence in refusal(kubectl, body)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"device": {"id": "another"}}, "a Tunnel is to one device for life"),
        ({"tunnelClassName": "another"}, "tunnelClassName can not be changed"),
        ({"tunnelClassName": None}, "tunnelClassName can not be changed"),
    ],
)
def test_what_a_tunnel_is_to_stays(kubectl, namespace, change, sentence):
    body = tunnel()
    body["metadata"]["namespace"] = namespace
    kubectl.apply(body)
    patch = json.dumps({"spec": change})
    with pytest.raises(KubectlError, match=sentence):
        kubectl("patch", "tunnel", "mri-7", "-n", namespace, "--type=merge", "-p", patch)


def test_a_class_stays_with_its_relay_namespace(kubectl, namespace):
    body = tunnel_class()
    body["metadata"]["name"] = namespace
    kubectl.apply(body)
    body["spec"]["relay"] |= {"endpoint": "sb://relay.test:1/"}
    kubectl.apply(body)
    body["spec"]["relay"] |= {"namespace": "another-relay"}
    assert "the Relay namespace of a class can not be changed" in refusal(kubectl, body)
    kubectl("delete", "tunnelclass", namespace)


def test_a_fresh_tunnel_is_not_taken_for_a_healthy_one(kubectl, namespace):
    """kstatus calls an object without conditions current."""
    body = tunnel()
    body["metadata"]["namespace"] = namespace
    kubectl.apply(body)
    seen = kubectl.get("tunnel", "mri-7", "-n", namespace)
    [ready] = seen["status"]["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "Unknown", "Pending")
    assert seen["spec"]["suspend"] is False
    assert seen["spec"]["ports"][1]["protocol"] == "TCP"


def test_tunnels_can_be_listed_by_device(kubectl, namespace):
    for name in ("mri-7", "ct-1"):
        body = tunnel(name)
        body["metadata"]["namespace"] = namespace
        kubectl.apply(body)
    found = kubectl.items("tun", "-n", namespace, "--field-selector", "spec.device.id=ct-1")
    assert [item["metadata"]["name"] for item in found] == ["ct-1"]
    header = kubectl("get", "tunnels", "-n", namespace).splitlines()[0].split()
    assert header == ["NAME", "DEVICE", "READY", "REASON", "URL", "EXPIRES", "AGE"]
    assert "tunnel.tunnels.dev/mri-7" in kubectl("get", "all", "-n", namespace)


@pytest.mark.parametrize(
    "cidr", ["0.0.0.0/0", "192.0.2.255/32", "10.0.0.0/8", "2001:db8::/32", "::/0", "::1/128"]
)
def test_ranges_of_addresses_are_accepted(kubectl, cidr):
    kubectl.apply(tunnel(allowedClients=[{"cidr": cidr}]), "--dry-run=server")


def test_examples_are_accepted(kubectl):
    for name in (
        "tunnelclass",
        "tunnelclass-access",
        "tunnelclass-stock-devices",
        "tunnelclass-pod-template",
        "tunnelclass-retain",
    ):
        kubectl("apply", "-f", f"manifests/examples/{name}.yaml", "--dry-run=server")
    kubectl("create", "namespace", "imaging")
    for name in ("tunnel", "tunnel-gateway"):
        kubectl("apply", "-f", f"manifests/examples/{name}.yaml", "--dry-run=server")
