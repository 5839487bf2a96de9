"""The operator's metrics, in a registry of their own."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..core.breaker import State
from .tunnel_metrics import TunnelMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
OUTCOMES = ("done", "failed", "crashed")

Silences = Callable[[], Iterable[tuple[tuple[str, str], float]]]
"""Returns each watch by its resource and its namespace, with the seconds of its silence."""


_GAUGES = {
    "queue_depth": "Tunnels that are due and wait for a worker.",
    "active_passes": "Tunnels that are being worked on.",
    "oldest_pass_seconds": "How long the oldest pass has gone on.",
    "tunnels": "Tunnels in the watched namespaces.",
    "rollout_waiting": "Tunnels whose working forwarder is to be replaced once it is their turn.",
    "place_waiting": "Tunnels that wait for a place under their class's limit for a namespace.",
}


class Metrics:
    """Counts passes and calls to Azure, shows how much there is to do, and how the Tunnels are."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="tunnel_operator", registry=self.registry)
        self.tunnel = TunnelMetrics(self.registry, clock)
        self._passes = Histogram(
            "tunnel_operator_pass_seconds",
            "Passes over a Tunnel, by outcome.",
            ["outcome"],
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            # A series that begins with its first crash would hide that crash from `increase`.
            self._passes.labels(outcome)
        self._calls = Counter(
            "tunnel_operator_azure_calls",
            "Calls to Azure, by service, verb and code: ok, or what the answer was instead.",
            ["service", "verb", "code"],
            registry=self.registry,
        )
        self._call_times = Histogram(
            "tunnel_operator_azure_call_seconds",
            "How long calls to Azure take, by service and verb.",
            ["service", "verb"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self._leader = Gauge(
            "tunnel_operator_leader",
            "1 while this process holds the lead of all replicas, and works; else 0.",
            registry=self.registry,
        )
        self._budgets = Gauge(
            "tunnel_operator_budget_waiting",
            "Calls to Azure that wait for the operator's own budget or for a free slot, by service.",
            ["service"],
            registry=self.registry,
        )
        self._breakers = Gauge(
            "tunnel_operator_device_breakers",
            "Devices whose newest direct method failed, by their breaker's state: closed, open or half-open.",
            ["state"],
            registry=self.registry,
        )
        self._gauges = {
            name: Gauge(f"tunnel_operator_{name}", text, registry=self.registry)
            for name, text in _GAUGES.items()
        }

    def watch(self, **functions: Callable[[], float]) -> None:
        """Show at each scrape what these return then, one for each of `_GAUGES` by its name."""
        for name, gauge in self._gauges.items():
            gauge.set_function(functions[name])

    def watch_leader(self, leads: Callable[[], bool]) -> None:
        """Show at each scrape whether this process may act."""
        self._leader.set_function(lambda: float(leads()))

    def watch_budgets(self, waiting: Mapping[str, Callable[[], float]]) -> None:
        """Show at each scrape how many wait for each service's budget."""
        for service, count in waiting.items():
            self._budgets.labels(service).set_function(count)

    def watch_breakers(self, states: Callable[[], Mapping[State, int]]) -> None:
        """Show at each scrape how many devices' breakers are in which state."""
        for state in State:
            self._breakers.labels(state).set_function(partial(_count, states, state))

    def watch_silences(self, silences: Silences) -> None:
        """Show at each scrape for how long each watch has been silent."""
        self.registry.register(_Silences(silences))

    def observe_pass(self, outcome: str, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(outcome).observe(seconds)

    def observe_call(self, service: str, verb: str, code: str, seconds: float) -> None:
        """Count a call to Azure."""
        self._calls.labels(service, verb, code).inc()
        self._call_times.labels(service, verb).observe(seconds)

    def render(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


class _Silences(Collector):
    """Which watches there are is known only once kopf has begun them."""

    def __init__(self, silences: Silences) -> None:
        self._silences = silences

    def describe(self) -> Iterator[Metric]:
        """Return the name, so that no other metric takes it."""
        return iter((self._family(),))

    def collect(self) -> Iterator[Metric]:
        """Return the silences of this moment."""
        family = self._family()
        for watch, seconds in self._silences():
            family.add_metric(watch, seconds)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        text = (
            "Since a watch last brought an event or a bookmark or was opened again, by resource and"
            " namespace, which is empty when all are watched. After five minutes /livez fails."
        )
        return GaugeMetricFamily(
            "tunnel_operator_watch_silence_seconds", text, labels=("resource", "namespace")
        )


def _count(states: Callable[[], Mapping[State, int]], state: State) -> float:
    return states().get(state, 0)
