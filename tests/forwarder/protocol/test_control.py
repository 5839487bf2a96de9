import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.protocol import control
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

DOCUMENTED = """{"accept":{"address":"wss://g12.servicebus.windows.net:443/$hc/dev-7?sb-hc-action=accept",
 "id":"6f1c_G12","connectHeaders":{"Host":"ns1","Sec-WebSocket-Version":"13"},
 "remoteEndpoint":{"address":"198.51.100.7","port":51514}}}"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_the_documented_accept_is_read():
    message = control.parse(DOCUMENTED)
    assert message == control.Accept(
        address="wss://g12.servicebus.windows.net:443/$hc/dev-7?sb-hc-action=accept",
        id="6f1c_G12",
        connect_headers={"Host": "ns1", "Sec-WebSocket-Version": "13"},
    )
    assert "g12" not in repr(message)


@given(
    address=st.text(min_size=1),
    name=st.text(min_size=1),
    headers=st.dictionaries(st.text(), st.text()),
)
def test_accepts_are_read_back(address, name, headers):
    message = control.Accept(address, name, headers)
    assert control.parse(message.to_json()) == message


def test_a_renewal_is_read_back_and_not_printed():
    message = control.RenewToken(Secret("SharedAccessSignature sr=x"))
    assert control.parse(message.to_json()) == message
    assert "sr=x" not in repr(message)


def test_a_large_request_holds_an_address_only():
    text = json.dumps({"request": {"address": "wss://a", "id": "1"}})
    assert control.parse(text) == control.Request("wss://a", "1")


def test_unknown_kinds_are_ignored():
    assert control.parse('{"injectedLater": {}}') is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nonsense", '{"accept": {"id": "1"}}', '{"accept": {"address": 1, "id": "1"}}',
     '{"renewToken": {}}', "[" * 100_000, b"\xff\xfe\xfd"],
)  # fmt: skip
def test_malformed_messages_are_refused(text):
    with pytest.raises(ProtocolError):
        control.parse(text)


@given(JSON, st.sampled_from(["accept", "request", "renewToken", "other"]))
def test_any_json_is_read_or_refused(value, kind):
    for message in (value, {kind: value}):
        try:
            control.parse(json.dumps(message))
        except ProtocolError:
            continue
