"""What Prometheus sees of a local forwarder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .errors import Reason
from .session import Session

PREFIX = "tunnel_forwarder"
SET_UP_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def make_set_up_histogram(registry: CollectorRegistry) -> Histogram:
    """Return the one metric that is written while streams run; all others are read when asked for."""
    return Histogram(
        f"{PREFIX}_stream_set_up_seconds",
        "From a client's arrival until the device has accepted its stream.",
        buckets=SET_UP_BUCKETS,
        registry=registry,
    )


@dataclass(frozen=True, eq=False)
class SessionCollector(Collector):
    """Reads the totals when Prometheus asks, so that carrying bytes costs no metric."""

    session: Session
    warm: Callable[[], int]
    ready: Callable[[], bool]
    seconds_left: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        """Return all metrics as they are now."""
        session = self.session
        yield _gauge("streams_open", "Streams that are open.", len(session.open))
        yield _gauge("warm_connections", "Rendezvous made ahead of use.", self.warm())
        yield _gauge("ready", "1 when the device's listener is known to answer.", self.ready())
        yield _gauge("deadline_seconds", "Seconds until the deadline.", self.seconds_left())
        yield _gauge("idle_seconds", "Seconds since the last byte of a client.", session.idle_for)
        yield CounterMetricFamily(
            f"{PREFIX}_streams", "Streams that were set up.", value=session.connections
        )
        carried = CounterMetricFamily(
            f"{PREFIX}_bytes",
            "Bytes carried; in is from the client to the device.",
            labels=["direction"],
        )
        carried.add_metric(["in"], session.bytes_in)
        carried.add_metric(["out"], session.bytes_out)
        yield carried
        refused = CounterMetricFamily(
            f"{PREFIX}_refusals", "Streams that were not set up, by reason.", labels=["reason"]
        )
        for reason in Reason:
            refused.add_metric([reason.value], session.refusals[reason])
        yield refused


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
