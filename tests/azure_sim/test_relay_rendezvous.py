"""Senders and listeners meet: what is passed on, and how often an address is good."""

import asyncio
from urllib.parse import quote

import pytest

from tunnel_forwarder.protocol.urls import TOKEN_HEADER


async def test_suffix_and_query_are_passed_and_the_relays_own_are_not(relay):
    control = await relay.listen()
    token = quote(relay.token("send"), safe="")
    own = f"sb-hc-action=connect&sb-hc-id=s&sb-hc-token={token}"
    dialling = asyncio.create_task(relay.websocket(f"/$hc/hc/some%20site/x?user=a%2Fb&{own}&flag"))
    message = (await control.receive()).json["accept"]
    path, _, query = message["address"].partition(str(relay.port))[2].partition("?")
    assert path == "/$hc/hc/some%20site/x"
    assert query.split("&")[0] == "sb-hc-action=accept"
    assert query.endswith("&user=a%2Fb&flag")
    assert "token" not in query
    assert message["address"].startswith(f"wss://{relay.host}:{relay.port}/")
    assert message["id"].startswith("s_G")
    dialling.cancel()


async def test_listeners_host_name_is_kept(relay):
    reader_headers = [("Host", f"localhost:{relay.port}")]
    control = await relay.websocket(
        "/$hc/hc?sb-hc-action=listen", relay.token(), headers=reader_headers
    )
    dialling = relay.dial()
    address = (await control.receive()).json["accept"]["address"]
    # Two Host headers came, so neither is believed.
    assert address.startswith(f"wss://{relay.host}:")
    dialling.cancel()


async def test_relay_token_is_hidden_and_other_headers_are_shown(relay):
    control = await relay.listen()
    extra = [("X-Site", "north"), ("Authorization", "Basic for-the-target"), ("X-Site", "south")]
    dialling = relay.dial(headers=extra)
    headers = (await control.receive()).json["accept"]["connectHeaders"]
    assert headers["X-Site"] == "north, south"
    assert headers["Authorization"] == "Basic for-the-target"
    assert TOKEN_HEADER not in headers
    assert headers["Host"] == f"{relay.host}:{relay.port}"
    dialling.cancel()


async def test_authorization_is_hidden_when_it_was_the_relays(relay):
    control = await relay.listen()
    dialling = asyncio.create_task(
        relay.websocket(
            "/$hc/hc?sb-hc-action=connect", headers=[("Authorization", relay.token("send"))]
        )
    )
    headers = (await control.receive()).json["accept"]["connectHeaders"]
    assert "Authorization" not in headers
    dialling.cancel()


async def test_address_is_good_once(relay):
    control = await relay.listen()
    dialling = relay.dial()
    address = await relay.offered(control)
    await relay.websocket(address)
    await dialling
    assert await relay.status(relay.websocket(address)) == 403


async def test_address_may_be_spelled_otherwise(relay):
    # yarl, and so aiohttp, writes an address's escapes anew.
    control = await relay.listen()
    dialling = relay.dial("hc/%7Euser")
    address = await relay.offered(control)
    await relay.websocket(address.replace("/$hc/hc/%7Euser", "/%24hc/hc/~user"))
    await dialling


async def test_address_is_good_for_its_own_path_alone(relay):
    control = await relay.listen()
    dialling = relay.dial()
    address = await relay.offered(control)
    assert await relay.status(relay.websocket(address.replace("/$hc/hc", "/$hc/hc/x"))) == 403
    assert await relay.status(relay.websocket("/$hc/hc?sb-hc-action=accept&sb-hc-id=s")) == 403
    await relay.websocket(address)
    await dialling


@pytest.mark.parametrize("timings", [{"rendezvous": 0.2}], indirect=True)
async def test_nobody_accepts_in_time(sim, relay):
    control = await relay.listen()
    dialling = relay.dial()
    address = await relay.offered(control)
    assert await relay.status(dialling) == 504
    assert await relay.status(relay.websocket(address)) == 403
    assert sim.hybrid_connections()["hc"].waiting_senders == 0


async def test_sender_that_left_can_not_be_accepted(sim, relay):
    control = await relay.listen()
    _, writer = await relay.request(
        "/$hc/hc?sb-hc-action=connect",
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            (TOKEN_HEADER, relay.token("send")),
        ],
    )
    address = await relay.offered(control)
    writer.transport.abort()
    await sim.until(lambda: sim.hybrid_connections()["hc"].waiting_senders == 0)
    assert await relay.status(relay.websocket(address)) == 403


async def test_rejection_reaches_the_sender(relay):
    control = await relay.listen()
    dialling = relay.dial()
    address = await relay.offered(control)
    rejection = "&sb-hc-statusCode=418&sb-hc-statusDescription=not%20today%0D%0A"
    assert await relay.status(relay.websocket(address + rejection)) == 410
    refusal = await relay.refused(dialling)
    assert (refusal.status, refusal.reason.strip()) == (418, "not today")
    assert await relay.status(relay.websocket(address)) == 403


async def test_malformed_rejection_leaves_the_sender_waiting(relay):
    control = await relay.listen()
    dialling = relay.dial()
    address = await relay.offered(control)
    for status in ("200", "abc", "", "99999999"):
        rejection = f"&sb-hc-statusCode={status}&sb-hc-statusDescription=x"
        assert await relay.status(relay.websocket(address + rejection)) == 400
    await relay.websocket(address)
    await dialling


@pytest.mark.parametrize(("accepted", "agreed"), [
    ("b, a", "b"),
    ("a", "a"),
    ("c", None),
    (None, None),
])  # fmt: skip
async def test_sub_protocol_is_the_listeners_choice(relay, accepted, agreed):
    control = await relay.listen()
    dialling = relay.dial(headers=[("Sec-WebSocket-Protocol", "a, b")])
    message = (await control.receive()).json["accept"]
    assert message["connectHeaders"]["Sec-WebSocket-Protocol"] == "a, b"
    headers = [] if accepted is None else [("Sec-WebSocket-Protocol", accepted)]
    path = message["address"].partition(str(relay.port))[2]
    listener = await relay.websocket(path, headers=headers)
    for side in (listener, await dialling):
        assert side.headers.get("Sec-WebSocket-Protocol") == agreed


async def test_senders_are_spread_over_listeners(relay):
    controls = [await relay.listen() for _ in range(4)]
    counts = [0, 0, 0, 0]

    async def serve(index):
        while True:
            await relay.accept(controls[index])
            counts[index] += 1

    async with asyncio.TaskGroup() as group:
        servers = [group.create_task(serve(index)) for index in range(4)]
        for _ in range(40):
            await relay.dial()
        for server in servers:
            server.cancel()
    assert sum(counts) == 40
    assert min(counts) > 0


async def test_bytes_sent_too_early_are_kept(relay):
    control = await relay.listen()
    reader, writer = await relay.request(
        "/$hc/hc?sb-hc-action=connect",
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            (TOKEN_HEADER, relay.token("send")),
        ],
    )
    # A masked binary frame with the mask 0: its payload stands as it is.
    early = b"".join(b"\x82\xfe\x10\x00\0\0\0\0" + bytes([n]) * 4096 for n in range(40))
    writer.write(early)
    listener = await relay.accept(control)
    await relay.answer(reader)
    for number in range(40):
        assert (await listener.receive()).payload == bytes([number]) * 4096
