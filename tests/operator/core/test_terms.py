import base64
from datetime import timedelta

import pytest

from support.tunnels import GATEWAY, IMAGE, NOON, a_class, a_tunnel, class_body
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.terms import Refusal, Terms, agree


def terms(klass=None, **spec):
    return agree(a_tunnel(**spec), klass or a_class(), default_image=IMAGE)


def relay(**fields):
    return class_body()["spec"]["relay"] | fields


def test_fills_in_what_the_class_says():
    agreed = terms()
    assert isinstance(agreed, Terms)
    assert agreed.ttl == timedelta(hours=1)
    assert agreed.idle_timeout == timedelta(minutes=15)
    assert agreed.image == IMAGE
    assert str(agreed.endpoint) == "sb://clinic-relay.servicebus.windows.net/"
    assert agreed.ingress is None


def test_the_tunnels_own_word_goes_before_the_classs():
    agreed = terms(ttl="2h", idleTimeout="0s")
    assert (agreed.ttl, agreed.idle_timeout) == (timedelta(hours=2), timedelta(0))


def test_the_classs_image_goes_before_the_operators():
    agreed = terms(a_class(forwarder={"image": "other:2"}))
    assert agreed.image == "other:2"


def test_a_port_without_target_leads_to_the_same_port_of_the_device():
    web, ssh = terms().forwards
    assert (web.port_name, web.host, web.port) == ("web", "localhost", 8080)
    assert (ssh.port_name, ssh.host, ssh.port) == ("ssh", "localhost", 22)


def test_an_ipv6_target_loses_its_brackets():
    [forward] = terms(ports=[{"name": "web", "port": 80, "target": "[fe80::1]:8080"}]).forwards
    assert (forward.host, forward.port) == ("fe80::1", 8080)


@pytest.mark.parametrize(
    ("klass", "spec", "reason"),
    [
        (a_class(), {"ttl": "13h"}, Reason.TTL_TOO_LONG),
        (a_class(), {"expose": {"ingress": {}}}, Reason.NO_HOST),
        (
            a_class(exposure={"gateway": GATEWAY}),
            {"expose": {"gateway": {"http": {}}}},
            Reason.NO_HOST,
        ),
        (a_class(), {"expose": {"gateway": {"tcp": {}}}}, Reason.NO_GATEWAY),
        (a_class(relay=relay(caBundle="@@")), {}, Reason.INVALID_CLASS),
        (a_class(portName="test"), {}, Reason.TOO_MANY_PORTS),
        (
            a_class(hybridConnectionNaming="Device"),
            {"device": {"id": "mri:7"}},
            Reason.INVALID_DEVICE_NAME,
        ),
        (a_class(), {"allowedClients": [{"cidr": "1:::2/64"}]}, Reason.REJECTED),
        (a_class(), {"allowedClients": [{"podSelector": {}}, {"cidr": "::/129"}]}, Reason.REJECTED),
        (None, {}, Reason.CLASS_NOT_FOUND),
        (None, {"tunnelClassName": None}, Reason.CLASS_NOT_FOUND),
    ],
)
def test_refuses_with_a_reason_and_a_sentence(klass, spec, reason):
    refusal = agree(a_tunnel(**spec), klass, default_image=IMAGE)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is reason
    assert refusal.message.endswith(".")


@pytest.mark.parametrize("cidr", ["192.0.2.1/24", "0.0.0.0/0", "2001:db8::1/32", "::/0"])
def test_any_range_of_addresses_may_be_a_client(cidr):
    assert isinstance(terms(allowedClients=[{"cidr": cidr}]), Terms)


def test_makes_a_host_name_under_the_classs_domain():
    klass = a_class(exposure={"domain": "tunnels.test"})
    agreed = terms(klass, expose={"ingress": {}})
    assert agreed.ingress.host == "mri-7.imaging.tunnels.test"
    assert agreed.ingress.url == "http://mri-7.imaging.tunnels.test"


def test_tls_makes_the_url_https():
    ingress = terms(expose={"ingress": {"host": "a.test", "tlsSecretName": "cert"}}).ingress
    assert ingress.url == "https://a.test"


def test_the_extra_authorities_are_decoded():
    klass = a_class(relay=relay(caBundle=base64.b64encode(b"PEM").decode()))
    assert terms(klass).ca_pem == "PEM"


def test_the_devices_revision_follows_what_it_is_asked_for():
    one = terms().device_revision(NOON)
    assert one == terms().device_revision(NOON)
    assert one != terms().device_revision(NOON + timedelta(seconds=1))
    assert one != terms(ports=[{"name": "ssh", "port": 22}]).device_revision(NOON)


TLS_PORTS = [
    {"name": "web", "port": 80, "protocol": "HTTP"},
    {"name": "admin", "port": 443, "protocol": "HTTPS"},
    {"name": "ssh", "port": 22},
    {"name": "rdp", "port": 3389},
]


def routes(wish, **gateway):
    klass = a_class(exposure={"gateway": GATEWAY | gateway, "domain": "tunnels.test"})
    return terms(klass, ports=TLS_PORTS, expose={"gateway": wish})


def test_each_route_takes_the_first_port_that_fits_or_the_one_that_is_named():
    agreed = routes({"http": {}, "tls": {}, "tcp": {}}, sectionName="all")
    made = [(r.kind.value, r.port.name, r.host, r.section_name) for r in agreed.routes]
    host = "mri-7.imaging.tunnels.test"
    assert made == [
        ("HTTPRoute", "web", host, "all"),
        ("TLSRoute", "admin", host, "all"),
        ("TCPRoute", "ssh", None, "all"),
    ]
    agreed = routes({"tls": {"portName": "rdp", "host": "a.test"}, "tcp": {"sectionName": "x"}})
    made = [(r.kind.value, r.port.name, r.host, r.section_name) for r in agreed.routes]
    assert made == [("TLSRoute", "rdp", "a.test", None), ("TCPRoute", "ssh", None, "x")]


def test_the_url_is_the_gateways_and_the_ingress_goes_before_it():
    assert routes({"http": {"host": "a.test"}}).url == "http://a.test"
    assert routes({"http": {"host": "a.test"}}, scheme="https").url == "https://a.test"
    assert routes({"tls": {"host": "a.test"}}).url is None
    klass = a_class(exposure={"gateway": GATEWAY})
    both = {"ingress": {"host": "i.test"}, "gateway": {"http": {"host": "g.test"}}}
    assert terms(klass, expose=both).url == "http://i.test"
