import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort
from tunnel_forwarder.protocol.urls import RelayEndpoint

SETTINGS = ForwarderSettings(
    tunnel="imaging/mri-7",
    correlation_id="c",
    endpoint=RelayEndpoint("ns1.servicebus.windows.net"),
    hybrid_connection="hc",
    ports=(ListenPort("web", 8080), ListenPort("ssh", 2222)),
    expires_at=datetime(2026, 11, 24, 10, tzinfo=UTC),
    idle_seconds=900,
    warm_connections=2,
)
BODY = json.loads(SETTINGS.to_json())


def test_settings_are_read_back():
    assert ForwarderSettings.from_json(SETTINGS.to_json()) == SETTINGS


def test_what_is_optional_is_written_only_when_it_is_used():
    assert "mux" not in BODY
    assert "protocol" not in BODY["ports"][0]
    more = replace(SETTINGS, mux=True, ports=(ListenPort("dns", 53, "udp"), ListenPort("d", 53)))
    assert ForwarderSettings.from_json(more.to_json()) == more


@pytest.mark.parametrize(
    "change",
    [
        {"mux": 1},
        {"ports": [{"name": "a", "listen": 1, "protocol": "sctp"}]},
        {"ports": [{"name": "\0mux/1", "listen": 1}]},
    ],
)
def test_what_is_optional_is_checked_when_it_is_there(change):
    with pytest.raises(ProtocolError):
        ForwarderSettings.from_json(json.dumps(BODY | change))


def test_the_same_settings_give_the_same_text():
    again = ForwarderSettings.from_json(json.dumps(dict(reversed(BODY.items()))))
    assert again.to_json() == SETTINGS.to_json()


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"tunnel": ""}, {"relay": None}, {"relay": {"endpoint": "https://x"}}, {"ports": []},
     {"ports": [1]}, {"ports": [{"name": "a", "listen": 70000}]}, {"ports": [{"name": "", "listen": 1}]},
     {"ports": [{"name": "\ud800", "listen": 1}]}, {"ports": [{"name": "x" * 256, "listen": 1}]},
     {"ports": [{"name": "a", "listen": 1}, {"name": "a", "listen": 2}]},
     {"ports": [{"name": "a", "listen": 1}, {"name": "b", "listen": 1}]},
     {"expiresAt": "soon"}, {"idleSeconds": -1}, {"idleSeconds": "x"}, {"warmConnections": True}],
)  # fmt: skip
def test_unusable_settings_are_refused(change):
    with pytest.raises(ProtocolError):
        ForwarderSettings.from_json(json.dumps(BODY | change))


@pytest.mark.parametrize("name", sorted(BODY))
def test_a_missing_part_is_named(name):
    body = {key: value for key, value in BODY.items() if key != name}
    with pytest.raises(ProtocolError, match=name):
        ForwarderSettings.from_json(json.dumps(body))


@given(st.text())
def test_any_text_is_refused(text):
    with pytest.raises(ProtocolError):
        ForwarderSettings.from_json(text)
