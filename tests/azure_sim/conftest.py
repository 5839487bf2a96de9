"""A running simulation, and a WebSocket client that does only what it is told, frame by frame."""

import asyncio
import base64
import contextlib
import json
import secrets
import shutil
import ssl
import struct
import time
from dataclasses import dataclass, replace

import aiohttp
import pytest

from tunnel_azure_sim import AzureSim, SimConfig, Timings
from tunnel_azure_sim.relay.model import HybridConnection, Right, Rule
from tunnel_azure_sim.state import KeyPair
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.urls import TOKEN_HEADER, RelayEndpoint

DEADLINE = 5.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Clock:
    """The true time, moved. Expiry is in whole seconds, so a test moves to shortly before one."""

    def __init__(self):
        self._offset = 0.0

    def __call__(self):
        return time.time() + self._offset

    def forward(self, seconds):
        self._offset += seconds

    def soon(self, seconds=0.2):
        """Return an expiry that is so far ahead, having moved the clock to fit."""
        expiry = int(self()) + 2
        self._offset += expiry - seconds - self()
        return expiry


@dataclass(frozen=True)
class Refusal(Exception):  # noqa: N818 - an answer, not an error
    status: int
    reason: str


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close_code(self):
        assert self.opcode == CLOSE
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def json(self):
        return json.loads(self.payload)


def encode(opcode, payload=b"", *, fin=True, rsv=0, masked=True):
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head.append(bit | len(payload))
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return bytes(head) + payload
    mask = secrets.token_bytes(4)
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return bytes(head) + mask + mixed.to_bytes(len(payload), "big")


class RawWebSocket:
    """An upgraded connection. It answers nothing by itself."""

    def __init__(self, reader, writer, headers):
        self.reader, self.writer, self.headers = reader, writer, headers

    async def send(self, opcode, payload=b"", **flags):
        self.writer.write(encode(opcode, payload, **flags))
        await asyncio.wait_for(self.writer.drain(), DEADLINE)

    async def send_json(self, value):
        await self.send(TEXT, json.dumps(value).encode())

    async def close(self, code=1000, reason=b""):
        await self.send(CLOSE, struct.pack("!H", code) + reason)

    async def receive(self):
        async with asyncio.timeout(DEADLINE):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    async def receive_close(self):
        frame = await self.receive()
        while frame.opcode != CLOSE:
            frame = await self.receive()
        return frame.close_code

    async def ended(self):
        """Wait for the end of the TCP connection; return what still came."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""

    def abort(self):
        self.writer.transport.abort()


class Dialler:
    """Opens connections to one address, and cuts what a test leaves open."""

    def __init__(self, context, host, port):
        self.context, self.host, self.port = context, host, port
        self._writers = []

    async def tcp(self):
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.context)
        self._writers.append(writer)
        return reader, writer

    async def request(self, target, headers=(), method="GET"):
        """Send a request's head; return the connection."""
        reader, writer = await self.tcp()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return reader, writer

    async def answer(self, reader):
        async with asyncio.timeout(DEADLINE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        _, status, reason = head[0].split(" ", 2)
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(status), reason, headers

    async def websocket(self, target, token=None, headers=()):
        """Upgrade. Raises Refusal for another status than 101."""
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        own = [
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        if token is not None:
            own.append((TOKEN_HEADER, token))
        reader, writer = await self.request(target, [*own, *headers])
        status, reason, answered = await self.answer(reader)
        if status != 101:
            raise Refusal(status, reason)
        return RawWebSocket(reader, writer, answered)

    async def refused(self, upgrading):
        """Return how an upgrade is refused."""
        with pytest.raises(Refusal) as raised:
            await upgrading
        return raised.value

    async def status(self, upgrading):
        """Return the status by which an upgrade is refused."""
        return (await self.refused(upgrading)).status

    async def aclose(self):
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Relay(Dialler):
    """The data plane of the namespace `demo`, with the hybrid connection `hc` in it."""

    def __init__(self, sim, context, clock):
        endpoint = RelayEndpoint.parse(sim.endpoints.relay[0].endpoint)
        super().__init__(context, endpoint.host, endpoint.port)
        self.sim, self.clock = sim, clock
        self.namespace = sim._namespace(None)
        self.hc = self.add("hc")

    def add(self, name, **settings):
        now = self.sim._journal.now()
        made = HybridConnection(name, created_at=now, updated_at=now, **settings)
        for right in (Right.LISTEN, Right.SEND):
            made.rules[right.lower()] = Rule(right.lower(), frozenset({right}), KeyPair.generate())
        self.namespace.add(made)
        return made

    def token(self, rule="listen", *, path="hc", audience=None, key=None, expires_at=None, hc=None):
        rules = (hc or self.hc).rules | self.namespace.rules
        key = key or rules[rule.lower()].keys.primary
        return sas.sign(
            audience or f"http://{self.host}/{path}",
            key=sas.relay_key(key.reveal()),
            rule=rule,
            expires_at=expires_at or int(self.clock()) + 600,
        ).reveal()

    async def listen(self, token=None, path="hc"):
        token = token or self.token("listen", path=path)
        return await self.websocket(f"/$hc/{path}?sb-hc-action=listen&sb-hc-id=l", token)

    def dial(self, path="hc", query="", **options):
        """Begin to connect as a sender, which takes until a listener accepts."""
        token = options.pop("token", None) or self.token("send")
        target = f"/$hc/{path}?sb-hc-action=connect&sb-hc-id=s{query}"
        return asyncio.create_task(self.websocket(target, token, **options))

    async def offered(self, control):
        """Return the path and query of the next sender's address."""
        return target_of((await control.receive()).json["accept"]["address"])

    async def accept(self, control, extra="", headers=()):
        return await self.websocket(await self.offered(control) + extra, headers=headers)

    async def pair(self, control=None):
        """Return a joined sender and listener."""
        control = control or await self.listen()
        dialling = self.dial()
        listener = await self.accept(control)
        return await asyncio.wait_for(dialling, DEADLINE), listener


def target_of(address):
    return "/" + address.split("/", 3)[3]


@pytest.fixture(scope="session")
def state_template(tmp_path_factory):
    """A state directory in which the slow keys are made once for all tests."""
    directory = tmp_path_factory.mktemp("azure")

    async def start_once():
        async with AzureSim(SimConfig.for_tests(directory)):
            pass

    asyncio.run(start_once())
    return directory


@pytest.fixture
def state_dir(state_template, tmp_path):
    return shutil.copytree(state_template, tmp_path / "azure")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timings(request):
    return Timings(**({"close": 1.0, "method_second": 0.05} | getattr(request, "param", {})))


@pytest.fixture
def one_way_close(request):
    return getattr(request, "param", True)


@pytest.fixture
async def sim(state_dir, timings, clock, one_way_close):
    config = SimConfig.for_tests(state_dir, timings=timings, clock=clock)
    config = replace(config, one_way_close=one_way_close)
    failures = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with AzureSim(config) as running:
        yield running
    loop.set_exception_handler(None)
    assert failures == []


@pytest.fixture
async def dialler():
    """Return a maker of clients of any address."""
    made = []

    def make(context, host, port):
        made.append(Dialler(context, host, port))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def trust(sim):
    return ssl.create_default_context(cafile=str(sim.endpoints.ca_file))


@pytest.fixture
async def relay(sim, trust, clock):
    made = Relay(sim, trust, clock)
    yield made
    await made.aclose()


@pytest.fixture
async def http(trust):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield session


class MqttClient:
    """A device's TCP connection that says what it is told."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, first, body=b""):
        assert len(body) < 128 * 128
        size = (
            bytes([len(body)])
            if len(body) < 128
            else bytes([len(body) % 128 | 128, len(body) // 128])
        )
        self.writer.write(bytes([first]) + size + body)

    async def receive(self):
        """Return the first byte and the body of the next packet."""
        async with asyncio.timeout(DEADLINE):
            first, size = await self.reader.readexactly(2)
            if size & 0x80:
                size = size % 128 + 128 * (await self.reader.readexactly(1))[0]
            return first, await self.reader.readexactly(size)

    async def ended(self):
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""


def text(value):
    return struct.pack("!H", len(value)) + value.encode()


class Mqtt(Dialler):
    """The MQTT port of the hub `demo-hub`, which knows the device mri-7."""

    host_name = "demo-hub.azure-devices.net"

    def __init__(self, sim, context, clock):
        super().__init__(context, sim.endpoints.hubs[0].host_name.rpartition(":")[0], 8883)
        self.sim, self.clock = sim, clock

    def token(self, device="mri-7", *, key=None, expires_at=None, audience=None, rule=None):
        key = key or self.sim._hub(None).existing(device).keys.primary
        return sas.sign(
            audience or f"{self.host_name}/devices/{device.replace('/', '/modules/')}",
            key=sas.hub_key(key.reveal()),
            rule=rule,
            expires_at=expires_at or int(self.clock()) + 600,
        ).reveal()

    async def client(self):
        return MqttClient(*await self.tcp())

    def connect(self, client, *, device="mri-7", password=None, user=None, **options):
        user = user or f"{self.host_name}/{device}/?api-version=2021-04-12"
        password = self.token() if password is None else password
        body = text("MQTT") + bytes([options.get("level", 4), options.get("flags", 0xC0)])
        body += struct.pack("!H", options.get("keep_alive", 60))
        client.send(
            0x10, body + text(options.get("client_id", device)) + text(user) + text(password)
        )

    async def code(self, **options):
        """Return CONNACK's code and the client."""
        client = await self.client()
        self.connect(client, **options)
        first, body = await client.receive()
        assert first == 0x20
        return body[1], client

    async def connected(self, **options):
        code, client = await self.code(**options)
        assert code == 0
        return client

    async def subscribed(self, **options):
        client = await self.connected(**options)
        client.send(0x82, b"\x00\x01" + text("$iothub/methods/POST/#") + b"\x01")
        assert await client.receive() == (0x90, b"\x00\x01\x01")
        return client


@pytest.fixture
async def mqtt(sim, trust, clock):
    made = Mqtt(sim, trust, clock)
    yield made
    await made.aclose()


class HubRest:
    """The REST API of the hub `demo-hub`."""

    def __init__(self, sim, session, clock):
        self.sim, self.session, self.clock = sim, session, clock
        self.host = sim.endpoints.hubs[0].host_name

    def token(self, policy="iothubowner", *, audience=None, expires_at=None, key=None):
        key = key or self.sim._hub(None).policies[policy].keys.primary
        return sas.sign(
            audience or self.host,
            key=sas.hub_key(key.reveal()),
            rule=policy,
            expires_at=expires_at or int(self.clock()) + 600,
        ).reveal()

    async def call(self, method, path, *, token=None, version="2021-04-12", headers=(), **body):
        query = {} if version is None else {"api-version": version}
        own = {"Authorization": self.token() if token is None else token}
        async with self.session.request(
            method, f"https://{self.host}{path}", params=query, headers=own | dict(headers), **body
        ) as response:
            raw = await response.read()
            return response.status, response.headers, json.loads(raw) if raw else None

    async def error(self, *arguments, **options):
        """Return status, code and name of an error, whose three places must agree."""
        status, headers, body = await self.call(*arguments, **options)
        inner = json.loads(body["Message"])
        assert inner["errorCode"] // 1000 == status
        return inner["errorCode"], headers["iothub-errorcode"]

    def method(self, device="mri-7", **body):
        return self.call("POST", f"/twins/{device}/methods", json={"methodName": "Open"} | body)


@pytest.fixture
def rest(sim, http, clock):
    return HubRest(sim, http, clock)
