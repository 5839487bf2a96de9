"""The control channel's life: its token, its messages, its end."""

import json

import pytest

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


async def test_expired_token_ends_the_channel_and_no_stream(sim, relay, clock):
    expiry = clock.soon(0.4)
    control = await relay.listen(relay.token(expires_at=expiry))
    sender, listener = await relay.pair(control)
    assert await control.receive_close() == 1008
    assert sim.listeners("hc") == 0
    await sender.send(BINARY, b"on")
    assert (await listener.receive()).payload == b"on"


async def test_renewed_token_keeps_the_channel(sim, relay, clock):
    expiry = clock.soon(0.3)
    control = await relay.listen(relay.token(expires_at=expiry))
    await control.send_json({"renewToken": {"token": relay.token(expires_at=expiry + 600)}})
    await sim.until(lambda: clock() > expiry + 0.1)
    assert sim.listeners("hc") == 1
    await relay.pair(control)


async def test_refused_renewal_ends_the_channel(relay):
    for token in ("nonsense", relay.token("send"), relay.token(path="other")):
        control = await relay.listen()
        await control.send_json({"renewToken": {"token": token}})
        assert await control.receive_close() == 1008


async def test_message_in_fragments_is_put_together(sim, relay, clock):
    expiry = clock.soon(0.3)
    control = await relay.listen(relay.token(expires_at=expiry))
    token = relay.token(expires_at=expiry + 600)
    text = json.dumps({"renewToken": {"token": token}}).encode()
    await control.send(TEXT, text[:20], fin=False)
    await control.send(PING, b"between")
    await control.send(CONTINUATION, text[20:])
    assert (await control.receive()).opcode == PONG
    await sim.until(lambda: clock() > expiry + 0.1)
    assert sim.listeners("hc") == 1


async def test_unknown_messages_are_ignored(sim, relay):
    control = await relay.listen()
    await control.send_json({"response": {"requestId": "1", "statusCode": 200}})
    await control.send_json({"tomorrow": {}})
    await control.send(PONG, b"unasked")
    await control.send(PING, b"still there?")
    pong = await control.receive()
    assert (pong.opcode, pong.payload) == (PONG, b"still there?")
    assert sim.listeners("hc") == 1


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe", b'{"renewToken": {}}', b"[" * 100_000])
async def test_malformed_message_ends_the_channel(relay, text):
    control = await relay.listen()
    await control.send(TEXT, text)
    assert await control.receive_close() == 1007


async def test_endless_message_ends_the_channel(relay):
    control = await relay.listen()
    await control.send(TEXT, b"x" * 100_000, fin=False)
    await control.send(CONTINUATION, b"x" * 100_000)
    assert await control.receive_close() == 1009


async def test_listener_closes(sim, relay):
    control = await relay.listen()
    await control.close(1000)
    assert await control.receive_close() == 1000
    await control.ended()
    assert sim.listeners("hc") == 0


@pytest.mark.parametrize("timings", [{"close": 0.2}], indirect=True)
async def test_listener_that_does_not_answer_a_close_is_cut(relay):
    control = await relay.listen()
    await control.send(TEXT, b"{")
    await control.ended()


async def test_deleting_the_hybrid_connection_ends_everything(sim, relay):
    control = await relay.listen()
    sender, listener = await relay.pair(control)
    waiting = relay.dial()
    await sim.until(lambda: sim.hybrid_connections()["hc"].waiting_senders == 1)
    assert relay.namespace.remove("hc")
    for socket in (control, sender, listener):
        assert await socket.receive_close() == 1001
        await socket.close(1001)
        await socket.ended()
    assert await relay.status(waiting) == 404


async def test_listener_that_reads_nothing_is_dropped(sim, relay):
    control = await relay.listen()
    control.writer.transport.pause_reading()
    relay.hc.requires_client_authorization = False
    # Each offer repeats the sender's query, so some thousand fill the listener's way.
    target = f"/$hc/hc?sb-hc-action=connect&pad={'x' * 30_000}"
    channel = relay.hc.listeners[0]
    for _ in range(2000):
        if not channel.offer(target * 3):
            break
    assert sim.listeners("hc") == 0
