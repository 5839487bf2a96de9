"""What a forwarder has carried, and the message that it leaves when it ends."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from .clock import Clock
from .errors import Reason
from .lifetime import EndReason
from .protocol.method import format_time
from .pump import Flow, Pump

MESSAGE_LIMIT = 4096
"""Bytes of a termination message that the kubelet reads (Kubernetes documentation "Determine the
Reason for Pod Failure")."""

_SENTENCE_LIMIT = 1024


@dataclass(slots=True, eq=False)
class Session:
    """Totals of a forwarder's life. "In" is from the client to the device, at either end.

    Being born counts as activity, so that a fresh forwarder has its whole idle time before it.
    """

    clock: Clock
    at_device: bool = False
    connections: int = 0
    refusals: Counter[Reason] = field(default_factory=Counter)
    open: set[Pump] = field(default_factory=set)
    _in: int = 0
    _out: int = 0
    _first: float | None = None
    _last: float | None = None
    _born: float = field(init=False)

    def __post_init__(self) -> None:
        self._born = self.clock.monotonic()

    def into_device(self, pump: Pump) -> Flow:
        """Return a stream's flow from the client to the device."""
        return pump.from_link if self.at_device else pump.from_tcp

    def out_of_device(self, pump: Pump) -> Flow:
        """Return a stream's flow from the device to the client."""
        return pump.from_tcp if self.at_device else pump.from_link

    @property
    def bytes_in(self) -> int:
        """Bytes from clients to the device."""
        return self._in + sum(self.into_device(pump).bytes for pump in self.open)

    @property
    def bytes_out(self) -> int:
        """Bytes from the device to clients."""
        return self._out + sum(self.out_of_device(pump).bytes for pump in self.open)

    @property
    def idle_for(self) -> float:
        """Seconds since the last byte of a client's stream, or since the start."""
        return self.clock.monotonic() - (self._born if self._last is None else self._last)

    def touch(self) -> None:
        """Note that a byte has passed."""
        self._last = self.clock.monotonic()
        if self._first is None:
            self._first = self._last

    def opened(self, pump: Pump) -> None:
        """Note that a stream began."""
        self.connections += 1
        self.open.add(pump)

    def closed(self, pump: Pump) -> None:
        """Note that a stream is over."""
        self.open.discard(pump)
        self._in += self.into_device(pump).bytes
        self._out += self.out_of_device(pump).bytes

    def first_activity(self) -> datetime | None:
        """Return when the first byte passed."""
        return None if self._first is None else self.clock.date_of(self._first)

    def last_activity(self) -> datetime | None:
        """Return when the last byte passed."""
        return None if self._last is None else self.clock.date_of(self._last)

    def totals(self) -> dict[str, object]:
        """Return the totals under the names of the termination message and of a Tunnel's status."""
        first, last = self.first_activity(), self.last_activity()
        return {
            "connections": self.connections,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
            "firstActivity": first and format_time(first),
            "lastActivity": last and format_time(last),
        }

    def termination_message(self, reason: EndReason, sentence: str | None = None) -> str:
        """Return the JSON that the operator reads from the Pod's status, within the kubelet's limit."""
        message: dict[str, object] = {"reason": reason.value, **self.totals()}
        if sentence:
            message["message"] = sentence[:_SENTENCE_LIMIT]
        # ASCII only, so that a character is a byte; at most six of them for each of the sentence's.
        text = json.dumps(message)
        if len(text) > MESSAGE_LIMIT:
            del message["message"]
            text = json.dumps(message)
        return text
