"""MQTT packets and TLS records, without a socket: an answer, or the end; and bounded memory."""

import asyncio
import struct
import time
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st

from support.fuzz import fuzz
from tunnel_azure_sim.config import HubConfig, Timings
from tunnel_azure_sim.hub.authorization import HubAuthorizer
from tunnel_azure_sim.hub.device_tls import DeviceTls, device_context
from tunnel_azure_sim.hub.limits import Meter
from tunnel_azure_sim.hub.model import Hub, Identity
from tunnel_azure_sim.hub.mqtt_codec import MAX_PACKET
from tunnel_azure_sim.hub.session import DeviceSession
from tunnel_azure_sim.journal import Journal
from tunnel_azure_sim.state import KeyPair
from tunnel_azure_sim.tls import server_files
from tunnel_forwarder.protocol import sas

HOST = "h.azure-devices.net"


class Transport(asyncio.Transport):
    """Takes what is written; nothing is sent."""

    def __init__(self):
        super().__init__()
        self.written, self.closing = bytearray(), False

    def write(self, data):
        self.written += data

    def close(self):
        self.closing = True

    abort = close

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name, default=None):
        return default

    def pause_reading(self):
        pass

    resume_reading = pause_reading


@pytest.fixture(scope="session")
def runner():
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="session")
def authorizer(simulation):
    clock = time.time
    device = Identity("d", KeyPair.generate(), datetime.now(UTC))
    hub = Hub("h", (HOST,), {}, Meter(HubConfig("h"), clock), {"d": device})
    return HubAuthorizer(hub, simulation.sim._tokens, clock)


@pytest.fixture(scope="session")
def tls_context(simulation):
    return device_context(*server_files(simulation.sim._config.state_dir))


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(raw)) + raw


def packet(first, body):
    size, head = len(body), bytearray([first])
    while True:
        size, low = divmod(size, 128)
        head.append(low | (128 if size else 0))
        if not size:
            return bytes(head) + body


def connect(user, password, *, flags=0xC0, level=4, client="d", keep_alive=60):
    body = text("MQTT") + bytes([level, flags]) + struct.pack("!H", keep_alive)
    return packet(0x10, body + text(client) + text(user) + text(password))


TOPICS = st.sampled_from(
    ["devices/d/messages/events/", "$iothub/methods/res/200/?$rid=1", "$iothub/methods/res/x/?$rid=",
     "$iothub/methods/POST/#", "$iothub/twin/GET/?$rid=1", "$iothub/twin/res/#",
     "$iothub/twin/PATCH/properties/reported/?$rid=2", "$iothub/twin/PATCH/properties/desired/#",
     "#", "+", "", "a\0b", "devices/e/messages/events/"]
) | st.text(max_size=20)  # fmt: skip
RAW = st.binary(max_size=30)
NUMBER = st.integers(0, 65535).map(lambda number: struct.pack("!H", number))
TOPIC = TOPICS.map(lambda name: text(name.encode(errors="replace")))
BODIES = st.lists(TOPIC | NUMBER | RAW | st.integers(0, 255).map(lambda b: bytes([b])), max_size=5)
PACKETS = st.builds(packet, st.integers(0, 255), BODIES.map(b"".join))
LYING = st.builds(
    lambda first, size, body: bytes([first, *size]) + body,
    st.integers(0, 255),
    st.lists(st.integers(0, 255), max_size=5),
    RAW,
)
STREAM = st.lists(PACKETS | LYING | RAW, max_size=6).map(b"".join)
SIZES = st.lists(st.integers(0, 30), max_size=5)


def play(runner, authorizer, stream, sizes):
    """Give a stream of bytes to a session in pieces; return session and transport."""

    async def go():
        gone = []
        session = DeviceSession(
            lambda host: authorizer if host == HOST else None,
            timings=Timings(),
            journal=Journal(time.time),
            made=lambda _: None,
            gone=gone.append,
        )
        transport = Transport()
        session.connection_made(transport)
        rest = stream
        for size in (*sizes, len(stream)):
            if not transport.closing:
                session.data_received(rest[:size])
            rest = rest[size:]
        assert len(session._decoder._buffer) <= MAX_PACKET
        assert len(transport.written) <= 4 * len(stream) + 16
        session.connection_lost(None)
        assert gone == [session]
        return transport

    return runner.run(go())


@fuzz(1200, stream=STREAM, sizes=SIZES)
def test_packets_of_a_stranger(runner, authorizer, stream, sizes):
    transport = play(runner, authorizer, stream, sizes)
    # Nobody was let in: a refusal at the most.
    assert bytes(transport.written[:3]) in (b"", b"\x20\x02\x00")
    assert transport.written[3:4] != b"\x00"


@fuzz(1200, stream=STREAM, sizes=SIZES)
def test_packets_of_a_device(runner, authorizer, stream, sizes):
    key = sas.hub_key(authorizer.hub.existing("d").keys.primary.reveal())
    expiry = int(time.time()) + 600
    password = sas.sign(f"{HOST}/devices/d", key=key, rule=None, expires_at=expiry).reveal()
    hello = connect(f"{HOST}/d/?api-version=2021-04-12", password)
    transport = play(runner, authorizer, hello + stream, [len(hello), *sizes])
    assert transport.written.startswith(b"\x20\x02\x00\x00")
    assert not authorizer.hub.existing("d").connected


@fuzz(
    500,
    user=st.sampled_from([HOST, f"{HOST}/d", f"{HOST}/d/?", f"{HOST}/d/m/?x", "//", "/d/"])
    | st.text(max_size=20),
    password=st.binary(max_size=40),
    flags=st.integers(0, 255),
    level=st.integers(0, 255),
    client=st.sampled_from(["d", "d/m", ""]) | st.text(max_size=8),
)
def test_connects(runner, authorizer, user, password, flags, level, client):  # noqa: PLR0917 - CONNECT's fields
    raw = connect(
        user.encode(errors="replace"),
        password,
        flags=flags,
        level=level,
        client=client.encode(errors="replace"),
    )
    written = bytes(play(runner, authorizer, raw, []).written)
    assert written == b"" or (written[:3] == b"\x20\x02\x00" and written[3] in (1, 2, 5))


RECORDS = st.builds(
    lambda kind, version, size, body: struct.pack("!BHH", kind, version, size) + body,
    st.integers(20, 24) | st.integers(0, 255),
    st.sampled_from([0x0301, 0x0303]) | st.integers(0, 65535),
    st.integers(0, 65535),
    st.binary(max_size=80),
)


@fuzz(300, data=st.lists(RECORDS | RAW, max_size=4).map(b"".join), sizes=SIZES)
def test_tls_records(runner, tls_context, data, sizes):
    async def go():
        transport = Transport()
        tls = DeviceTls(tls_context, lambda: pytest.fail("agreed"), handshake=1.0, close=1.0)
        tls.connection_made(transport)
        rest = data
        for size in (*sizes, len(data)):
            if not transport.closing:
                tls.data_received(rest[:size])
            rest = rest[size:]
        assert len(transport.written) < 1000
        tls.connection_lost(None)

    runner.run(go())
