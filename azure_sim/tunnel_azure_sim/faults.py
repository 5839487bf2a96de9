"""Faults on demand: what the planes ask before they act, so that a test decides what goes wrong.

A `Fault` is a fact that somebody put in; `Faults` answers the planes' questions from those facts. Chance
comes from one generator for each plane, so a seed fixes what a plane's clients meet, whatever the other
planes' clients do meanwhile. What goes wrong at once, such as a dropped socket, is in `actions`.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, assert_never

from .hub.errors import Code


class Plane(StrEnum):
    """What latency and outages apply to."""

    RELAY = "relay"
    """The relay's handshakes: upgrades, and relayed HTTP requests."""

    RELAY_DATA = "relay-data"
    """Frames on joined streams. It has no port of its own, so no outage either."""

    ARM = "arm"
    HUB = "hub"
    MQTT = "mqtt"
    IDENTITY = "identity"


class OutageMode(StrEnum):
    """How a plane is out."""

    REFUSE = "refuse"
    """Its port refuses, and its connections are cut."""

    ANSWER_503 = "503"
    """Requests are answered with 503."""

    SILENT = "silent"
    """Connections stay and new ones are made, and nothing on them is answered until this is over."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A plane takes between `seconds` and `seconds + jitter` longer; a later one replaces an earlier one."""

    plane: Plane
    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A plane is out. MQTT knows no 503: its port refuses in that mode, too."""

    plane: Plane
    mode: OutageMode = OutageMode.REFUSE


@dataclass(frozen=True, slots=True)
class ArmFailure:
    """The `nth` ARM call from now that fits, and `times - 1` that follow, fail without being carried out.

    `verb` is GET, PUT …; `resource` is a Kind of `arm.resource`, as the journal shows it; None fits all.
    """

    status: int
    verb: str | None = None
    resource: str | None = None
    nth: int = 1
    times: int = 1
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class HubFailure:
    """The `nth` REST call of a hub from now that fits, and `times - 1` that follow, are refused and not carried out.

    `resource` is methods, twins, devices or statistics; `device` is an id, or `device/module`; None fits all.
    """

    code: Code
    resource: str | None = None
    device: str | None = None
    nth: int = 1
    times: int = 1
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class LostMethodAnswer:
    """A direct method is carried out by the device, and its caller gets 504101 all the same."""

    device: str | None = None
    method: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class LostAccept:
    """Listeners are not told of senders, who wait until their time is over."""

    hybrid_connection: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class SlowReader:
    """The relay reads from each socket of new streams no faster than this."""

    bytes_per_second: int
    hybrid_connection: str | None = None


Fault = Latency | Outage | ArmFailure | HubFailure | LostMethodAnswer | LostAccept | SlowReader


_Failure = TypeVar("_Failure", ArmFailure, HubFailure)


@dataclass(slots=True)
class _Counted:
    """A fault that applies to a number of events; `skip` of them pass before."""

    fault: ArmFailure | HubFailure | LostMethodAnswer | LostAccept
    left: int
    skip: int = 0

    def takes(self) -> bool:
        """Count one event; whether the fault applies to it."""
        if self.skip:
            self.skip -= 1
            return False
        if not self.left:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Faults:
    """All faults that are in force. Without any, every question is answered with "no" and zero."""

    seed: int | None = None
    _latencies: dict[Plane, Latency] = field(default_factory=dict)
    _outages: dict[Plane, Outage] = field(default_factory=dict)
    _slow_readers: list[SlowReader] = field(default_factory=list)
    _counted: list[_Counted] = field(default_factory=list)
    _chance: dict[Plane, random.Random] = field(default_factory=dict)
    _held: dict[Plane, list[Callable[[], None]]] = field(default_factory=dict)

    def add(self, fault: Fault) -> None:
        """Put a fault in force."""
        match fault:
            case Latency():
                self._latencies[fault.plane] = fault
                self._chance[fault.plane] = self._generator(fault.plane)
            case Outage():
                self._outages[fault.plane] = fault
            case SlowReader():
                self._slow_readers.insert(0, fault)
            case ArmFailure() | HubFailure():
                self._counted.append(_Counted(fault, fault.times, fault.nth - 1))
            case LostMethodAnswer() | LostAccept():
                self._counted.append(_Counted(fault, fault.times))
            case _:
                assert_never(fault)

    def clear(self) -> None:
        """Take all faults out."""
        for kept in (self._latencies, self._outages, self._slow_readers, self._counted):
            kept.clear()

    def in_force(self) -> tuple[Fault, ...]:
        """Return the faults that can still show."""
        counted = tuple(one.fault for one in self._counted if one.left)
        return (
            *self._latencies.values(),
            *self._outages.values(),
            *self._slow_readers,
            *counted,
        )

    def delay(self, plane: Plane) -> float:
        """Return how many seconds longer a plane takes this time."""
        latency = self._latencies.get(plane)
        if latency is None:
            return 0.0
        return latency.seconds + latency.jitter * self._chance[plane].random()

    def has_latency(self, plane: Plane) -> bool:
        """Whether a plane takes longer at all."""
        return plane in self._latencies

    async def wait(self, plane: Plane) -> None:
        """Take as much longer as the plane's latency says."""
        if plane in self._latencies:
            await asyncio.sleep(self.delay(plane))

    async def wait_answering(self, plane: Plane) -> None:
        """Return once a plane is not silent."""
        answering = asyncio.Event()
        while self.hold(plane, answering.set):
            await answering.wait()
            answering.clear()

    def hold(self, plane: Plane, call: Callable[[], None]) -> bool:
        """Keep a call until a silent plane answers again; False when it is not silent."""
        if not self.is_silent(plane):
            return False
        self._held.setdefault(plane, []).append(call)
        return True

    def go_on(self) -> None:
        """Make the calls that were kept for planes that are silent no more."""
        for plane in [plane for plane in self._held if not self.is_silent(plane)]:
            for call in self._held.pop(plane):
                call()

    def is_silent(self, plane: Plane) -> bool:
        """Whether a plane is to answer nothing."""
        return self.outage(plane) is OutageMode.SILENT

    def turns_away(self, plane: Plane) -> bool:
        """Whether a plane is to answer 503, or to refuse."""
        return self.outage(plane) in (OutageMode.REFUSE, OutageMode.ANSWER_503)

    def outage(self, plane: Plane) -> OutageMode | None:
        """Return how a plane is out, or None when it is not."""
        found = self._outages.get(plane)
        return None if found is None else found.mode

    def fails_arm(self, verb: str, resource: str) -> ArmFailure | None:
        """Count an ARM call; return its failure, or None."""
        return self._first(
            ArmFailure, lambda one: _fits(one.verb, verb) and _fits(one.resource, resource)
        )

    def fails_hub(self, resource: str, device: str) -> HubFailure | None:
        """Count a REST call of a hub; return its failure, or None."""
        return self._first(
            HubFailure, lambda one: _fits(one.resource, resource) and _fits(one.device, device)
        )

    def loses_answer(self, device: str, method: str) -> bool:
        """Count a direct method call that a device (or `device/module`) got; whether its answer is lost."""
        return any(
            isinstance(fault := one.fault, LostMethodAnswer)
            and _fits(fault.device, device)
            and _fits(fault.method, method)
            and one.takes()
            for one in self._counted
        )

    def loses_accept(self, hybrid_connection: str) -> bool:
        """Count a sender; whether no listener is told of it."""
        return any(
            isinstance(fault := one.fault, LostAccept)
            and _fits(fault.hybrid_connection, hybrid_connection)
            and one.takes()
            for one in self._counted
        )

    def reading_rate(self, hybrid_connection: str) -> int | None:
        """Return how many bytes each second are read from a stream's sockets; None for all there are."""
        for fault in self._slow_readers:
            if _fits(fault.hybrid_connection, hybrid_connection):
                return fault.bytes_per_second
        return None

    def _first(self, kind: type[_Failure], fits: Callable[[_Failure], bool]) -> _Failure | None:
        """Count an event for each failure of a kind that fits; return the first that it falls to."""
        hit = None
        for one in self._counted:
            if isinstance(fault := one.fault, kind) and fits(fault) and one.takes():
                hit = hit or fault
        return hit

    def _generator(self, plane: Plane) -> random.Random:
        """Return a generator that begins anew with each latency: what follows does not depend on before."""
        return random.Random(None if self.seed is None else f"{self.seed}/{plane}")  # noqa: S311 - no secret


def _fits(pattern: str | None, value: str) -> bool:
    return pattern is None or pattern.lower() == value.lower()
