"""The metrics, as Prometheus's own client reads them."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.parser import text_string_to_metric_families

from tunnel_forwarder.clock import Clock
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.metrics import PREFIX, SET_UP_BUCKETS, Gauges, Histogram, exposition
from tunnel_forwarder.session import Session


def read(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass(eq=False)
class Stream:
    from_tcp: SimpleNamespace
    from_link: SimpleNamespace


@pytest.fixture
def session():
    session = Session(Clock())
    session.opened(Stream(SimpleNamespace(bytes=5), SimpleNamespace(bytes=7)))
    session.refusals[Reason.NO_LISTENER] += 2
    return session


def test_prometheus_reads_what_the_session_holds(session):
    gauges = Gauges(warm_connections=2, ready=True, deadline_seconds=12.5)
    text = exposition(session, Histogram(), gauges).decode()
    values = read(text)
    assert values[f"{PREFIX}_streams_open",] == 1
    assert values[f"{PREFIX}_streams_total",] == 1
    assert values[f"{PREFIX}_bytes_total", "in"] == 5
    assert values[f"{PREFIX}_bytes_total", "out"] == 7
    assert values[f"{PREFIX}_refusals_total", "no_listener"] == 2
    assert values[f"{PREFIX}_refusals_total", "expired"] == 0
    assert values[f"{PREFIX}_warm_connections",] == 2
    assert values[f"{PREFIX}_ready",] == 1
    assert values[f"{PREFIX}_deadline_seconds",] == 12.5
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation and family.type != "unknown" for family in families)


@given(st.lists(st.floats(0, 60) | st.sampled_from(SET_UP_BUCKETS)))
def test_a_histogram_counts_as_prometheus_does(values):
    registry = CollectorRegistry()
    theirs = TheirHistogram("x", "Text.", buckets=SET_UP_BUCKETS, registry=registry)
    ours = Histogram()
    for value in values:
        ours.observe(value)
        theirs.observe(value)
    expected = read(generate_latest(registry).decode())
    text = "".join(f"x{suffix} {value}\n" for suffix, value in ours.samples())
    assert read(text) == {k: v for k, v in expected.items() if k[0] != "x_created"}
