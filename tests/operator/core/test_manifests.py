import base64
import json
from datetime import timedelta

from support.tunnels import GATEWAY, IMAGE, NOON, a_class, a_tunnel
from tunnel_forwarder.protocol.settings import ForwarderSettings
from tunnel_operator.core import manifests
from tunnel_operator.core.terms import agree

END = NOON + timedelta(hours=1)


def made(klass=None, **spec):
    tunnel = a_tunnel(**spec)
    return tunnel, agree(tunnel, klass or a_class(), default_image=IMAGE)


def test_the_secret_holds_settings_that_the_forwarder_reads():
    tunnel, terms = made(idleTimeout="5m")
    secret = manifests.with_token(manifests.make_secret(tunnel, terms, END), "TOKEN")
    files = {name: base64.b64decode(data).decode() for name, data in secret["data"].items()}
    settings = ForwarderSettings.from_json(files["settings.json"])
    assert files["token"] == "TOKEN"
    assert "ca.crt" not in files
    assert settings.expires_at == END
    assert settings.idle_seconds == 300
    assert settings.hybrid_connection == "imaging.mri-7.0f1e2d3c"
    assert [(p.name, p.listen) for p in settings.ports] == [("web", 10002), ("ssh", 10001)]


def test_one_socket_is_offered_where_the_class_says_so_and_the_device_is_told():
    told = a_class(forwarder={"multiplex": True})
    stock = a_class(forwarder={"multiplex": True}, hybridConnectionNaming="Device")
    for klass, expected in ((None, False), (told, True), (stock, False)):
        tunnel, terms = made(klass)
        assert manifests.make_settings(tunnel, terms, END).mux is expected


def test_the_class_bounds_the_warm_connections():
    for forwarder, expected in (
        ({}, (2, 8)),
        ({"warmConnections": 4, "maxWarmConnections": 1}, (4, 4)),
        ({"warmConnections": 0}, (0, 0)),
    ):
        tunnel, terms = made(a_class(forwarder=forwarder))
        settings = manifests.make_settings(tunnel, terms, END)
        assert (settings.warm_connections, settings.warm_most) == expected


def test_the_pod_is_as_restricted_as_pods_can_be():
    tunnel, terms = made()
    pod = manifests.make_pod(tunnel, terms)
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "env" not in container
    mounts = {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]}
    assert mounts == {"/etc/tunnel": True, "/tmp": False}
    assert container["image"] == IMAGE


def test_no_secret_is_an_argument_of_the_process():
    tunnel, terms = made()
    [container] = manifests.make_pod(tunnel, terms)["spec"]["containers"]
    assert container["args"] == [
        *("serve", "--settings-dir", "/etc/tunnel"),
        *("--health-port", "10000", "--grace", "25"),
    ]


def test_the_pods_revision_does_not_follow_its_secret():
    tunnel, terms = made()
    pod = manifests.make_pod(tunnel, terms)
    told = manifests.with_secret_version(pod, "7")
    revision = pod["metadata"]["annotations"]["tunnels.dev/revision"]
    assert told["metadata"]["annotations"] == {
        "tunnels.dev/revision": revision,
        "tunnels.dev/secret-version": "7",
    }


TEMPLATE = {
    "metadata": {
        "labels": {"team": "imaging", "tunnels.dev/tunnel": "other"},
        "annotations": {"scrape": "true"},
    },
    "spec": {
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"a": 1}}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "registry"}],
    },
}


def pod_with(template):
    klass = a_class(forwarder={"podTemplate": template})
    return manifests.make_pod(*made(klass))


def test_the_pod_has_what_the_classs_template_adds_and_keeps_what_is_its_own():
    plain, pod = manifests.make_pod(*made()), pod_with(TEMPLATE)
    assert plain["spec"].items() <= pod["spec"].items()
    assert pod["metadata"]["labels"] == plain["metadata"]["labels"] | {"team": "imaging"}
    assert pod["metadata"]["annotations"]["scrape"] == "true"
    assert pod["spec"]["nodeSelector"] == {"pool": "edge"}
    assert pod["spec"]["affinity"] == TEMPLATE["spec"]["affinity"]
    [spread] = pod["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_nothing_of_a_template_reaches_what_runs_in_the_pod_or_with_which_rights():
    wish = {"containers": [], "hostNetwork": True, "securityContext": {}, "serviceAccountName": "x"}
    assert pod_with({"spec": wish}) == manifests.make_pod(*made())


def test_each_change_of_a_template_is_a_change_of_the_pod():
    templates = [
        {},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"spec": {"nodeSelector": {"a": "b"}}},
    ]
    revisions = {
        pod_with(template)["metadata"]["annotations"]["tunnels.dev/revision"]
        for template in templates
    }
    assert len(revisions) == len(templates)


def test_the_service_leads_each_port_to_its_own():
    tunnel, _ = made()
    spec = manifests.make_service(tunnel)["spec"]
    assert spec["type"] == "ClusterIP"
    assert [
        (p["name"], p["port"], p["targetPort"], p.get("appProtocol")) for p in spec["ports"]
    ] == [
        ("web", 80, 10002, "http"),
        ("ssh", 22, 10001, None),
    ]


def test_the_ingress_has_the_classs_ways():
    klass = a_class(exposure={"ingressClassName": "c", "ingressAnnotations": {"issuer": "x"}})
    tunnel, terms = made(klass, expose={"ingress": {"host": "a.test", "tlsSecretName": "cert"}})
    ingress = manifests.make_ingress(tunnel, terms, terms.ingress)
    assert ingress["spec"]["ingressClassName"] == "c"
    assert ingress["spec"]["tls"] == [{"hosts": ["a.test"], "secretName": "cert"}]
    assert ingress["metadata"]["annotations"]["issuer"] == "x"
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"] == {"service": {"name": "mri-7", "port": {"name": "web"}}}


def test_a_route_leads_from_the_classs_gateway_to_one_port():
    klass = a_class(exposure={"gateway": GATEWAY, "domain": "tunnels.test"})
    wish = {"http": {"sectionName": "web"}, "tcp": {"portName": "ssh"}}
    tunnel, terms = made(klass, expose={"gateway": wish})
    http, tcp = [manifests.make_route(tunnel, route, "g/v1") for route in terms.routes]
    assert (http["apiVersion"], http["kind"], http["metadata"]["name"]) == (
        "g/v1",
        "HTTPRoute",
        "mri-7-http",
    )
    assert http["spec"] == {
        "parentRefs": [{"name": "edge", "namespace": "gateways", "sectionName": "web"}],
        "hostnames": ["mri-7.imaging.tunnels.test"],
        "rules": [{"backendRefs": [{"name": "mri-7", "port": 80}]}],
    }
    assert tcp["spec"] == {
        "parentRefs": [{"name": "edge", "namespace": "gateways"}],
        "rules": [{"backendRefs": [{"name": "mri-7", "port": 22}]}],
    }
    assert tcp["metadata"]["ownerReferences"][0]["uid"] == tunnel.metadata.uid


def test_the_policy_lets_in_clients_and_nobody_else():
    tunnel, _ = made(
        allowedClients=[
            {"podSelector": {"matchLabels": {"app": "browser"}}},
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "contour"}}},
            {"cidr": "192.0.2.0/24"},
        ]
    )
    spec = manifests.make_network_policy(tunnel, tunnel.spec.allowed_clients)["spec"]
    assert spec["podSelector"] == {"matchLabels": {"tunnels.dev/tunnel": "mri-7"}}
    assert spec["policyTypes"] == ["Ingress"]
    [rule] = spec["ingress"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"app": "browser"}}},
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "contour"}}},
        {"ipBlock": {"cidr": "192.0.2.0/24"}},
    ]
    assert [port["port"] for port in rule["ports"]] == [10001, 10002]


def test_all_children_belong_to_the_tunnel():
    tunnel, terms = made(expose={"ingress": {"host": "a.test"}})
    children = [
        manifests.make_secret(tunnel, terms, END),
        manifests.make_pod(tunnel, terms),
        manifests.make_service(tunnel),
        manifests.make_ingress(tunnel, terms, terms.ingress),
    ]
    for child in children:
        [owner] = child["metadata"]["ownerReferences"]
        assert owner["uid"] == tunnel.metadata.uid
        assert owner["controller"] is True
        assert child["metadata"]["labels"]["tunnels.dev/tunnel"] == "mri-7"
        assert json.dumps(child)


def test_is_applied_passes_over_what_others_added_and_nothing_else():
    intent = {"spec": {"ports": [{"port": 80}], "type": "ClusterIP"}}
    seen = {"spec": {"ports": [{"port": 80, "nodePort": 1}], "type": "ClusterIP", "ip": "x"}}
    assert manifests.is_applied(intent, seen)
    assert not manifests.is_applied(intent, {"spec": {"type": "ClusterIP"}})
    assert not manifests.is_applied(intent, {"spec": {**seen["spec"], "type": "NodePort"}})
    more = {"spec": {**seen["spec"], "ports": [*seen["spec"]["ports"], {"port": 81}]}}
    assert not manifests.is_applied(intent, more)


def test_is_applied_when_the_server_has_left_out_what_is_empty():
    intent = {"from": [{"podSelector": {"matchLabels": {}, "matchExpressions": []}}]}
    assert manifests.is_applied(intent, {"from": [{"podSelector": {}}]})
    assert not manifests.is_applied({"selector": {"a": "b"}, "wait": False}, {"wait": False})
    assert not manifests.is_applied({"wait": False}, {})
