import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.urls import RelayEndpoint, connect_url, listen_url, reject_url

NAMESPACE = RelayEndpoint("ns1.servicebus.windows.net")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("sb://ns1.servicebus.windows.net/", "ns1.servicebus.windows.net", 443),
        ("sb://NS1.servicebus.windows.net", "ns1.servicebus.windows.net", 443),
        ("sb://localhost:8442/", "localhost", 8442),
        ("sb://[::1]:8442/", "::1", 8442),
    ],
)
def test_endpoints_are_read(text, host, port):
    assert RelayEndpoint.parse(text) == RelayEndpoint(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "sb://", "https://h/", "sb://h/path", "sb://h:0/", "sb://h:70000/", "sb://u@h/", "sb://h/?q",
     "sb://h/#f", "sb://a b/", "sb://h:port/"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ProtocolError):
        RelayEndpoint.parse(text)


@given(st.text())
def test_any_text_is_an_endpoint_or_refused(text):
    try:
        endpoint = RelayEndpoint.parse(f"sb://{text}")
    except ProtocolError:
        return
    assert RelayEndpoint.parse(str(endpoint)) == endpoint


def test_urls_are_those_of_the_documentation():
    assert listen_url(NAMESPACE, "dev-7", tracking_id="t 1") == (
        "wss://ns1.servicebus.windows.net/$hc/dev-7?sb-hc-action=listen&sb-hc-id=t+1"
    )
    assert connect_url(RelayEndpoint("::1", 8442), "a/b c", tracking_id="t") == (
        "wss://[::1]:8442/$hc/a/b%20c?sb-hc-action=connect&sb-hc-id=t"
    )
    assert reject_url("wss://g/$hc/x?sb-hc-action=accept", status=503, description="No room") == (
        "wss://g/$hc/x?sb-hc-action=accept&sb-hc-statusCode=503&sb-hc-statusDescription=No+room"
    )
