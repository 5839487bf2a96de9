import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder.protocol import method
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import (
    CloseRequest,
    Forward,
    ForwardAnswer,
    OpenAnswer,
    OpenRequest,
)
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import RelayEndpoint

TEXT = st.text(min_size=1)
SECONDS = st.datetimes(timezones=st.just(UTC)).map(lambda t: t.replace(microsecond=0))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FORWARDS = st.builds(
    Forward, TEXT.filter(lambda name: not name.startswith("\0")), TEXT, st.integers(1, 65535), TEXT
)
OPENS = st.builds(
    OpenRequest,
    tunnel=TEXT,
    uid=TEXT,
    correlation_id=TEXT,
    endpoint=st.just(RelayEndpoint("localhost", 8442)),
    hybrid_connection=TEXT,
    listen_token=st.builds(Secret, TEXT),
    forwards=st.lists(FORWARDS, min_size=1, max_size=method.MAX_FORWARDS).map(tuple),
    expires_at=SECONDS,
)
DESIGN = {
    "version": 1,
    "tunnel": "imaging/mri-7",
    "uid": "u",
    "correlationId": "c",
    "relay": {
        "endpoint": "sb://ns.servicebus.windows.net/",
        "hybridConnection": "hc",
        "listenToken": "SharedAccessSignature …",
    },
    "forwards": [{"portName": "web", "host": "localhost", "port": 8080, "protocol": "tcp"}],
    "expiresAt": "2026-11-24T10:00:00Z",
}


def test_features_are_optional_and_what_can_not_be_read_of_them_is_ignored():
    assert OpenRequest.from_payload(DESIGN).features == ()
    asked = OpenRequest.from_payload(DESIGN | {"features": ["mux/1", 7]})
    assert asked.features == ("mux/1",)
    assert asked.to_payload()["features"] == ["mux/1"]
    assert OpenRequest.from_payload(DESIGN | {"features": "mux/1"}).features == ()


def test_the_payload_is_the_one_that_was_agreed():
    request = OpenRequest.from_payload(DESIGN)
    assert request.forwards == (Forward("web", "localhost", 8080),)
    assert request.expires_at == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert request.to_payload() == DESIGN
    assert "Shared" not in repr(request)


@given(OPENS)
def test_opens_are_read_back(request_):
    payload = json.loads(json.dumps(request_.to_payload()))
    assert OpenRequest.from_payload(payload) == request_


@given(st.builds(CloseRequest, TEXT, TEXT, TEXT))
def test_closes_are_read_back(request_):
    assert CloseRequest.from_payload(json.loads(json.dumps(request_.to_payload()))) == request_


@given(
    st.builds(
        OpenAnswer,
        TEXT,
        st.booleans(),
        st.lists(st.builds(ForwardAnswer, TEXT, st.booleans(), st.none() | st.booleans())).map(
            tuple
        ),
    )
)
def test_answers_are_read_back(answer):
    assert OpenAnswer.from_payload(json.loads(json.dumps(answer.to_payload()))) == answer


@given(st.sampled_from(sorted(DESIGN)), JSON)
def test_any_value_in_any_place_is_read_or_refused(name, value):
    for kind in (OpenRequest, CloseRequest, OpenAnswer):
        for payload in (DESIGN | {name: value}, {**DESIGN, "relay": DESIGN["relay"] | {"endpoint": value}},
                        {**DESIGN, "forwards": [value]}, {**DESIGN, "agent": "a", "listening": True,
                                                          "forwards": value}, value):  # fmt: skip
            try:
                kind.from_payload(payload)
            except ProtocolError:
                continue


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": True, "uid": ""}, {"forwards": []}, {"forwards": [{}] * 33},
     {"forwards": [{"portName": "a", "host": "h", "port": True, "protocol": "tcp"}]},
     {"forwards": [{"portName": "a", "host": "h", "port": 65536, "protocol": "tcp"}]},
     {"expiresAt": "tomorrow"}, {"expiresAt": "2026-11-24T10:00:00"},
     {"expiresAt": "0001-01-01T00:00:00+14:00"}, {"relay": {}}, {"tunnel": "\ud800"}],
)  # fmt: skip
def test_malformed_opens_are_refused(change):
    with pytest.raises(ProtocolError):
        OpenRequest.from_payload(DESIGN | change)


@given(SECONDS, st.integers(-12, 12))
def test_times_are_the_same_in_any_zone(moment, hours):
    try:
        local = moment.astimezone(timezone(timedelta(hours=hours)))
    except OverflowError:
        return
    assert method.parse_time(local.isoformat()) == moment
    assert method.parse_time(method.format_time(local)) == moment
