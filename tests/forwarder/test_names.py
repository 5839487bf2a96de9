"""Names that lead elsewhere from one dial to the next."""

import socket

from support.bridge import bridging
from support.peers import connected, echo, listening
from support.relay import FakeRelay
from support.waiting import until


async def test_a_name_is_looked_up_at_each_dial(certificates, monkeypatch):
    addresses, looked_up = ["127.0.0.1"], []
    real = socket.getaddrinfo

    def lookup(host, *arguments, **options):
        if host != "relay.test":
            return real(host, *arguments, **options)
        looked_up.append(addresses[0])
        return real(addresses[0], *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    first = FakeRelay().running(certificates.server, name="relay.test")
    relay = await first.__aenter__()
    try:
        async with (
            listening(echo) as target,
            bridging(relay, certificates, {"echo": target}) as tunnel,
        ):
            async with connected(tunnel.port()) as client:
                await client.send(b"x")
                assert await client.read(1) == b"x"
            addresses[0] = "127.0.0.2"  # nobody listens there
            async with connected(tunnel.port()) as client:
                assert await client.is_reset()
            addresses[0] = "127.0.0.1"
            await until(lambda: tunnel.remote.listening)
            async with connected(tunnel.port()) as client:
                await client.send(b"y")
                assert await client.read(1) == b"y"
        assert {"127.0.0.1", "127.0.0.2"} <= set(looked_up)
    finally:
        await first.__aexit__(None, None, None)
