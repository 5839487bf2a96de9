"""The ways from outside to a device, by real clients: Gateway API routes, an Ingress with TLS, and each type of Service."""

import base64
import http.client
import json
import socket
import ssl

import pytest

from support.certificates import make_self_signed
from support.kubectl import condition
from tunnel_dev import client_pod

WORDS = "raw TCP, and then the end of it"
PASSTHROUGH = "e2e-1.passthrough.example.com"


@pytest.fixture(autouse=True)
def only_the_built_cluster_is_reached_at_all_of_its_ports(stage):
    if stage.cluster.kind != "built":
        pytest.skip("needs an address at which all ports of the ingress controller are reached")


@pytest.fixture
def address(stage):
    return stage.cluster.ingress_address.partition(":")[0]


def exchange(address, port, words):
    """Return what comes back for these bytes, after which nothing more is said."""
    with socket.create_connection((address, port), timeout=20) as stream:
        stream.sendall(words)
        stream.shutdown(socket.SHUT_WR)
        heard = b""
        while part := stream.recv(65536):
            heard += part
    return heard


def heard_through(address, port, words):
    try:
        return exchange(address, port, words) == words
    except OSError:
        return False


def client_hello(host):
    """Return the first bytes that a TLS client sends to a host."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_page_by_an_http_route_and_raw_tcp_by_a_tcp_route(world, address):
    world.start_device("e2e-1")
    host = world.host("e2e-1")
    world.apply("e2e-1", expose={"gateway": {"http": {"host": host}, "tcp": {"portName": "echo"}}})
    world.until_ready("e2e-1")
    assert world.tunnel("e2e-1")["status"]["url"] == f"http://{host}"
    world.until(lambda: world.page_through_ingress("e2e-1")[0] == 200, within=20)
    assert "e2e-1" in world.page_through_ingress("e2e-1")[1]
    world.until(lambda: heard_through(address, 7007, WORDS.encode()), within=20)

    where = ("-n", world.namespace)
    edit = {"spec": {"hostnames": ["elsewhere.example.com"]}}
    world.kubectl(
        "patch", "httproute", "e2e-1-http", *where, "--type=merge", "-p", json.dumps(edit)
    )
    world.kubectl("delete", "tcproute", "e2e-1-tcp", *where)
    world.until(lambda: world.kubectl.get("tcproute", "e2e-1-tcp", *where), within=20)
    world.until_ready("e2e-1")
    world.until(lambda: world.page_through_ingress("e2e-1")[0] == 200, within=20)
    world.until(lambda: heard_through(address, 7007, WORDS.encode()), within=20)

    world.kubectl("delete", "tunnel", "e2e-1", *where, "--timeout=60s")
    for kind in ("httproutes", "tcproutes"):
        world.until(lambda kind=kind: not world.kubectl.items(kind, *where))


def test_tls_by_the_name_that_the_client_asks_for(world, address):
    """The echo port gives the client's hello back, which shows that nobody has answered it on the way."""
    world.start_device("e2e-1")
    wish = {"portName": "echo", "host": PASSTHROUGH, "sectionName": "tls"}
    world.apply("e2e-1", expose={"gateway": {"tls": wish}})
    world.until_ready("e2e-1")
    endpoints = {e["name"]: e.get("host") for e in world.tunnel("e2e-1")["status"]["endpoints"]}
    assert endpoints == {"web": None, "echo": PASSTHROUGH}
    hello = client_hello(PASSTHROUGH)
    world.until(lambda: heard_through(address, 443, hello), within=20)
    assert not heard_through(address, 443, client_hello("other.passthrough.example.com"))


def test_a_route_that_the_gateway_refuses_is_said_in_the_controllers_words(world):
    world.start_device("e2e-1")
    wish = {"portName": "echo", "sectionName": "none-such"}
    world.apply("e2e-1", expose={"gateway": {"tcp": wish}})
    world.until_reason("e2e-1", "RouteNotAccepted")
    said = condition(world.tunnel("e2e-1"), "Exposed")["message"]
    assert said.startswith("Gateway 'projectcontour/contour' does not carry the TCPRoute: ")
    world.apply("e2e-1", expose={"gateway": {"tcp": wish | {"sectionName": "tcp"}}})
    world.until_ready("e2e-1")


def test_an_ingress_with_tls(world, address, tmp_path):
    host = world.host("e2e-2")
    certificate, key = make_self_signed(tmp_path, "page")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "page", "namespace": world.namespace},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(certificate.read_bytes()).decode(),
            "tls.key": base64.b64encode(key.read_bytes()).decode(),
        },
    }
    world.kubectl.apply(secret)
    world.start_device("e2e-2")
    world.apply("e2e-2", expose={"ingress": {"host": host, "tlsSecretName": "page"}})
    world.until_ready("e2e-2")
    assert world.tunnel("e2e-2")["status"]["url"] == f"https://{host}"
    world.until(lambda: page_over_tls(address, host)[0] == 200, within=20)
    _, page, shown = page_over_tls(address, host)
    assert "e2e-2" in page
    assert shown == ssl.PEM_cert_to_DER_cert(certificate.read_text())


def page_over_tls(address, host):
    """Return status, page, and the certificate that was shown, which the caller judges."""
    any_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    any_certificate.check_hostname = False
    any_certificate.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPConnection(host)
    try:
        raw = socket.create_connection((address, 443), timeout=10)
        connection.sock = any_certificate.wrap_socket(raw, server_hostname=host)
        shown = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), shown
    except OSError as error:
        return 0, str(error), None
    finally:
        connection.close()


def test_a_service_at_a_port_of_the_node(world, address):
    world.start_device("e2e-3")
    world.apply("e2e-3", expose={"service": {"type": "NodePort"}})
    world.until_ready("e2e-3")
    service = world.kubectl.get("service", "e2e-3", "-n", world.namespace)
    ports = {port["name"]: port["nodePort"] for port in service["spec"]["ports"]}
    world.until(lambda: heard_through(address, ports["echo"], WORDS.encode()), within=20)
    # What the API server has added to the Service is not taken for drift.
    again = world.kubectl.get("service", "e2e-3", "-n", world.namespace)
    assert again["metadata"]["resourceVersion"] == service["metadata"]["resourceVersion"]


def test_a_service_behind_a_load_balancer(world):
    """The test is the load balancer: it says an address, for which kube-proxy then makes the way."""
    world.start_device("e2e-3")
    world.apply(
        "e2e-3", expose={"service": {"type": "LoadBalancer", "annotations": {"a.test/b": "c"}}}
    )
    world.until_reason("e2e-3", "WaitingForAddress")
    where = ("-n", world.namespace)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}}
    world.kubectl(
        *("patch", "service", "e2e-3", *where, "--subresource=status", "--type=merge"),
        *("-p", json.dumps(status)),
    )
    world.until_ready("e2e-3")
    service = world.kubectl.get("service", "e2e-3", *where)
    assert service["metadata"]["annotations"]["a.test/b"] == "c"
    page, heard = client_pod.visit(
        world.stage, world.namespace, "192.0.2.10", ports=(80, 7), words=WORDS
    )
    assert "e2e-3" in page
    assert heard == WORDS
