"""What the loop needs of the world, in its own words. Adapters provide it; tests do so too.

Every call has a deadline, and raises TunnelError and nothing else when it fails.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tunnel_forwarder.protocol.method import CloseRequest, OpenAnswer
from tunnel_forwarder.protocol.secret import Secret

from ..api.keys import Key
from ..api.tunnel import Device, Tunnel, TunnelStatus
from ..api.tunnel_class import TunnelClassSpec
from ..core.actions import Ask, EnsureHybridConnection, RetainHybridConnection
from ..core.notices import Notice
from ..core.observed import Failure, HybridConnection, Kind, Step
from ..core.sweep import Marked


class Clock(Protocol):
    """Tells the time, in UTC."""

    def __call__(self) -> datetime:
        """Return now."""


class Cluster(Protocol):
    """The Kubernetes API."""

    async def get_tunnel(self, key: Key) -> Tunnel | None:
        """Return a Tunnel as it is now; None when there is none."""

    async def apply_status(
        self, tunnel: Tunnel, status: TunnelStatus, *, only_unchanged: bool
    ) -> Tunnel | None:
        """Make this the operator's part of the status and return the Tunnel as it is then.

        None: it is gone, and nothing has happened. `only_unchanged`: raise ConflictError if anything of
        it has changed since this state of it.
        """

    async def set_finalizer(self, tunnel: Tunnel, *, present: bool) -> Tunnel | None:
        """Add the operator's finalizer, or take it away, of this very Tunnel and no later namesake.

        Return the Tunnel as it is then; None when it is gone.
        """

    async def apply(self, manifest: Mapping[str, Any], *, is_known: bool) -> Mapping[str, Any]:
        """Make an object as the manifest says and return it as it is then.

        When it was not known before, one that is already there and not the owner's is left alone: that
        raises Terminal with NAME_TAKEN, or Retryable if it was the owner's earlier namesake's.
        """

    async def delete(
        self, namespace: str, kind: Kind, name: str, uid: str, *, is_forced: bool
    ) -> Mapping[str, Any] | None:
        """Remove an object, if it is still this one; return it when it needs time to go.

        `is_forced`: give it no such time.
        """


class Events(Protocol):
    """The Events that people see with `kubectl describe`."""

    async def record(self, tunnel: Tunnel, notice: Notice) -> None:
        """Tell people. What can not be told is lost; nothing depends on it."""


class Recorder(Protocol):
    """Keeps the metrics of Tunnels."""

    def report(
        self, tunnel: Tunnel, status: TunnelStatus, failures: Mapping[Step, Failure]
    ) -> None:
        """Take what was just decided about a Tunnel, as it was then."""

    def forget(self, key: Key) -> None:
        """Drop all that is kept of a Tunnel that is gone, or is another controller's."""


class Relay(Protocol):
    """Azure Relay's management. `klass` says which namespace."""

    async def observe(
        self, klass: TunnelClassSpec, name: str, *, with_rules: bool
    ) -> HybridConnection | None:
        """Return what there is, changing nothing; None when there is nothing.

        Without rules it may be as old as a minute, and costs next to nothing.
        """

    async def ensure(
        self, klass: TunnelClassSpec, wanted: EnsureHybridConnection
    ) -> HybridConnection | None:
        """Make the hybrid connection and its rules, or put them right.

        Return what is there then, or None when that is not known.
        """

    async def delete(self, klass: TunnelClassSpec, name: str) -> None:
        """Remove the hybrid connection; removed already counts as done."""

    async def retain(self, klass: TunnelClassSpec, wanted: RetainHybridConnection) -> None:
        """Remove the rules, then mark the hybrid connection as kept."""

    async def marked(self, klass: TunnelClassSpec) -> list[Marked]:
        """Return the hybrid connections of the namespace that bear an ownership mark."""

    async def delete_rules(self, klass: TunnelClassSpec, name: str, rules: tuple[str, ...]) -> None:
        """Remove rules of a hybrid connection; removed already counts as done."""

    async def key(self, klass: TunnelClassSpec, name: str, rule: str) -> Secret:
        """Return the key of one of the hybrid connection's rules."""


class Devices(Protocol):
    """Direct methods of IoT Hub. `klass` says which hub."""

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        """Ask a device to listen; without a request it is told nothing more.

        None: it agreed, and does not speak our version of the answer.
        """

    async def close(
        self, klass: TunnelClassSpec, device: Device, request: CloseRequest | None
    ) -> None:
        """Ask a device to listen no longer; it having stopped already counts as done."""
