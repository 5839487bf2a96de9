"""What the operator has last said of each Tunnel, as metrics. Made at each scrape, so nothing stale is left."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..api.keys import Key
from ..api.reasons import ConditionType
from ..api.tunnel import Tunnel, TunnelStatus
from ..core.observed import Failure, Step
from .set_up import SetUp, follow

TRUTHS = ("True", "False", "Unknown")


@dataclass(frozen=True, slots=True)
class _Known:
    conditions: Mapping[str, str]
    reason: str
    expires_at: datetime | None
    attempts: Mapping[Step, int]
    set_up: SetUp | None


class TunnelMetrics(Collector):
    """Provides runtime.ports.Recorder, and a registry with what was recorded.

    Labels are bounded: by the Tunnels there are, and by closed lists of conditions, reasons and steps. No
    label holds what a person or a device wrote.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._known: dict[Key, _Known] = {}
        self._set_up = Histogram(
            "tunnel_set_up_seconds",
            "From a tunnel's opening until a hop was there for the first time, by hop.",
            ["hop"],
            buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 1800),
            registry=registry,
        )
        registry.register(self)

    def report(
        self, tunnel: Tunnel, status: TunnelStatus, failures: Mapping[Step, Failure]
    ) -> None:
        """Take what was just decided about a Tunnel."""
        key = Key(tunnel.metadata.namespace, tunnel.metadata.name)
        before = self._known.get(key)
        set_up, times = follow(before.set_up if before else None, tunnel.status, status)
        for hop, time in times.items():
            self._set_up.labels(hop).observe(time.total_seconds())
        ready = status.condition(ConditionType.READY)
        self._known[key] = _Known(
            conditions={c.type: c.status for c in status.conditions},
            reason=ready.reason if ready else "",
            # Without the finalizer nothing is left that could outlive its end.
            expires_at=status.expires_at if tunnel.has_finalizer else None,
            attempts={step: failure.attempts for step, failure in failures.items()},
            set_up=set_up,
        )

    def forget(self, key: Key) -> None:
        """Drop all series of a Tunnel that is gone, or is another controller's."""
        self._known.pop(key, None)

    def describe(self) -> Iterator[Metric]:
        """Return the names, so that no other metric takes one of them."""
        return iter((_conditions(), _reasons(), _expiry(), _failures(), _failing()))

    def collect(self) -> Iterator[Metric]:
        """Return the state of this moment."""
        conditions, reasons, expiry = _conditions(), _reasons(), _expiry()
        now = self._clock()
        # A copy at once: a scrape is rendered in a thread, while the event loop goes on.
        tunnels = list(self._known.items())
        for key, known in tunnels:
            for kind in ConditionType:
                # A condition that is not there is as good as one that is not true.
                status = known.conditions.get(kind, "False")
                for truth in TRUTHS:
                    conditions.add_metric((*key, kind, truth), float(status == truth))
            if known.reason:
                reasons.add_metric((*key, known.reason), 1)
            if known.expires_at is not None:
                expiry.add_metric(key, (known.expires_at - now).total_seconds())
        yield from (conditions, reasons, expiry)
        yield from _steps([known.attempts for _, known in tunnels])


def _steps(tunnels: list[Mapping[Step, int]]) -> Iterator[Metric]:
    """Sum over all tunnels: one series for each step, however many tunnels there are."""
    in_a_row, failing = _failures(), _failing()
    for step in Step:
        attempts = [tunnel.get(step, 0) for tunnel in tunnels]
        in_a_row.add_metric((step,), max(attempts, default=0))
        failing.add_metric((step,), sum(count > 0 for count in attempts))
    return iter((in_a_row, failing))


def _conditions() -> GaugeMetricFamily:
    text = "1 for the status that a Tunnel's condition has, 0 for the others."
    return GaugeMetricFamily(
        "tunnel_condition", text, labels=("namespace", "name", "type", "status")
    )


def _reasons() -> GaugeMetricFamily:
    text = "Always 1; the reason of a Tunnel's condition Ready is in the label."
    return GaugeMetricFamily("tunnel_ready_reason", text, labels=("namespace", "name", "reason"))


def _expiry() -> GaugeMetricFamily:
    text = "Until a Tunnel ends; below 0 while something of it is left after its end."
    return GaugeMetricFamily("tunnel_seconds_to_expiry", text, labels=("namespace", "name"))


def _failures() -> GaugeMetricFamily:
    text = "Failed attempts in a row, of the Tunnel that has most of them, by step."
    return GaugeMetricFamily("tunnel_operator_failures_in_a_row", text, labels=("step",))


def _failing() -> GaugeMetricFamily:
    text = "Tunnels whose newest attempt at a step failed, by step."
    return GaugeMetricFamily("tunnel_operator_failing_tunnels", text, labels=("step",))
