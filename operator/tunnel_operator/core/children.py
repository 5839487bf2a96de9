"""What is missing in the cluster: the forwarder's Secret and Pod, and what leads to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..api.tunnel import Tunnel
from . import names
from .actions import Action, ApplyForwarderPod, ApplyForwarderSecret, ApplyObject, DeleteObject
from .exposure import WAYS, wanted_objects
from .manifests import (
    LEASE_ANNOTATION,
    REVISION_ANNOTATION,
    SECRET_ANNOTATION,
    is_applied,
    make_network_policy,
    make_pod,
    make_secret,
)
from .observed import Child, Kind, Observed
from .pods import created_at, end_of, is_ready
from .rollout import Stage, stage_of
from .terms import Terms

REPLACE_AFTER = timedelta(seconds=10)
"""How old a Pod that ended is before it is replaced: one that fails at once shall not be made in a loop."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far a node's clock may be ahead of ours before we take its forwarder's word for nothing."""

DOUBT_AFTER = timedelta(seconds=30)
"""How long a forwarder may be without success before its token is made anew: a rule's key can change in
Azure without our being told, and the first sign of it is that the token opens nothing."""


@dataclass(frozen=True, slots=True)
class Children:
    """What is wanted and what is seen of a tunnel's objects in the cluster."""

    tunnel: Tunnel
    terms: Terms
    observed: Observed
    expires_at: datetime
    now: datetime

    def missing(self) -> Iterator[Action]:
        """Yield what is left to do, in its order: the kubelet is slow to notice a Secret that comes late."""
        yield from self._secret()
        # Nobody gets in before it is settled who may.
        yield from self._policy()
        yield from self._pod()
        yield from self._exposure()

    def stage(self) -> Stage:
        """Return where the forwarder is with what is wanted of it."""
        pod = self._seen(Kind.POD)
        wanted = _revision(Child(make_pod(self.tunnel, self.terms)))
        is_outdated = pod is not None and _revision(pod) != wanted
        return stage_of(pod, self.observed, is_outdated=is_outdated)

    def _secret(self) -> Iterator[Action]:
        if self._is_leased() and not self._is_doubtful():
            return
        yield ApplyForwarderSecret(
            make_secret(self.tunnel, self.terms, self.expires_at),
            self.terms.hybrid_connection,
            self.expires_at,
            is_known=self._seen(Kind.SECRET) is not None,
        )

    def _pod(self) -> Iterator[Action]:
        manifest, pod = make_pod(self.tunnel, self.terms), self._seen(Kind.POD)
        if pod is None:
            yield ApplyForwarderPod(manifest, is_known=False)
        elif pod.is_deleting:
            return
        elif self.stage() is Stage.WAITS and not self._is_spent(pod):
            # Nor can it be told at once of a changed Secret: the kubelet brings it that in a minute or so.
            return
        elif self._is_spent(pod) or _revision(pod) != _revision(Child(manifest)):
            yield DeleteObject(Kind.POD, names.forwarder(self.tunnel), pod.uid)
        elif not self._is_told(pod):
            # The changed annotation makes the kubelet bring the new Secret into the Pod at once.
            yield ApplyForwarderPod(manifest, is_known=True)

    def _exposure(self) -> Iterator[Action]:
        wanted = wanted_objects(self.tunnel, self.terms, self.observed)
        for kind in WAYS:
            yield from self._object(kind, wanted.get(kind))

    def _policy(self) -> Iterator[Action]:
        clients = self.tunnel.spec.allowed_clients
        wanted = None if clients is None else make_network_policy(self.tunnel, clients)
        yield from self._object(Kind.NETWORK_POLICY, wanted)

    def _object(self, kind: Kind, wanted: dict[str, Any] | None) -> Iterator[Action]:
        """Yield what makes an object as it is wanted, or removes it."""
        seen = self._seen(kind)
        if wanted is None:
            if seen is not None and not seen.is_deleting:
                yield DeleteObject(kind, str(seen.body["metadata"]["name"]), seen.uid)
        elif seen is None or not is_applied(wanted, seen.body):
            yield ApplyObject(wanted, is_known=seen is not None)

    def _seen(self, kind: Kind) -> Child | None:
        return self.observed.children.get(kind)

    def _is_leased(self) -> bool:
        """Whether the Secret is there and holds what the forwarder is to be told now."""
        secret = self._seen(Kind.SECRET)
        wanted = Child(make_secret(self.tunnel, self.terms, self.expires_at))
        return secret is not None and (
            secret.annotation(LEASE_ANNOTATION) == wanted.annotation(LEASE_ANNOTATION)
        )

    def _is_doubtful(self) -> bool:
        """Whether the forwarder has had its token for long, and got nowhere with it."""
        pod = self._seen(Kind.POD)
        if pod is None or is_ready(pod):
            return False
        leased_at = self.observed.leased_at
        return leased_at is None or self.now >= leased_at + DOUBT_AFTER

    def _is_told(self, pod: Child) -> bool:
        """Whether the Pod was made or last touched for the Secret as it is now."""
        secret = self._seen(Kind.SECRET)
        return (
            self._is_leased()
            and secret is not None
            and pod.annotation(SECRET_ANNOTATION) == secret.version
        )

    def _is_spent(self, pod: Child) -> bool:
        end = end_of(pod)
        if end is None:
            return False
        is_due = self.now + CLOCK_SKEW >= self.expires_at
        if end.reason == "Expired" and is_due and self._is_told(pod):
            # Its clock is a little ahead of ours: the lifetime is about to end for us too.
            return False
        return self.now >= created_at(pod) + REPLACE_AFTER


def replacement_time(observed: Observed) -> datetime | None:
    """Return when a Pod that ended may be replaced."""
    pod = observed.children.get(Kind.POD)
    return None if pod is None or end_of(pod) is None else created_at(pod) + REPLACE_AFTER


def _revision(pod: Child) -> str | None:
    return pod.annotation(REVISION_ANNOTATION)
