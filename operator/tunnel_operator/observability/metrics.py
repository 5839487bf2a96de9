"""The operator's metrics, in a registry of their own."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counts passes and calls to Azure, and shows how much there is to do."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._passes = Histogram(
            "tunnel_operator_pass_seconds",
            "Passes over a Tunnel, by outcome.",
            ["outcome"],
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self._calls = Counter(
            "tunnel_operator_azure_calls",
            "Calls to Azure, by service, verb and outcome.",
            ["service", "verb", "outcome"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "tunnel_operator_queue_depth", "Tunnels that are due.", registry=self.registry
        )
        self.tunnels = Gauge(
            "tunnel_operator_tunnels", "Tunnels in the cluster.", registry=self.registry
        )

    def observe_pass(self, outcome: str, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(outcome).observe(seconds)

    def observe_call(self, service: str, verb: str, outcome: str) -> None:
        """Count a call to Azure."""
        self._calls.labels(service, verb, outcome).inc()

    def render(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)
