"""Snapshots of the world, as `gather` brings them and `plan` reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any

from ..api.reasons import Reason
from ..api.tunnel import KIND, DeviceStatus, SessionStatus, Tunnel
from ..api.tunnel_class import DeletionPolicy


class Kind(StrEnum):
    """The kinds of objects that a tunnel is made of in the cluster, in the order in which they are made."""

    SECRET = "Secret"  # noqa: S105 - the name of a kind
    POD = "Pod"
    SERVICE = "Service"
    INGRESS = "Ingress"
    NETWORK_POLICY = "NetworkPolicy"
    HTTP_ROUTE = "HTTPRoute"
    TLS_ROUTE = "TLSRoute"
    TCP_ROUTE = "TCPRoute"


UNREAD: Mapping[str, tuple[str, ...]] = {Kind.SECRET: ("data",), Kind.POD: ("spec",)}
"""Large parts of children that are not kept: tokens, and what a Pod is made of.

Of a Secret's data digests are kept in its place, as manifests.digests makes them.
"""


class Step(StrEnum):
    """What can fail, and is tried again, apart from the others."""

    LOOK = "look"
    HYBRID_CONNECTION = "hybrid-connection"
    DEVICE = "device"
    CHILDREN = "children"
    CLOSE_DEVICE = "close-device"


@dataclass(frozen=True, slots=True)
class HybridConnection:
    """What Azure says of the tunnel's rendezvous.

    `owner` is the uid in the ownership mark, and `owner_name` the Tunnel's name there; None without a mark.
    `rules` are the rights of each by its name; None when they were not looked at.
    """

    name: str
    listener_count: int
    owner: str | None
    rules: Mapping[str, frozenset[str]] | None
    owner_name: str | None = None
    is_retained: bool = False
    """Whether it is marked as kept for a closed Tunnel, in this cluster."""

    requires_token: bool = True
    """Whether senders need a token there."""


KEY_CHANGED = datetime.min.replace(tzinfo=UTC)
"""Stands for the time of a token whose key has been made anew since."""


class NoHybridConnection(Enum):
    """Why there is no HybridConnection to look at."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """The device's newest agreement, and when this process got it (None: before this process began)."""

    status: DeviceStatus
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest of a row of failed attempts at one step. It is not tried again before `retry_at`.

    `is_terminal`: waiting will not help, a person has to change something.
    """

    reason: Reason
    message: str
    attempts: int
    retry_at: datetime
    is_terminal: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """An object of the cluster that belongs to the tunnel, in the API's JSON form."""

    body: Mapping[str, Any]

    @property
    def uid(self) -> str:
        """Tells this object from an earlier or later one of the same name."""
        return str(self.body["metadata"]["uid"])

    def is_anothers(self, tunnel: Tunnel) -> bool:
        """Whether it is an earlier namesake's, which Kubernetes collects when it gets to it.

        One that has lost its owner is taken for the tunnel's, by its label, and gets it back.
        """
        owners = self.body["metadata"].get("ownerReferences") or ()
        uids = {owner["uid"] for owner in owners if owner["kind"] == KIND}
        return bool(uids) and tunnel.metadata.uid not in uids

    @property
    def version(self) -> str:
        """The object's resourceVersion."""
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def is_deleting(self) -> bool:
        """Whether it is on its way out."""
        return "deletionTimestamp" in self.body["metadata"]

    def annotation(self, name: str) -> str | None:
        """Return one annotation."""
        annotations = self.body["metadata"].get("annotations") or {}
        value = annotations.get(name)
        return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class ForwarderEnd:
    """What a forwarder that has ended left behind. `reason` is its own word: Idle, Expired, Drained, Failed."""

    reason: str
    message: str = ""
    connections: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    last_activity: datetime | None = None

    def session(self, generation: int, ended_at: datetime, reason: Reason) -> SessionStatus:
        """Return the record of the session that ended with this forwarder."""
        return SessionStatus.model_validate(
            {
                "generation": generation,
                "ended_at": ended_at,
                "reason": reason,
                "connections": self.connections,
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
                "last_activity": self.last_activity,
            }
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is seen of one tunnel at one moment, but for the Tunnel itself."""

    hybrid_connection: HybridConnection | NoHybridConnection = NoHybridConnection.ABSENT
    looked_at: datetime | None = None
    """When Azure was asked for that; None when it was not."""

    children: Mapping[Kind, Child] = field(default_factory=dict)
    routes: Mapping[Kind, str] = field(default_factory=dict)
    """The kinds of routes that the cluster serves, and the apiVersion of each."""

    answer: DeviceAnswer | None = None
    leased_at: datetime | None = None
    """When this process last made the forwarder's token; None: not yet."""

    announced: datetime | None = None
    """The end that has been announced already."""

    failures: Mapping[Step, Failure] = field(default_factory=dict)
    held: Mapping[Kind, datetime] = field(default_factory=dict)
    """Which kinds of children did not stay as they were written, and when they are to be written again."""

    is_class_gone: bool = False
    """The TunnelClass was deleted. What it said may be remembered still, or not."""

    namespace_labels: Mapping[str, str] | None = None
    """The labels of the tunnel's namespace, as far as they are known."""

    has_place: bool = True
    """The class's limit for the namespace leaves room for this tunnel."""

    may_replace: bool = True
    """A forwarder that works may be replaced now; otherwise it is others' turn."""

    policy: DeletionPolicy = DeletionPolicy.DELETE
    """What the class wants done with the hybrid connection of a closed tunnel."""

    def is_waiting(self, step: Step, now: datetime) -> bool:
        """Whether the step failed and its time to be tried again has not come."""
        failure = self.failures.get(step)
        return failure is not None and now < failure.retry_at

    def retry_times(self) -> Iterator[datetime]:
        """Yield when each failed step may be tried again, and each child that is held back be written."""
        yield from (failure.retry_at for failure in self.failures.values())
        yield from self.held.values()
