"""The multiplexer under any order of events (Hypothesis)."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.mux import WEB, pass_on
from tunnel_forwarder.protocol import mux_events
from tunnel_forwarder.protocol.mux import Multiplexer
from tunnel_forwarder.protocol.mux_events import RefusalCode

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
