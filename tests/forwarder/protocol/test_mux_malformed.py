"""The multiplexer with a peer that does not keep to the protocol, and with noise."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.mux import WEB
from tunnel_forwarder.protocol import mux_events
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.frames import MAX_PAYLOAD, FrameReader, Kind, make_frame
from tunnel_forwarder.protocol.mux import Multiplexer

OPENED = make_frame(Kind.OPEN, 1, b"\0web")


@pytest.mark.parametrize(
    "frames",
    [
        make_frame(Kind.DATA, 1, b"x"),
        make_frame(Kind.OPEN, 1, b"\x02web"),
        make_frame(Kind.OPEN, 1, b"\x00\xff"),
        make_frame(Kind.OPEN, 0, b"\x00web"),
        make_frame(Kind.GOAWAY, 1),
        make_frame(0, 1),
        make_frame(99, 1),
        OPENED + OPENED,
        OPENED + make_frame(Kind.ACCEPT, 1),
        OPENED + make_frame(Kind.REFUSE, 1, b"\x01"),
        OPENED + make_frame(Kind.EOF, 1) + make_frame(Kind.DATA, 1, b"x"),
        OPENED + make_frame(Kind.EOF, 1) * 2,
        OPENED + make_frame(Kind.DATA, 1),
        OPENED + make_frame(Kind.DATA, 1, bytes(MAX_PAYLOAD)) * 5,
        OPENED + make_frame(Kind.CREDIT, 1, b"\xff\xff\xff\xff"),
        OPENED + make_frame(Kind.DATA, 1, bytes(MAX_PAYLOAD + 1)),
    ],
)
def test_a_peer_that_does_not_keep_to_it_is_found_out(frames):
    with pytest.raises(ProtocolError):
        Multiplexer(opens=False).feed(frames)


def test_the_opener_hears_nothing_on_a_stream_that_is_not_accepted():
    opener = Multiplexer(opens=True)
    number = opener.open(WEB)
    with pytest.raises(ProtocolError):
        opener.feed(make_frame(Kind.DATA, number, b"x"))
    with pytest.raises(ProtocolError):
        opener.feed(make_frame(Kind.OPEN, 7, b"\0web"))


def test_a_peer_that_wants_answers_and_does_not_read_them_is_cut_off():
    acceptor = Multiplexer(opens=False, max_streams=0)
    flood = b"".join(make_frame(Kind.OPEN, number, b"\0web") for number in range(1, 20_000))
    pieces = [flood[at : at + 4096] for at in range(0, len(flood), 4096)]
    with pytest.raises(ProtocolError, match="does not read"):
        collections.deque(map(acceptor.feed, pieces))


@given(st.binary(max_size=400), st.booleans(), st.integers(1, 50))
def test_noise_is_no_crash_and_no_hang(noise, opens, step):
    end = Multiplexer(opens=opens)
    if opens:
        end.open(WEB)
    try:
        for at in range(0, len(noise), step):
            end.feed(noise[at : at + step])
    except ProtocolError:
        pass
    while end.take():
        pass


FRAMES = st.builds(
    make_frame,
    st.sampled_from(list(Kind)),
    st.integers(0, 4),
    st.sampled_from([b"", b"\0web", b"\1dns", b"\0\0\1\0", b"\1no", b"x" * 300]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_frames_in_any_order_are_no_crash_and_no_hang(frames, opens):
    end = Multiplexer(opens=opens)
    if opens:
        end.open(WEB)
        end.open(WEB)
    try:
        for event in end.feed(b"".join(frames)):
            if isinstance(event, mux_events.Opened):
                end.accept(event.stream)
                end.send(event.stream, b"data")
            if isinstance(event, mux_events.Data):
                end.consumed(event.stream, len(event.payload))
    except ProtocolError:
        pass
    while end.take():
        pass


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 20))
def test_frames_are_cut_out_however_they_arrive(payloads, step):
    data = b"".join(make_frame(Kind.RESET, 1, payload) for payload in payloads)
    reader, found = FrameReader(), []
    for at in range(0, len(data), step):
        found += [bytes(payload) for _, _, payload in reader.feed(data[at : at + step])]
    assert found == payloads
