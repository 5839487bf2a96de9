"""What is missing on the way from a Tunnel to a device that is reached."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..api.tunnel import Tunnel
from . import names
from .actions import (
    Action,
    AddFinalizer,
    ApplyForwarderSecret,
    ApplyObject,
    Branch,
    DeleteObject,
    EnsureHybridConnection,
    OpenDevice,
)
from .findings import is_device_listening
from .manifests import (
    LEASE_ANNOTATION,
    REVISION_ANNOTATION,
    is_applied,
    make_ingress,
    make_pod,
    make_secret,
    make_service,
)
from .observed import Child, HybridConnection, Kind, NoHybridConnection, Observed, Step
from .pods import created_at, end_of
from .terms import Terms

RULES = ((names.SEND_RULE, "Send"), (names.LISTEN_RULE, "Listen"))
"""One rule for each end, each with the one right that this end needs."""

REPLACE_AFTER = timedelta(seconds=10)
"""How old a Pod that ended is before it is replaced: one that fails at once shall not be made in a loop."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far a node's clock may be ahead of ours before we take its forwarder's word for nothing."""


def open_branches(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> tuple[Branch, ...]:
    """Return what is missing. Device and children need the hybrid connection, but not each other."""
    if not tunnel.has_finalizer:
        return ((AddFinalizer(),),)
    remote = observed.hybrid_connection
    if not _is_complete(tunnel, remote):
        if remote is NoHybridConnection.UNKNOWN or observed.is_waiting(Step.HYBRID_CONNECTION, now):
            return ()
        return ((_ensure(tunnel, terms),),)
    branches = []
    is_reachable = remote is not NoHybridConnection.UNKNOWN
    if is_reachable and not observed.is_waiting(Step.DEVICE, now):
        branches.append(tuple(_device(tunnel, terms, observed, expires_at, now)))
    if not observed.is_waiting(Step.CHILDREN, now):
        branches.append(tuple(_children(tunnel, terms, observed, expires_at, now)))
    return tuple(branch for branch in branches if branch)


def replacement_time(observed: Observed) -> datetime | None:
    """Return when a Pod that ended may be replaced."""
    pod = observed.children.get(Kind.POD)
    return None if pod is None or end_of(pod) is None else created_at(pod) + REPLACE_AFTER


def _is_complete(tunnel: Tunnel, remote: HybridConnection | NoHybridConnection) -> bool:
    if not isinstance(remote, HybridConnection):
        # When Azure can not be asked, what was made is taken to be there still.
        was_made = tunnel.status.hybrid_connection is not None
        return remote is NoHybridConnection.UNKNOWN and was_made
    return remote.owner == tunnel.metadata.uid and remote.rules >= {name for name, _ in RULES}


def _ensure(tunnel: Tunnel, terms: Terms) -> EnsureHybridConnection:
    return EnsureHybridConnection(
        name=terms.hybrid_connection,
        owner=tunnel.metadata.uid,
        tunnel=str(tunnel),
        rules=RULES,
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
        )


def _children(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> Iterator[Action]:
    secret, seen = make_secret(tunnel, terms, expires_at), observed.children.get(Kind.SECRET)
    if seen is None or seen.annotation(LEASE_ANNOTATION) != _lease(secret):
        yield ApplyForwarderSecret(
            secret, terms.hybrid_connection, expires_at, is_known=seen is not None
        )
    # The Pod comes after its Secret: the kubelet is slow to notice one that was missing at first.
    yield from _pod(tunnel, terms, observed, expires_at, now)
    wanted = {Kind.SERVICE: make_service(tunnel)}
    if terms.ingress is not None:
        wanted[Kind.INGRESS] = make_ingress(tunnel, terms, terms.ingress)
    for kind, manifest in wanted.items():
        seen = observed.children.get(kind)
        if seen is None or not is_applied(manifest, seen.body):
            yield ApplyObject(manifest, is_known=seen is not None)
    ingress = observed.children.get(Kind.INGRESS)
    if terms.ingress is None and ingress is not None and not ingress.is_deleting:
        yield DeleteObject(Kind.INGRESS, names.service(tunnel), ingress.uid)


def _pod(
    tunnel: Tunnel, terms: Terms, observed: Observed, expires_at: datetime, now: datetime
) -> Iterator[Action]:
    lease = _lease(make_secret(tunnel, terms, expires_at))
    manifest, seen = make_pod(tunnel, terms, lease), observed.children.get(Kind.POD)
    if seen is None:
        yield ApplyObject(manifest, is_known=False)
    elif seen.is_deleting:
        return
    elif _is_spent(seen, lease, expires_at, now) or _revision(seen) != _revision(Child(manifest)):
        yield DeleteObject(Kind.POD, names.forwarder(tunnel), seen.uid)
    elif seen.annotation(LEASE_ANNOTATION) != lease:
        # The changed annotation also makes the kubelet bring the new Secret into the Pod at once.
        yield ApplyObject(manifest, is_known=True)


def _is_spent(pod: Child, lease: str, expires_at: datetime, now: datetime) -> bool:
    end = end_of(pod)
    if end is None:
        return False
    is_due = now + CLOCK_SKEW >= expires_at
    if end.reason == "Expired" and is_due and pod.annotation(LEASE_ANNOTATION) == lease:
        # Its clock is a little ahead of ours: the lifetime is about to end for us too.
        return False
    return now >= created_at(pod) + REPLACE_AFTER


def _lease(secret: Mapping[str, Any]) -> str:
    return str(secret["metadata"]["annotations"][LEASE_ANNOTATION])


def _revision(pod: Child) -> str | None:
    return pod.annotation(REVISION_ANNOTATION)
