"""The multiplexer without sockets: what it says, what it refuses, and any order of events."""

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tunnel_forwarder.protocol import mux, mux_events
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.frames import MAX_PAYLOAD, FrameReader, Kind, make_frame
from tunnel_forwarder.protocol.mux import Multiplexer
from tunnel_forwarder.protocol.mux_events import RefusalCode
from tunnel_forwarder.protocol.preamble import Mode, PortRequest

WEB = PortRequest("web")


def pass_on(source, target):
    """Let the target have all that the source wants to send; return what it makes of it."""
    events = []
    while data := source.take():
        events += target.feed(data)
    return events


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


def test_the_opener_hears_nothing_on_a_stream_that_is_not_accepted(ends):
    opener, _ = ends
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


SMALL = 1000
"""A window in place of WINDOW, so that few bytes fill it."""


class Side:
    """One direction's history: what was given to the multiplexer and what came out at the other end."""

    def __init__(self):
        self.sent, self.received = bytearray(), bytearray()
        self.ended = self.heard_end = False


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, bytes arrive in order and no loss looks like an end."""

    @initialize()
    def begin(self):
        self.ends = {
            "opener": Multiplexer(opens=True, window=SMALL),
            "acceptor": Multiplexer(opens=False, window=SMALL),
        }
        self.numbers = []
        self.history = {}
        self.over = set()
        self.unread = {}

    def other(self, name):
        return "acceptor" if name == "opener" else "opener"

    names = st.sampled_from(["opener", "acceptor"])
    which = st.integers(0, 3)

    def pick(self, which):
        return self.numbers[which % len(self.numbers)] if self.numbers else None

    def may_send(self, name, number):
        end = self.ends[name]
        state = end._streams.get(number)
        return state is not None and not state.ending and (name == "opener" or state.accepted)

    @precondition(lambda self: hasattr(self, "ends") and len(self.numbers) < 4)
    @rule()
    def open(self):
        number = self.ends["opener"].open(WEB)
        self.numbers.append(number)
        for name in self.ends:
            self.history[name, number] = Side()
            self.unread[name, number] = 0

    @rule(name=names, which=which, size=st.sampled_from([1, 7, 900, 1100, 5000]))
    def send(self, name, which, size):
        number = self.pick(which)
        if number is not None and self.may_send(name, number):
            side = self.history[name, number]
            data = bytes((len(side.sent) + at) % 251 for at in range(size))
            side.sent += data
            self.ends[name].send(number, memoryview(data))

    @rule(name=names, which=which)
    def end(self, name, which):
        number = self.pick(which)
        if number is not None and self.may_send(name, number):
            self.ends[name].end(number)
            self.history[name, number].ended = True

    @rule(name=names, which=which)
    def reset(self, name, which):
        number = self.pick(which)
        if number is not None:
            self.ends[name].reset(number, "reset")
            self.over.add(number)

    @rule(which=which)
    def refuse(self, which):
        number = self.pick(which)
        state = self.ends["acceptor"]._streams.get(number)
        if state is not None and not state.accepted:
            self.ends["acceptor"].refuse(number, RefusalCode.UNKNOWN_PORT, "no")
            self.over.add(number)

    @rule(which=which)
    def accept(self, which):
        self.ends["acceptor"].accept(self.pick(which) or 0)

    @rule(name=names, which=which)
    def read(self, name, which):
        number = self.pick(which)
        if number is not None:
            count, self.unread[name, number] = self.unread[name, number], 0
            self.ends[name].consumed(number, count)

    @rule(
        name=names, limit=st.sampled_from([1, 1000, 1 << 20]), step=st.sampled_from([1, 7, 100, 0])
    )
    def travel(self, name, limit, step):
        data = self.ends[name].take(limit)
        for at in range(0, len(data), step or len(data) or 1):
            for event in self.ends[self.other(name)].feed(data[at : at + (step or len(data))]):
                self.hear(name, event)

    def hear(self, sender, event):
        match event:
            case mux_events.Data(number, payload):
                side = self.history[sender, number]
                assert not side.heard_end
                side.received += payload
                self.unread[self.other(sender), number] += len(payload)
            case mux_events.Ended(number):
                side = self.history[sender, number]
                side.heard_end = True
                assert side.ended
                assert side.received == side.sent
            case mux_events.WasReset(number, _) | mux_events.Refused(number, _, _):
                assert number in self.over

    @precondition(lambda self: hasattr(self, "ends"))
    @invariant()
    def bytes_arrive_in_order(self):
        for side in self.history.values():
            assert side.sent.startswith(side.received)

    @precondition(lambda self: hasattr(self, "ends"))
    @invariant()
    def what_is_held_is_bounded(self):
        for name, number in self.history:
            state = self.ends[name]._streams.get(number)
            if state is not None:
                assert self.unread[name, number] <= state.window

    def teardown(self):
        """In the end all arrives that was not reset, when everyone reads."""
        if not hasattr(self, "ends"):
            return
        for number in self.numbers:
            self.ends["acceptor"].accept(number)
        while self.everything_travels():
            pass
        for (_, number), side in self.history.items():
            if number not in self.over:
                assert side.received == side.sent
                assert side.heard_end == side.ended

    def everything_travels(self):
        """Tell whether anything has moved."""
        moved = False
        for (name, number), count in self.unread.items():
            self.unread[name, number] = 0
            self.ends[name].consumed(number, count)
        for name, end in self.ends.items():
            for event in pass_on(end, self.ends[self.other(name)]):
                moved = True
                self.hear(name, event)
                if isinstance(event, mux_events.Opened):
                    self.ends["acceptor"].accept(event.stream)
        return moved or any(end._control or end._ready for end in self.ends.values())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
