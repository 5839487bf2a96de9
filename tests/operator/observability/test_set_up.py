from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from support.tunnels import NOON
from tunnel_operator.api.conditions import Condition
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import SessionStatus, TunnelStatus
from tunnel_operator.observability.set_up import MEASURED, follow

BEGAN = NOON + timedelta(milliseconds=600)


def status(opened_at=NOON, session=None, **hops):
    conditions = [
        Condition(type=kind, status="True", reason="x", last_transition_time=at)
        for kind, at in {"Accepted": BEGAN, **hops}.items()
        if at is not None
    ]
    return TunnelStatus(opened_at=opened_at, session=session, conditions=tuple(conditions))


def after(seconds):
    return BEGAN + timedelta(seconds=seconds)


def test_each_hop_is_measured_once_from_the_moment_of_the_opening():
    known, times = follow(None, TunnelStatus(), status())
    assert times == {}
    known, times = follow(known, status(), status(HybridConnectionReady=after(0.4)))
    assert times == {"HybridConnectionReady": timedelta(seconds=0.4)}
    known, times = follow(
        known,
        status(HybridConnectionReady=after(0)),
        status(HybridConnectionReady=after(0), Ready=after(2)),
    )
    assert times == {"Ready": timedelta(seconds=2)}
    assert known.reached == {"HybridConnectionReady", "Ready"}


def test_a_device_that_reboots_later_is_no_slow_set_up():
    known, _ = follow(None, TunnelStatus(), status(DeviceListening=after(1)))
    known, _ = follow(known, status(), status(DeviceListening=None))
    _, times = follow(known, status(), status(DeviceListening=after(4000)))
    assert times == {}


def test_a_session_that_an_earlier_process_opened_is_not_measured():
    known, times = follow(None, status(), status(DeviceListening=after(4000)))
    assert (known, times) == (None, {})


def test_a_tunnel_that_is_opened_again_is_measured_again():
    known, _ = follow(None, TunnelStatus(), status(Ready=after(1)))
    ended = SessionStatus(generation=1, ended_at=after(60), reason=Reason.EXPIRED)
    known, _ = follow(known, status(), status(session=ended))
    assert known is None
    again = NOON + timedelta(hours=1)
    opened = status(opened_at=again, Accepted=again)
    known, _ = follow(known, status(session=ended), opened)
    _, times = follow(
        known, opened, status(opened_at=again, Accepted=again, Ready=again + timedelta(seconds=3))
    )
    assert times == {"Ready": timedelta(seconds=3)}


def test_without_a_record_of_the_decision_the_whole_second_counts():
    known, times = follow(None, TunnelStatus(), status(Accepted=None, Ready=NOON))
    assert times == {"Ready": timedelta(0)}
    assert known.began == NOON


@given(
    st.lists(
        st.lists(st.sampled_from(MEASURED), unique=True).map(
            lambda hops: {hop: after(1) for hop in hops}
        ),
        max_size=8,
    )
)
def test_no_hop_is_ever_measured_twice_in_a_session(reports):
    known, before, seen = None, TunnelStatus(), []
    for hops in reports:
        now = status(**hops)
        known, times = follow(known, before, now)
        before = now
        seen += times
    assert len(seen) == len(set(seen))
    assert set(seen) == {hop for hops in reports for hop in hops}


def test_what_was_never_opened_is_not_measured():
    assert follow(None, TunnelStatus(), status(opened_at=None)) == (None, {})
