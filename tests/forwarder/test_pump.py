"""The pump without sockets: two ends that only remember, and every order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tunnel_forwarder.pump import Pump


class FakeEnd:
    """An end as TCP is: it keeps order, and after an abort nothing arrives."""

    def __init__(self):
        self.written = bytearray()
        self.eof = False
        self.paused = False
        self.closed = False
        self.aborted = None
        self.pump = self.reads = self.writes = None

    def start(self, pump, *, reads, writes):
        self.pump, self.reads, self.writes = pump, reads, writes

    def write(self, chunk):
        assert len(chunk) > 0
        assert not self.eof
        assert not self.closed
        assert self.aborted is None
        self.written += chunk

    def write_eof(self):
        assert not self.eof
        self.eof = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def close(self):
        self.closed = True

    def abort(self, reason):
        self.aborted = self.aborted or reason


class Joined:
    def __init__(self):
        self.tcp, self.link = FakeEnd(), FakeEnd()
        self.touched = 0
        self.gone = 0
        self.pump = Pump(self.tcp, self.link, on_activity=self._touch, on_gone=self._gone)
        self.pump.start()

    def _touch(self):
        self.touched += 1

    def _gone(self):
        self.gone += 1


def test_an_end_passes_after_its_bytes_and_the_other_way_stays_open():
    joined = Joined()
    joined.tcp.reads.data(b"question")
    joined.tcp.reads.eof()
    assert (joined.link.written, joined.link.eof) == (b"question", True)
    joined.link.reads.data(b"answer")
    assert (joined.tcp.written, joined.tcp.eof) == (b"answer", False)
    assert joined.pump.outcome is None
    joined.link.reads.eof()
    assert joined.tcp.eof
    assert joined.tcp.closed
    assert joined.link.closed
    assert joined.pump.outcome == Pump.COMPLETED


def test_a_loss_is_never_an_end():
    joined = Joined()
    joined.tcp.reads.data(b"half a question")
    joined.pump.gone(joined.tcp, "reset")
    assert (joined.link.eof, joined.link.aborted) == (False, "reset")
    joined.pump.gone(joined.link, None)
    assert (joined.pump.outcome, joined.gone) == ("reset", 1)


def test_a_loss_without_an_error_before_the_end_is_a_loss():
    joined = Joined()
    joined.pump.gone(joined.link, None)
    assert joined.tcp.aborted


def test_a_peer_that_ended_and_left_is_not_missed_until_it_is_written_to():
    joined = Joined()
    joined.link.reads.data(b"all of it")
    joined.link.reads.eof()
    joined.pump.gone(joined.link, None)
    assert (joined.tcp.written, joined.tcp.eof, joined.tcp.aborted) == (b"all of it", True, None)
    joined.tcp.reads.eof()
    joined.pump.gone(joined.tcp, None)
    assert (joined.pump.outcome, joined.gone) == (Pump.COMPLETED, 1)


def test_what_is_sent_to_a_peer_that_left_ends_in_a_reset():
    joined = Joined()
    joined.link.reads.eof()
    joined.pump.gone(joined.link, None)
    joined.tcp.reads.data(b"more")
    assert joined.tcp.aborted
    assert not joined.link.written


def test_pressure_goes_to_the_other_end_only():
    joined = Joined()
    joined.link.writes.pause()
    assert (joined.tcp.paused, joined.link.paused) == (True, False)
    joined.link.writes.resume()
    assert not joined.tcp.paused


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, no byte is lost or invented, and no loss looks like an end."""

    @initialize()
    def begin(self):
        self.joined = Joined()
        self.sent = {"tcp": bytearray(), "link": bytearray()}
        self.ended = {"tcp": False, "link": False}
        self.left = {"tcp": False, "link": False}

    def other(self, name):
        return "link" if name == "tcp" else "tcp"

    def end(self, name):
        return getattr(self.joined, name)

    names = st.sampled_from(["tcp", "link"])

    @rule(name=names, data=st.binary(min_size=1, max_size=5))
    def read(self, name, data):
        if self.ended[name] or self.left[name]:
            return
        if self.joined.pump.outcome is None and not self.left[self.other(name)]:
            self.sent[name] += data
        self.end(name).reads.data(memoryview(data))

    @rule(name=names)
    def finish(self, name):
        if not self.left[name]:
            self.ended[name] = True
            self.end(name).reads.eof()

    @rule(name=names, error=st.sampled_from([None, "reset"]))
    def leave(self, name, error):
        if not self.left[name]:
            self.left[name] = True
            self.joined.pump.gone(self.end(name), error)

    @rule(name=names)
    def press(self, name):
        self.end(name).writes.pause()
        assert self.end(self.other(name)).paused
        self.end(name).writes.resume()

    @rule()
    def stop(self):
        self.joined.pump.abort("stopped")

    @precondition(lambda self: hasattr(self, "joined"))
    @invariant()
    def bytes_arrive_in_order(self):
        for name in self.sent:
            assert self.end(self.other(name)).written == self.sent[name]

    @precondition(lambda self: hasattr(self, "joined"))
    @invariant()
    def an_end_is_an_end(self):
        for name in self.sent:
            if self.end(self.other(name)).eof:
                assert self.ended[name]

    @precondition(lambda self: hasattr(self, "joined"))
    @invariant()
    def it_is_over_once_and_tells_once(self):
        pump = self.joined.pump
        assert self.joined.gone == int(all(self.left.values()))
        if pump.outcome == Pump.COMPLETED:
            assert all(self.ended.values())
        elif pump.outcome is not None:
            assert self.joined.tcp.aborted == self.joined.link.aborted == pump.outcome
        if pump.outcome is None:
            assert not any(end.closed or end.aborted for end in (self.joined.tcp, self.joined.link))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
