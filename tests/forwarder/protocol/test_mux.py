"""The multiplexer without sockets: what it says and what it refuses."""

import pytest

from support.mux import WEB, pass_on
from tunnel_forwarder.protocol import mux, mux_events
from tunnel_forwarder.protocol.frames import MAX_PAYLOAD, FrameReader, Kind, make_frame
from tunnel_forwarder.protocol.mux import Multiplexer
from tunnel_forwarder.protocol.mux_events import RefusalCode
from tunnel_forwarder.protocol.preamble import Mode, PortRequest


@pytest.fixture
def ends():
    return Multiplexer(opens=True), Multiplexer(opens=False)


@pytest.fixture
def stream(ends):
    opener, acceptor = ends
    number = opener.open(WEB)
    pass_on(opener, acceptor)
    acceptor.accept(number)
    pass_on(acceptor, opener)
    return number


def joined(events):
    return b"".join(event.payload for event in events if isinstance(event, mux_events.Data))


def test_a_frame_looks_as_documented():
    assert make_frame(Kind.DATA, 258, b"abc") == b"\x04\x00\x00\x03\x00\x00\x01\x02abc"
    opener = Multiplexer(opens=True)
    opener.open(PortRequest("dns", Mode.DATAGRAM))
    assert opener.take() == b"\x01\x00\x00\x04\x00\x00\x00\x01\x01dns"


def test_a_stream_is_asked_for_and_given(ends):
    opener, acceptor = ends
    number = opener.open(WEB)
    assert pass_on(opener, acceptor) == [mux_events.Opened(number, WEB)]
    acceptor.accept(number)
    assert pass_on(acceptor, opener) == [mux_events.Accepted(number)]


def test_a_stream_is_refused_and_forgotten(ends):
    opener, acceptor = ends
    number = opener.open(WEB)
    opener.send(number, b"early")
    pass_on(opener, acceptor)
    acceptor.refuse(number, RefusalCode.TARGET_REFUSED, "No.")
    assert pass_on(acceptor, opener) == [
        mux_events.Refused(number, RefusalCode.TARGET_REFUSED, "No.")
    ]
    assert not opener.has(number)
    assert not acceptor.has(number)
    opener.send(number, b"late")
    assert opener.take() == b""


def test_what_is_said_before_the_answer_arrives(ends):
    opener, acceptor = ends
    number = opener.open(WEB)
    opener.send(number, b"early")
    opener.end(number)
    (_, data, ended) = pass_on(opener, acceptor)
    assert (bytes(data.payload), ended) == (b"early", mux_events.Ended(number))


def test_each_direction_ends_by_itself(ends, stream):
    opener, acceptor = ends
    opener.end(stream)
    assert pass_on(opener, acceptor) == [mux_events.Ended(stream)]
    acceptor.send(stream, b"answer")
    assert joined(pass_on(acceptor, opener)) == b"answer"
    assert opener.has(stream)
    acceptor.end(stream)
    pass_on(acceptor, opener)
    assert not opener.has(stream)
    assert not acceptor.has(stream)


def test_a_reset_overtakes_what_is_queued(ends, stream):
    opener, acceptor = ends
    opener.send(stream, b"x" * MAX_PAYLOAD)
    opener.reset(stream, "gone")
    assert pass_on(opener, acceptor) == [mux_events.WasReset(stream, "gone")]


def test_nothing_is_sent_beyond_the_credit(ends, stream):
    opener, acceptor = ends
    assert opener.send(stream, b"x" * (mux.WINDOW + 100))
    received = joined(pass_on(opener, acceptor))
    assert len(received) == mux.WINDOW
    assert opener.relieved == [stream]
    acceptor.consumed(stream, mux.WINDOW)
    pass_on(acceptor, opener)
    assert len(joined(pass_on(opener, acceptor))) == 100


def test_a_stopped_reader_holds_its_own_stream_only(ends, stream):
    opener, acceptor = ends
    opener.send(stream, b"x" * 10 * mux.WINDOW)
    pass_on(opener, acceptor)
    other = opener.open(WEB)
    opener.send(other, b"hello")
    events = pass_on(opener, acceptor)
    assert bytes(events[-1].payload) == b"hello"


def test_streams_take_turns(ends):
    opener, _ = ends
    first, second = opener.open(WEB), opener.open(WEB)
    opener.take()
    opener.send(first, b"a" * 3 * MAX_PAYLOAD)
    opener.send(second, b"b" * 3 * MAX_PAYLOAD)
    order = []
    while data := opener.take(limit=1):
        order += [stream for _, stream, _ in FrameReader().feed(data)]
    assert order == [first, second] * 3


@pytest.mark.parametrize("late", [False, True])
def test_a_window_grows_for_a_reader_that_keeps_up_and_for_no_other(ends, stream, late):
    opener, acceptor = ends
    opener.send(stream, b"x" * 3 * mux.WINDOW)
    acceptor.consumed(stream, len(joined(pass_on(opener, acceptor))), late=late)
    assert acceptor._streams[stream].window == (1 if late else 4) * mux.WINDOW


def test_growth_is_bounded_for_one_and_for_all():
    opener, acceptor = Multiplexer(opens=True), Multiplexer(opens=False)
    for _ in range(20):
        number = opener.open(WEB)
        pass_on(opener, acceptor)
        opener.send(number, b"x" * 3 * mux.MAX_WINDOW)
        while events := pass_on(opener, acceptor):
            acceptor.consumed(number, len(joined(events)))
            pass_on(acceptor, opener)
        assert acceptor._streams[number].window <= mux.MAX_WINDOW
    granted = sum(state.window for state in acceptor._streams.values())
    assert granted == 20 * mux.WINDOW + mux.GROWTH_BUDGET
    for number in tuple(acceptor._streams):
        acceptor.reset(number, "")
    assert acceptor._budget == mux.GROWTH_BUDGET


def test_there_are_only_so_many_streams():
    opener, acceptor = Multiplexer(opens=True), Multiplexer(opens=False, max_streams=1)
    first, second = opener.open(WEB), opener.open(WEB)
    assert pass_on(opener, acceptor) == [mux_events.Opened(first, WEB)]
    (refused,) = pass_on(acceptor, opener)
    assert (refused.stream, refused.code) == (second, RefusalCode.TOO_MANY_STREAMS)


def test_who_goes_away_lets_streams_end(ends, stream):
    opener, acceptor = ends
    acceptor.go_away()
    assert pass_on(acceptor, opener) == [mux_events.GoingAway()]
    assert opener.full
    opener.send(stream, b"still here")
    assert joined(pass_on(opener, acceptor)) == b"still here"
