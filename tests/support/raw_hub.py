"""The simulated IoT Hub from both sides: a device's MQTT packets, and a service's REST calls."""

import asyncio
import json
import struct

from support.raw_websocket import DEADLINE, Dialler, rest_of
from tunnel_forwarder.protocol import sas

CLEAN, KEPT = 0xC2, 0xC0
"""CONNECT's flags with user name and password: with CleanSession, and without."""


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
        return await rest_of(self.reader)


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
        body = text("MQTT") + bytes([options.get("level", 4), options.get("flags", CLEAN)])
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
