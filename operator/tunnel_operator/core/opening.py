"""What is missing on the way from a Tunnel to a device that is reached."""

from collections.abc import Iterator
from datetime import datetime

from ..api.tunnel import Tunnel
from . import names
from .actions import Action, AddFinalizer, Branch, EnsureHybridConnection, OpenDevice
from .children import Children
from .findings import is_device_listening
from .observed import HybridConnection, Kind, NoHybridConnection, Observed, Step
from .ownership import Ownership, ownership
from .pods import is_ready
from .terms import Terms


def open_branches(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> tuple[Branch, ...]:
    """Return what is missing. Device and children need the hybrid connection, but not each other."""
    if not tunnel.has_finalizer:
        return ((AddFinalizer(),),)
    remote = observed.hybrid_connection
    if isinstance(remote, HybridConnection) and ownership(tunnel, remote) is Ownership.FOREIGN:
        return ()
    if not _is_complete(tunnel, terms, remote):
        if remote is NoHybridConnection.UNKNOWN or observed.is_waiting(Step.HYBRID_CONNECTION, now):
            return ()
        return ((_ensure(tunnel, terms, remote),),)
    branches = []
    is_reachable = remote is not NoHybridConnection.UNKNOWN
    if is_reachable and not observed.is_waiting(Step.DEVICE, now):
        branches.append(tuple(_device(tunnel, terms, observed, expires_at, now)))
    if not observed.is_waiting(Step.CHILDREN, now):
        children = Children(tunnel, terms, observed, expires_at, now)
        branches.append(tuple(children.missing()))
    return tuple(branch for branch in branches if branch)


def reached_steps(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> frozenset[Step]:
    """Return the steps whose end is seen to be reached, by whatever way it came about.

    Azure may have done what it did not answer, and a device may find its way back without being asked.
    """
    remote, pod = observed.hybrid_connection, observed.children.get(Kind.POD)
    steps = set()
    if isinstance(remote, HybridConnection) and _is_complete(tunnel, terms, remote):
        steps.add(Step.HYBRID_CONNECTION)
    if is_ready(pod) and is_device_listening(terms, observed, expires_at, now):
        steps.add(Step.DEVICE)
    if not any(Children(tunnel, terms, observed, expires_at, now).missing()):
        steps.add(Step.CHILDREN)
    return frozenset(steps)


def _is_complete(
    tunnel: Tunnel, terms: Terms, remote: HybridConnection | NoHybridConnection
) -> bool:
    if not isinstance(remote, HybridConnection):
        # When Azure can not be asked, what was made is taken to be there still.
        was_made = tunnel.status.hybrid_connection is not None
        return remote is NoHybridConnection.UNKNOWN and was_made
    is_marked = remote.owner == tunnel.metadata.uid and not remote.is_retained
    is_borrowed = ownership(tunnel, remote) is Ownership.BORROWED
    if not is_marked and not is_borrowed:
        return False
    return remote.rules is None or remote.rules >= {name for name, _ in terms.rules}


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


def _device(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> Iterator[Action]:
    if not is_device_listening(terms, observed, expires_at, now):
        yield OpenDevice(
            device=tunnel.spec.device,
            hybrid_connection=terms.hybrid_connection,
            forwards=terms.forwards,
            expires_at=expires_at,
            revision=terms.device_revision(expires_at),
            is_told=terms.is_device_told,
            is_multiplexed=terms.is_multiplexed,
        )
