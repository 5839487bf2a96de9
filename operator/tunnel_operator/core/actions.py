"""The closed list of what the operator can do. An action says what shall be so, and may be repeated."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunnel_forwarder.protocol.method import Forward, OpenRequest

from ..api.reasons import Reason
from ..api.tunnel import Device, TunnelStatus
from .notices import Notice
from .observed import Kind, Step
from .rollout import Stage


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """From here on, something may exist that Kubernetes does not know how to remove."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Nothing is left outside the cluster."""


@dataclass(frozen=True, slots=True)
class EnsureHybridConnection:
    """The hybrid connection is there, marked as ours, with these rules (name and right of each).

    One that is borrowed is there already, and is neither changed nor marked.
    """

    name: str
    owner: str
    tunnel: str
    correlation_id: str
    rules: tuple[tuple[str, str], ...]
    is_borrowed: bool = False


@dataclass(frozen=True, slots=True)
class DeleteHybridConnection:
    """The hybrid connection is gone, and with it every token and every stream."""

    name: str


@dataclass(frozen=True, slots=True)
class RetainHybridConnection:
    """The hybrid connection is kept, marked as such, without the rules; so no token of theirs opens it."""

    name: str
    owner: str
    tunnel: str
    correlation_id: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteRules:
    """Rules of a hybrid connection are gone, and with them the tokens that they signed."""

    name: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """The device listens on the hybrid connection for these forwards until `expires_at`.

    One that is not told all that knows where to listen; it is only asked to begin.
    """

    device: Device
    hybrid_connection: str
    forwards: tuple[Forward, ...]
    expires_at: datetime
    revision: str
    is_told: bool
    is_multiplexed: bool = False


@dataclass(frozen=True, slots=True)
class CloseDevice:
    """The device listens no longer."""

    device: Device


@dataclass(frozen=True, slots=True)
class ApplyForwarderSecret:
    """The forwarder's Secret is as `manifest` says, with a Send token added that ends at `expires_at`."""

    manifest: Mapping[str, Any]
    hybrid_connection: str
    expires_at: datetime
    is_known: bool


@dataclass(frozen=True, slots=True)
class ApplyForwarderPod:
    """The forwarder's Pod is as `manifest` says, and says for which version of its Secret it is."""

    manifest: Mapping[str, Any]
    is_known: bool


@dataclass(frozen=True, slots=True)
class ApplyObject:
    """An object of the cluster is as `manifest` says.

    `is_known`: it was seen and is the tunnel's own. Otherwise its name may be taken by something that
    is not, which is then left alone.
    """

    manifest: Mapping[str, Any]
    is_known: bool


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """An object of the cluster is gone, if it is still the one with this uid.

    `is_forced`: without waiting for a node to confirm it.
    """

    kind: Kind
    name: str
    uid: str
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """For which tunnel a device is to be asked, and how to make the request once it may be.

    Making it takes a key of the hybrid connection, which costs a call to Azure.
    """

    tunnel: str
    make: Callable[[], Awaitable[OpenRequest | None]]
    fault: Reason | None = None
    """What was wrong with the device when it was last asked, if anything: it may well be so still."""


AzureAction = (
    EnsureHybridConnection
    | DeleteHybridConnection
    | RetainHybridConnection
    | DeleteRules
    | OpenDevice
    | CloseDevice
    | ApplyForwarderSecret
)
"""What takes Azure: by ARM, by the hub, or for a token's key."""

Action = (
    AddFinalizer | RemoveFinalizer | AzureAction | ApplyForwarderPod | ApplyObject | DeleteObject
)

Branch = tuple[Action, ...]
"""Actions in their order; one that fails ends its branch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, what to tell people, and when to look again at the latest.

    Branches do not depend on each other and are carried out side by side.
    """

    branches: tuple[Branch, ...]
    status: TunnelStatus
    recheck_at: datetime | None = None
    notices: tuple[Notice, ...] = ()
    reached: frozenset[Step] = frozenset()
    """Steps that failed and have nothing left to do: that they failed says nothing any more."""

    stage: Stage | None = None
    """Where the forwarder of a tunnel that is open, or is to be, is with what is wanted of it."""


def step_of(action: Action) -> Step:
    """Return under which heading an action's failures are counted."""
    match action:
        case EnsureHybridConnection() | DeleteHybridConnection():
            return Step.HYBRID_CONNECTION
        case RetainHybridConnection() | DeleteRules():
            return Step.HYBRID_CONNECTION
        case OpenDevice():
            return Step.DEVICE
        case CloseDevice():
            return Step.CLOSE_DEVICE
        case _:
            return Step.CHILDREN
