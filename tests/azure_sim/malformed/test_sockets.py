"""Bytes and frames on real connections of every plane: an answer or the end, and always in time."""

import base64
import json
import struct
import time

import pytest
from hypothesis import strategies as st

from support.fuzz import DEADLINE, Peer, check_http, check_shows_nothing, fuzz
from tunnel_azure_sim.relay.model import HybridConnection
from tunnel_forwarder.protocol import sas

CLEAN = (None, 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011)
"""Close codes that a peer may be told; None stands for a connection that just ends."""

RAW = st.binary(max_size=200)
BEGINNINGS = st.sampled_from([
    b"", b"GET / HTTP/1.1\r\n", b"GET /$hc/hc?sb-hc-action=listen HTTP/1.1\r\nHost: x\r\n",
    b"POST /hc HTTP/1.1\r\nContent-Length: 5\r\n\r\n", b"POST /hc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /$iothub/websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x10\x20\x00\x04MQTT\x04\xc0", b"x" * 70_000,
])  # fmt: skip


@pytest.fixture(scope="session")
def hybrid_connection(simulation):
    """Return how to ask for the hybrid connection `hc`: path and token."""
    sim = simulation.sim
    namespace, now = sim._namespace(None), sim._journal.now()
    namespace.add(HybridConnection("hc", created_at=now, updated_at=now))
    text = sim.endpoints.relay[0].root_connection_string.reveal()
    pairs = dict(part.partition("=")[::2] for part in text.split(";"))
    return sas.sign(
        f"http://{simulation.relay[0]}/hc",
        key=sas.relay_key(pairs["SharedAccessKey"]),
        rule=pairs["SharedAccessKeyName"],
        expires_at=int(time.time()) + 3600,
    ).reveal()


@fuzz(
    250,
    plane=st.sampled_from(["relay", "arm", "hub", "identity"]),
    beginning=BEGINNINGS,
    rest=RAW,
    end=st.sampled_from([b"", b"\r\n\r\n"]),
)
def test_bytes_on_http_ports(simulation, plane, beginning, rest, end):
    with Peer(getattr(simulation, plane), simulation.context) as peer:
        peer.send(beginning + rest + end)
        check_http(peer.finish())


@fuzz(150, beginning=BEGINNINGS, rest=RAW)
def test_bytes_on_the_mqtt_port(simulation, beginning, rest):
    with Peer(simulation.mqtt, simulation.context) as peer:
        peer.send(beginning + rest)
        answer = peer.finish()
    # CONNACK with a refusal at the most.
    assert answer == b"" or (answer[:3] == b"\x20\x02\x00" and answer[3] != 0)


def frame(first, size_byte, extra, payload):
    return bytes([first, size_byte]) + extra + payload


def masked(opcode, payload, fin):
    size = len(payload)
    head = bytes([size | 0x80]) if size < 126 else bytes([126 | 0x80]) + struct.pack("!H", size)
    return bytes([(0x80 if fin else 0) | opcode]) + head + b"\0\0\0\0" + payload


CONTROL = st.sampled_from([
    b"{}", b"[]", b"{", b"null", b'{"renewToken":{"token":"x"}}', b'{"renewToken":{}}', b'{"accept":{}}',
    b'{"response":{"requestId":"x","statusCode":200,"body":true}}', b'{"response":{"requestId":"x"}}',
    b'{"response":[]}', b"[" * 60_000, b"\xff\xfe", b"",
])  # fmt: skip
FRAMES = st.lists(
    st.builds(
        masked,
        st.sampled_from([0, 1, 2, 3, 8, 9, 10, 11]),
        CONTROL | RAW,
        st.booleans(),
    )
    | st.builds(frame, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=10), RAW),
    max_size=5,
).map(b"".join)


def ask(simulation, address, path, headers):
    """Send an upgrade; its answer is still to be read."""
    key = base64.b64encode(b"0" * 16).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    peer = Peer(address, simulation.context)
    peer.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    return peer


def upgrade(simulation, address, path, headers):
    peer = ask(simulation, address, path, headers)
    head = peer.read_head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    return peer


def offered(control):
    """Return path and query of the address at which a sender waits."""
    first, size = control.read(2)
    assert (first, size) == (0x81, 126)
    (size,) = struct.unpack("!H", control.read(2))
    address = json.loads(control.read(size))["accept"]["address"]
    return "/" + address.split("/", 3)[3]


def close_code(data):
    """Return the code of the Close frame among a server's frames; None when there is none."""
    while len(data) >= 2:
        size, start = data[1] & 0x7F, 2
        assert not data[1] & 0x80, "a server's frame is masked"
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        payload, opcode = data[start : start + size], data[0] & 0x0F
        if opcode == 8:
            return struct.unpack("!H", payload[:2])[0] if payload else None
        data = data[start + size :]
    return None


@fuzz(250, frames=FRAMES)
def test_frames_on_a_control_channel(simulation, hybrid_connection, frames):
    headers = [f"ServiceBusAuthorization: {hybrid_connection}"]
    path = "/$hc/hc?sb-hc-action=listen"
    with upgrade(simulation, simulation.relay, path, headers) as peer:
        peer.send(frames)
        answer = peer.finish()
    check_shows_nothing(answer)
    code = close_code(answer)
    # A code that the client itself sent comes back to it.
    assert code in CLEAN or bytes([0x88]) in frames


@fuzz(100, frames=FRAMES, answer=FRAMES)
def test_frames_on_a_joined_stream(simulation, hybrid_connection, frames, answer):
    headers = [f"ServiceBusAuthorization: {hybrid_connection}"]
    address = simulation.relay
    with (
        upgrade(simulation, address, "/$hc/hc?sb-hc-action=listen", headers) as control,
        ask(simulation, address, "/$hc/hc?sb-hc-action=connect", headers) as sender,
        upgrade(simulation, address, offered(control), []) as listener,
    ):
        assert sender.read_head().startswith(b"HTTP/1.1 101 ")
        sender.send(frames)
        listener.send(answer)
        # What one sends, the other gets: here only the end counts, and that it comes.
        sender.finish()
        listener.finish()
        control.send(masked(8, b"", fin=True))
        assert close_code(control.finish()) is None


@fuzz(200, frames=FRAMES)
def test_frames_of_mqtt_over_websocket(simulation, frames):
    headers = ["Sec-WebSocket-Protocol: mqtt"]
    with upgrade(simulation, simulation.hub, "/$iothub/websocket", headers) as peer:
        peer.send(frames)
        answer = peer.finish()
    check_shows_nothing(answer)
    code = close_code(answer)
    assert code in CLEAN or bytes([0x88]) in frames


def test_everything_still_answers(simulation, hybrid_connection):
    headers = [f"ServiceBusAuthorization: {hybrid_connection}"]
    path = "/$hc/hc?sb-hc-action=listen"
    upgrade(simulation, simulation.relay, path, headers).__exit__()
    for plane in (simulation.arm, simulation.hub, simulation.identity):
        with Peer(plane, simulation.context) as peer:
            peer.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert check_http(peer.finish(patience=DEADLINE)) in (401, 404)
