import json
import tomllib
from pathlib import Path

import yaml

from tunnel_dev import components, config, kubeconfig, machine, pki, startup
from tunnel_dev.components import Endpoint

KEYS = pki.Pki(Path("/pki"))


def flags(argv):
    """The options as a mapping; one without a value is its own."""
    return dict(f"{word}={word}".split("=")[:2] for word in argv if word.startswith("--"))


def test_containerd_runs_without_the_right_to_lower_an_oom_score():
    text = config.containerd(Path('/a "b"/root'), Path("/cni"), "localhost/pause:1")
    parsed = tomllib.loads(text)
    cri = parsed["plugins"]["io.containerd.grpc.v1.cri"]

    assert parsed["root"] == '/a "b"/root'
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == "localhost/pause:1"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


def test_pods_get_a_default_route():
    ipam = json.loads(config.cni())["plugins"][0]["ipam"]

    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}]
    assert ipam["ranges"] == [[{"subnet": machine.POD_CIDR}]]


def test_the_kubelet_keeps_to_the_clusters_own_control_group():
    kubelet = json.loads(config.kubelet(KEYS))

    assert kubelet["cgroupRoot"] == "/edge-tunnels"
    assert kubelet["failCgroupV1"] is False
    assert kubelet["clusterDNS"] == [components.DNS_ADDRESS]
    assert kubelet["authentication"]["anonymous"]["enabled"] is False


def test_kube_proxy_touches_no_conntrack_sysctl():
    conntrack = json.loads(config.kube_proxy(Path("/k")))["conntrack"]

    assert set(conntrack.values()) == {0, "0s"}


def test_names_outside_of_the_cluster_are_answered_in_a_block_of_their_own():
    inside, outside = config.corefile(Path("/k")).split("\n.:53 ")

    assert "kubernetes cluster.local" in inside
    assert "template" not in inside
    assert "NXDOMAIN" in outside


def test_the_api_server_is_a_standard_one():
    given = flags(components.kube_apiserver(KEYS, Endpoint("127.0.0.1", 6443, 1, 2)))

    assert given["--authorization-mode"] == "Node,RBAC"
    assert given["--service-account-issuer"] == "https://kubernetes.default.svc"
    assert given["--etcd-servers"] == "http://127.0.0.1:1"


def test_every_part_has_a_port_of_its_own():
    contour = flags(components.contour(Path("/c"), Path("/k")))
    ports = [value for name, value in contour.items() if name.endswith("-port")]

    assert len(ports) == len(set(ports))


def test_what_the_cluster_starts_with_agrees_with_the_addresses():
    found = list(yaml.safe_load_all(startup.MANIFESTS.read_text()))
    named = {(body["kind"], body["metadata"]["name"]): body for body in found}
    slices = [body for body in found if body["kind"] == "EndpointSlice"]

    assert named["Service", "kube-dns"]["spec"]["clusterIP"] == components.DNS_ADDRESS
    assert ("IngressClass", "contour") in named
    assert len(slices) == 2
    for endpoints in slices:
        assert endpoints["endpoints"][0]["addresses"] == [machine.ADDRESS]


def test_the_way_to_envoy_leads_to_where_the_gateways_listeners_are():
    found = yaml.safe_load_all(startup.MANIFESTS.read_text())
    [service] = [b for b in found if (b["kind"], b["metadata"]["name"]) == ("Service", "envoy")]
    [gateway] = [
        b for b in yaml.safe_load_all(startup.GATEWAY.read_text()) if b["kind"] == "Gateway"
    ]

    assert {port["port"] for port in service["spec"]["ports"]} == {
        listener["port"] for listener in gateway["spec"]["listeners"]
    }
    # Contour's own rule.
    assert all(port["targetPort"] == port["port"] + 8000 for port in service["spec"]["ports"])
    reference = json.loads(config.contour())["gateway"]["gatewayRef"]
    assert reference == {key: gateway["metadata"][key] for key in ("name", "namespace")}
    address = config.envoy_address()
    assert address["metadata"]["name"] == service["metadata"]["name"]
    assert address["status"]["loadBalancer"]["ingress"] == [{"ip": machine.ADDRESS}]
    assert startup.GATEWAY_PATHS.keys() == {
        body["kind"] for body in yaml.safe_load_all(startup.GATEWAY.read_text())
    }


def test_a_kubeconfig_needs_no_other_file(tmp_path):
    keys = pki.ensure(tmp_path / "pki", (pki.ADMIN,))
    path = kubeconfig.write(tmp_path / "k", server="https://s:1", pki=keys, identity="admin")
    made = yaml.safe_load(path.read_text())

    assert made["clusters"][0]["cluster"]["server"] == "https://s:1"
    assert made["users"][0]["name"] == made["contexts"][0]["context"]["user"] == "admin"
    assert str(tmp_path) not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
