"""What is missing on the way from a Tunnel to a device that is reached."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ..api.tunnel import Tunnel
from . import names
from .actions import AddFinalizer, Branch, EnsureHybridConnection, OpenDevice
from .children import Children
from .looks import LISTENER_LAG
from .observed import Child, HybridConnection, Kind, NoHybridConnection, Observed, Step
from .ownership import Ownership, ownership
from .pods import is_ready
from .terms import Terms


@dataclass(frozen=True)
class Opening:
    """A tunnel that is open or is to be: what is agreed on, what is seen, until when, and what follows.

    It has no slots, which a cached property needs: what several ask for is found out once.
    """

    tunnel: Tunnel
    terms: Terms
    observed: Observed
    expires_at: datetime
    now: datetime

    @cached_property
    def children(self) -> Children:
        """Its objects in the cluster."""
        return Children(
            self.tunnel,
            self.terms,
            self.observed,
            self.expires_at,
            self.now,
            is_device_listening=self.is_device_listening,
        )

    @cached_property
    def is_device_listening(self) -> bool:
        """Whether the device agreed to exactly what is wanted now, and listens as far as can be seen.

        A forwarder that is ready has met the device's listener, whatever Azure's count says.
        """
        answer, remote = self.observed.answer, self.observed.hybrid_connection
        if answer is None or answer.status.revision != self._device_revision:
            return False
        if is_ready(self._pod) or remote is NoHybridConnection.UNKNOWN:
            return True
        if not isinstance(remote, HybridConnection):
            return False
        is_fresh = answer.at is not None and self.now < answer.at + LISTENER_LAG
        return remote.listener_count > 0 or is_fresh

    def branches(self) -> tuple[Branch, ...]:
        """Return what is missing. Device and children need the hybrid connection, but not each other."""
        tunnel, terms, observed = self.tunnel, self.terms, self.observed
        if not tunnel.has_finalizer:
            return ((AddFinalizer(),),)
        remote = observed.hybrid_connection
        if isinstance(remote, HybridConnection) and ownership(tunnel, remote) is Ownership.FOREIGN:
            return ()
        is_reachable = remote is not NoHybridConnection.UNKNOWN
        if not _is_complete(tunnel, terms, remote):
            if not is_reachable or observed.is_waiting(Step.HYBRID_CONNECTION, self.now):
                return ()
            return ((_ensure(tunnel, terms, remote),),)
        branches: list[Branch] = []
        if is_reachable and not observed.is_waiting(Step.DEVICE, self.now):
            branches.append(tuple(self._device()))
        if not observed.is_waiting(Step.CHILDREN, self.now):
            branches.append(self.children.missing)
        return tuple(branch for branch in branches if branch)

    def reached(self) -> frozenset[Step]:
        """Return the steps that failed and whose end is seen to be reached, by whatever way it came about.

        Azure may have done what it did not answer, and a device may find its way back without being asked.
        """
        return frozenset(step for step in self.observed.failures if self._is_reached(step))

    def _is_reached(self, step: Step) -> bool:
        match step:
            case Step.HYBRID_CONNECTION:
                remote = self.observed.hybrid_connection
                is_there = isinstance(remote, HybridConnection)
                return is_there and _is_complete(self.tunnel, self.terms, remote)
            case Step.DEVICE:
                return is_ready(self._pod) and self.is_device_listening
            case Step.CHILDREN:
                return not self.children.missing
            case _:
                return False

    @property
    def _pod(self) -> Child | None:
        return self.observed.children.get(Kind.POD)

    @cached_property
    def _device_revision(self) -> str:
        return self.terms.device_revision(self.expires_at)

    def _device(self) -> Iterator[OpenDevice]:
        if not self.is_device_listening:
            yield OpenDevice(
                device=self.tunnel.spec.device,
                hybrid_connection=self.terms.hybrid_connection,
                forwards=self.terms.forwards,
                expires_at=self.expires_at,
                revision=self._device_revision,
                is_told=self.terms.is_device_told,
                is_multiplexed=self.terms.is_multiplexed,
            )


def _is_complete(
    tunnel: Tunnel, terms: Terms, remote: HybridConnection | NoHybridConnection
) -> bool:
    if not isinstance(remote, HybridConnection):
        # When Azure can not be asked, what was made is taken to be there still.
        was_made = tunnel.status.hybrid_connection is not None
        return remote is NoHybridConnection.UNKNOWN and was_made
    is_marked = remote.owner == tunnel.metadata.uid and not remote.is_retained
    is_borrowed = ownership(tunnel, remote) is Ownership.BORROWED
    if not is_borrowed and not (is_marked and remote.requires_token):
        return False
    # A right too many is as wrong as one that is missing: neither end is to have the other's.
    return remote.rules is None or all(
        remote.rules.get(name) == frozenset({right}) for name, right in terms.rules
    )


def _ensure(
    tunnel: Tunnel, terms: Terms, remote: HybridConnection | NoHybridConnection
) -> EnsureHybridConnection:
    return EnsureHybridConnection(
        name=terms.hybrid_connection,
        owner=tunnel.metadata.uid,
        tunnel=str(tunnel),
        correlation_id=names.correlation_id(tunnel),
        rules=terms.rules,
        is_borrowed=(
            isinstance(remote, HybridConnection) and ownership(tunnel, remote) is Ownership.BORROWED
        ),
    )
