"""Two joined sockets: every frame as it was, ends told apart, and memory bounded."""

import asyncio
import contextlib
import gc
import itertools

import pytest

from tunnel_azure_sim import Target

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MIB = 1024 * 1024


async def test_frames_pass_as_they_are(relay):
    sender, listener = await relay.pair()
    frames = [
        (TEXT, "grüße".encode(), True),
        (BINARY, b"", True),
        (BINARY, b"begin", False),
        (CONTINUATION, b"", False),
        (CONTINUATION, b"end", True),
        (TEXT, b"\xff not UTF-8", True),
        (BINARY, bytes(range(256)) * 400, True),
        (TEXT, b"", True),
        (BINARY, b"x" * 125, True),
        (BINARY, b"x" * 126, True),
        (BINARY, b"x" * 65535, True),
        (BINARY, b"x" * 65536, True),
    ]
    for source, target in ((sender, listener), (listener, sender)):
        for opcode, payload, fin in frames:
            await source.send(opcode, payload, fin=fin)
        for expected in frames:
            frame = await target.receive()
            assert (frame.opcode, frame.payload, frame.fin) == expected


async def test_pings_are_answered_here_and_not_passed_on(relay):
    sender, listener = await relay.pair()
    await sender.send(PONG, b"unasked")
    await sender.send(PING, b"1")
    pong = await sender.receive()
    assert (pong.opcode, pong.payload) == (PONG, b"1")
    await sender.send(BINARY, b"data")
    assert (await listener.receive()).payload == b"data"


def count_tls_sockets():
    return sum("SSLTransport_" in type(one).__qualname__ for one in gc.get_objects())


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("how", ["close", "loss", "drop"])
async def test_buffers_go_with_their_socket(sim, relay, how):
    control = await relay.listen()
    kept = count_tls_sockets()
    sender, listener = await relay.pair(control)
    await sender.send(BINARY, b"x" * 100_000)
    await listener.receive()
    assert count_tls_sockets() == kept + 2
    if how == "close":
        for one, other in ((sender, listener), (listener, sender)):
            await one.close()
            await other.receive_close()
    elif how == "loss":
        sender.abort()
        await listener.receive_close()
        listener.abort()
    else:
        sim.drop(Target.STREAMS)
    await sim.until(lambda: count_tls_sockets() == kept)


@pytest.mark.parametrize("sender_first", [True, False])
async def test_close_ends_one_direction_alone(sim, relay, sender_first):
    sender, listener = await relay.pair()
    first, second = (sender, listener) if sender_first else (listener, sender)
    await first.send(BINARY, b"request")
    await first.close(1000, b"Shutdown")
    assert (await second.receive()).payload == b"request"
    close = await second.receive()
    assert (close.close_code, close.payload[2:]) == (1000, b"Shutdown")
    for number in range(3):
        await second.send(BINARY, b"answer %d" % number)
        assert (await first.receive()).payload == b"answer %d" % number
    await second.close(4001, b"bye")
    close = await first.receive()
    assert (close.close_code, close.payload[2:]) == (4001, b"bye")
    assert await first.ended() == b""
    assert await second.ended() == b""
    await sim.until(lambda: sim.hybrid_connections()["hc"].streams == 0)


@pytest.mark.parametrize("one_way_close", [False], indirect=True)
async def test_close_ends_both_directions_when_told_so(relay):
    sender, listener = await relay.pair()
    await sender.close(1000, b"Shutdown")
    assert await sender.receive_close() == 1000
    assert await sender.ended() == b""
    assert await listener.receive_close() == 1000
    await listener.close()
    assert await listener.ended() == b""


async def test_close_without_a_code_passes_without_one(relay):
    sender, listener = await relay.pair()
    await sender.send(CLOSE)
    frame = await listener.receive()
    assert (frame.opcode, frame.payload) == (CLOSE, b"")
    await listener.send(CLOSE)
    assert (await sender.receive()).payload == b""


async def test_frames_after_a_close_go_nowhere(relay):
    sender, listener = await relay.pair()
    await sender.close()
    await sender.send(BINARY, b"too late")
    await listener.receive_close()
    await listener.close()
    assert await sender.receive_close() == 1000
    assert await listener.ended() == b""


@pytest.mark.parametrize(("lost", "code"), [("sender", 1001), ("listener", 1011)])
async def test_loss_is_told_from_an_end(sim, relay, lost, code):
    sender, listener = await relay.pair()
    gone, left = (sender, listener) if lost == "sender" else (listener, sender)
    await gone.send(BINARY, b"last words")
    await asyncio.sleep(0)
    gone.abort()
    assert (await left.receive()).payload == b"last words"
    assert await left.receive_close() == code
    await left.close()
    await left.ended()
    await sim.until(lambda: sim.hybrid_connections()["hc"].streams == 0)


async def test_loss_after_the_own_close_cuts_the_other_side(relay):
    sender, listener = await relay.pair()
    await sender.close()
    assert await listener.receive_close() == 1000
    sender.abort()
    await listener.ended()


@pytest.mark.parametrize("timings", [{"close": 0.2}], indirect=True)
async def test_side_that_does_not_answer_is_cut(sim, relay):
    sender, listener = await relay.pair()
    sender.abort()
    assert await listener.receive_close() == 1001
    await listener.ended()
    await sim.until(lambda: sim.hybrid_connections()["hc"].streams == 0)


@pytest.mark.parametrize(("frame", "code"), [
    ({"opcode": BINARY, "payload": b"x", "rsv": 4}, 1002),
    ({"opcode": BINARY, "payload": b"x", "masked": False}, 1002),
    ({"opcode": 3, "payload": b"x"}, 1002),
    ({"opcode": PING, "payload": b"x" * 126}, 1002),
    ({"opcode": CLOSE, "payload": b"\x00\x05"}, 1002),
    ({"opcode": CLOSE, "payload": b"\x00\x00"}, 1002),
    ({"opcode": CLOSE, "payload": b"\x03\xee"}, 1002),
])  # fmt: skip
async def test_frames_against_the_standard_end_the_stream(relay, frame, code):
    sender, listener = await relay.pair()
    await sender.send(frame.pop("opcode"), frame.pop("payload"), **frame)
    assert await sender.receive_close() == code
    assert await listener.receive_close() == 1001


async def test_too_large_frame_ends_the_stream(relay):
    sender, listener = await relay.pair()
    sender.writer.write(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"mask")
    assert await sender.receive_close() == 1009
    assert await listener.receive_close() == 1001


def block(number):
    """Return 64 KiB that are unlike those of another number."""
    return number.to_bytes(4, "big") * 16384


@pytest.mark.parametrize("sender_writes", [True, False])
async def test_stopped_reader_stops_the_writer_and_nobody_else(relay, sender_writes):
    control = await relay.listen()
    pair = await relay.pair(control)
    sender, listener = pair if sender_writes else reversed(pair)
    other_sender, other_listener = await relay.pair(control)
    listener.writer.transport.pause_reading()
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1000:
            await asyncio.wait_for(sender.send(BINARY, block(sent)), 0.5)
            sent += 1
    # What lies between is in the kernels' buffers and in one bounded buffer of ours.
    assert sent < 1000
    buffered = [
        side.transport.underlying_transport.get_write_buffer_size()
        for stream in relay.hc.streams
        for side in (stream.sender, stream.listener)
    ]
    assert max(buffered) < MIB
    await other_sender.send(BINARY, b"not held up")
    assert (await other_listener.receive()).payload == b"not held up"
    listener.writer.transport.resume_reading()
    for number in range(sent):
        assert (await listener.receive()).payload == block(number)


async def test_pings_of_a_client_that_reads_nothing_fill_no_memory(relay):
    sender, _ = await relay.pair()
    sender.writer.transport.pause_reading()
    side = next(iter(relay.hc.streams)).sender
    burst = b"\x89\xfd\0\0\0\0" + b"p" * 125
    for _ in range(400):
        if side.writing_paused:
            break
        sender.writer.write(burst * 2000)
        await asyncio.wait_for(sender.writer.drain(), 5)
    assert side.writing_paused
    sender.writer.write(burst * 2000)
    await asyncio.wait_for(sender.writer.drain(), 5)
    assert side.transport.underlying_transport.get_write_buffer_size() < MIB


async def test_order_and_content_survive_load(relay):
    control = await relay.listen()

    async def exchange(index):
        sender, listener = await relay.pair(control)
        sizes = itertools.islice(itertools.cycle([1, 100, 5000, 70_000, 0]), 100)
        blocks = [bytes([index, n % 251]) * (size // 2) for n, size in enumerate(sizes)]

        async def write(socket):
            for block in blocks:
                await socket.send(BINARY, block)

        async def read(socket):
            for block in blocks:
                assert (await socket.receive()).payload == block

        async with asyncio.TaskGroup() as group:
            for side in (sender, listener):
                group.create_task(write(side))
                group.create_task(read(side))

    for index in range(3):
        await exchange(index)


async def test_stop_ends_all_sockets(sim, relay):
    control = await relay.listen()
    sender, listener = await relay.pair(control)
    closing = asyncio.create_task(sim.__aexit__(None, None, None))
    for socket in (control, sender, listener):
        assert await socket.receive_close() == 1001
    await asyncio.wait_for(closing, 5)
