"""What Prometheus sees of a local forwarder, in its text format (version 0.0.4).

prometheus_client, which was here first, loads a web server and more: 2.7 MiB of a process that is one for
each tunnel. All metrics but one are read from the session when they are asked for, so that carrying bytes
costs none.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from .errors import Reason
from .session import Session

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "tunnel_forwarder"
SET_UP_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Sample = tuple[str, float]
"""What follows the family's name, labels included, and a value."""


@dataclass(slots=True, eq=False)
class Histogram:
    """Seconds, counted by upper bounds; a value on a bound is below it."""

    bounds: tuple[float, ...] = SET_UP_BUCKETS
    sum: float = 0.0
    _counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.sum += seconds
        self._counts[bisect_left(self.bounds, seconds)] += 1

    def samples(self) -> Iterator[Sample]:
        """Return the buckets, each with all below it, then the sum and the count."""
        totals = list(accumulate(self._counts))
        for bound, total in zip((*self.bounds, "+Inf"), totals, strict=True):
            yield f'_bucket{{le="{bound}"}}', total
        yield "_sum", self.sum
        yield "_count", totals[-1]


@dataclass(frozen=True, slots=True)
class Gauges:
    """What only the forwarder itself can tell."""

    warm_connections: int
    ready: bool
    deadline_seconds: float


def exposition(session: Session, set_up: Histogram, gauges: Gauges) -> bytes:
    """Return all metrics as they are now."""
    return "".join(
        (
            _gauge("streams_open", "Streams that are open.", len(session.open)),
            _gauge("warm_connections", "Rendezvous made ahead of use.", gauges.warm_connections),
            _gauge("ready", "1 when the device's listener is known to answer.", gauges.ready),
            _gauge("deadline_seconds", "Seconds until the deadline.", gauges.deadline_seconds),
            _gauge("idle_seconds", "Seconds since the last byte of a client.", session.idle_for),
            _family(
                "streams_total", "counter", "Streams that were set up.", [("", session.connections)]
            ),
            _family(
                "bytes_total",
                "counter",
                "Bytes carried; in is from the client to the device.",
                [
                    ('{direction="in"}', session.bytes_in),
                    ('{direction="out"}', session.bytes_out),
                ],
            ),
            _family(
                "refusals_total",
                "counter",
                "Streams that were not set up, by reason.",
                [(f'{{reason="{reason.value}"}}', session.refusals[reason]) for reason in Reason],
            ),
            _family(
                "stream_set_up_seconds",
                "histogram",
                "From a client's arrival until the device has accepted its stream.",
                set_up.samples(),
            ),
        )
    ).encode()


def _gauge(name: str, text: str, value: float) -> str:
    return _family(name, "gauge", text, [("", value)])


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    name = f"{PREFIX}_{name}"
    lines = [f"{name}{suffix} {float(value)!r}" for suffix, value in samples]
    return "\n".join((f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines, ""))
