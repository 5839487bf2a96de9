import copy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tunnels import a_tunnel
from tunnel_operator.api.base import format_duration, format_time, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("0s", 0), ("2h", 7200), ("1h1m1s", 3661)],
)
def test_reads_durations(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "1d", "30m1h", "-1s", "1.5h"])
def test_refuses_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**6))
def test_durations_survive_the_way_there_and_back(seconds):
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


def test_times_are_written_as_kubernetes_does():
    moment = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    assert format_time(moment) == "2026-03-01T12:00:00Z"


def test_a_model_is_its_own_copy():
    """Otherwise most of the time that it takes to read a Tunnel goes into copies of defaults."""
    tunnel = a_tunnel()
    assert copy.deepcopy(tunnel) is tunnel
    assert a_tunnel().spec.expose is tunnel.spec.expose
