"""What is missing in the cluster: the forwarder's Secret and Pod, and what leads to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from ..api.tunnel import Tunnel
from . import names
from .actions import Action, ApplyForwarderPod, ApplyForwarderSecret, ApplyObject, DeleteObject
from .exposure import WAYS, wanted_objects
from .manifests import (
    REVISION_ANNOTATION,
    SECRET_ANNOTATION,
    digests,
    has_metadata,
    has_own_token,
    is_applied,
    make_network_policy,
    make_pod,
    make_secret,
)
from .observed import KEY_CHANGED, Child, Kind, Observed
from .pods import created_at, due_to_be_gone, end_of, is_ready
from .rollout import Stage, stage_of
from .terms import Terms

REPLACE_AFTER = timedelta(seconds=10)
"""How old a Pod that ended is before it is replaced: one that fails at once shall not be made in a loop."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far a node's clock may be ahead of ours before we take its forwarder's word for nothing."""

DOUBT_AFTER = timedelta(seconds=30)
"""How long a forwarder may be without success before its token is made anew: a rule's key can change in
Azure without our being told, and the first sign of it is that the token opens nothing."""


UNCONFIRMED_AFTER = timedelta(seconds=30)
"""How long after a Pod's grace period its node is waited for. A node without power never says a word."""


@dataclass(frozen=True)
class Children:
    """What is wanted and what is seen of a tunnel's objects in the cluster.

    It has no slots, which a cached property needs: each manifest is made once, with its digest.
    """

    tunnel: Tunnel
    terms: Terms
    observed: Observed
    expires_at: datetime
    now: datetime
    is_device_listening: bool = True

    @cached_property
    def missing(self) -> tuple[Action, ...]:
        """What is left to do, in its order: the kubelet is slow to notice a Secret that comes late."""
        return (
            *self._missing_secret(),
            # Nobody gets in before it is settled who may.
            *self._missing_object(Kind.NETWORK_POLICY),
            *self._missing_pod(),
            *(action for kind in WAYS for action in self._missing_object(kind)),
        )

    @cached_property
    def unapplied(self) -> frozenset[Kind]:
        """The kinds, but for Secret and Pod, of which an object is wanted and not there as it is wanted."""
        return frozenset(
            kind
            for kind, wanted in self._objects.items()
            if (seen := self._seen(kind)) is None or not is_applied(wanted, seen.body)
        )

    @cached_property
    def stage(self) -> Stage:
        """Where the forwarder is with what is wanted of it."""
        pod = self._seen(Kind.POD)
        is_outdated = pod is not None and self._is_outdated(pod)
        return stage_of(pod, self.observed, is_outdated=is_outdated)

    @cached_property
    def _secret(self) -> dict[str, Any]:
        return make_secret(self.tunnel, self.terms, self.expires_at)

    @cached_property
    def _pod(self) -> dict[str, Any]:
        return make_pod(self.tunnel, self.terms)

    @cached_property
    def _objects(self) -> Mapping[Kind, dict[str, Any]]:
        """What is wanted besides Secret and Pod."""
        ways = wanted_objects(self.tunnel, self.terms, self.observed)
        clients = self.tunnel.spec.allowed_clients
        if clients is None:
            return ways
        return {**ways, Kind.NETWORK_POLICY: make_network_policy(self.tunnel, clients)}

    def _missing_secret(self) -> Iterator[Action]:
        if self._is_leased and not self._is_doubtful():
            return
        yield ApplyForwarderSecret(
            self._secret,
            self.terms.hybrid_connection,
            self.expires_at,
            is_known=self._seen(Kind.SECRET) is not None,
        )

    def _missing_pod(self) -> Iterator[Action]:
        pod = self._seen(Kind.POD)
        if pod is None:
            yield ApplyForwarderPod(self._pod, is_known=False)
        elif pod.is_deleting:
            if self._is_stuck(pod):
                # Its fixed name keeps the next one out. To delete it by force is safe though it may still
                # run: it holds no storage and no identity of a StatefulSet's, and a hybrid connection
                # takes several senders.
                yield DeleteObject(Kind.POD, names.forwarder(self.tunnel), pod.uid, is_forced=True)
        elif self.stage is Stage.WAITS and not self._is_spent(pod):
            # Nor can it be told at once of a changed Secret: the kubelet brings it that in a minute or so.
            return
        elif self._is_spent(pod) or self._is_outdated(pod):
            yield DeleteObject(Kind.POD, names.forwarder(self.tunnel), pod.uid)
        elif not self._is_told(pod) or not has_metadata(self._pod, pod):
            # The changed annotation makes the kubelet bring the new Secret into the Pod at once. A label that
            # somebody has changed would keep the Service from finding it.
            yield ApplyForwarderPod(self._pod, is_known=True)

    def _missing_object(self, kind: Kind) -> Iterator[Action]:
        """Yield what makes an object as it is wanted, or removes it."""
        seen = self._seen(kind)
        if kind in self.unapplied:
            if seen is not None and self.now < self.observed.held.get(kind, self.now):
                return
            yield ApplyObject(self._objects[kind], is_known=seen is not None)
        elif kind not in self._objects and seen is not None and not seen.is_deleting:
            yield DeleteObject(kind, str(seen.body["metadata"]["name"]), seen.uid)

    def _seen(self, kind: Kind) -> Child | None:
        return self.observed.children.get(kind)

    @cached_property
    def _is_leased(self) -> bool:
        """Whether the Secret is there and holds what the forwarder is to be told now."""
        secret, wanted = self._seen(Kind.SECRET), self._secret
        return (
            secret is not None
            and has_metadata(wanted, secret)
            and is_applied(digests(wanted["data"]), secret.body.get("data"))
            and has_own_token(secret)
        )

    def _is_doubtful(self) -> bool:
        """Whether the forwarder got nowhere with its token, and nothing but the token is to blame.

        Without a listener no token leads anywhere, and each new one costs a call to Azure.
        """
        pod, leased_at = self._seen(Kind.POD), self.observed.leased_at
        if pod is None or is_ready(pod):
            return False
        if leased_at == KEY_CHANGED or not self.is_device_listening:
            return leased_at == KEY_CHANGED
        return leased_at is None or self.now >= leased_at + DOUBT_AFTER

    def _is_told(self, pod: Child) -> bool:
        """Whether the Pod was made or last touched for the Secret as it is now."""
        secret = self._seen(Kind.SECRET)
        return (
            self._is_leased
            and secret is not None
            and pod.annotation(SECRET_ANNOTATION) == secret.version
        )

    def _is_outdated(self, pod: Child) -> bool:
        """Whether the Pod was made as it is wanted no longer."""
        wanted = Child(self._pod)
        return pod.annotation(REVISION_ANNOTATION) != wanted.annotation(REVISION_ANNOTATION)

    def _is_stuck(self, pod: Child) -> bool:
        """Whether nothing but its node's word is wanting for the Pod to be gone, for too long.

        What somebody has put a finalizer on is that one's to let go of.
        """
        due = due_to_be_gone(pod)
        has_finalizers = bool(pod.body["metadata"].get("finalizers"))
        return due is not None and not has_finalizers and self.now >= due + UNCONFIRMED_AFTER

    def _is_spent(self, pod: Child) -> bool:
        end = end_of(pod)
        if end is None:
            return False
        is_due = self.now + CLOCK_SKEW >= self.expires_at
        if end.reason == "Expired" and is_due and self._is_told(pod):
            # Its clock is a little ahead of ours: the lifetime is about to end for us too.
            return False
        return self.now >= created_at(pod) + REPLACE_AFTER


def replacement_times(observed: Observed) -> Iterator[datetime]:
    """Yield when a Pod that ended may be replaced, or what is to be said or done of one that is deleted changes."""
    pod = observed.children.get(Kind.POD)
    if pod is None:
        return
    if end_of(pod) is not None:
        yield created_at(pod) + REPLACE_AFTER
    due = due_to_be_gone(pod)
    if due is not None:
        yield from (due, due + UNCONFIRMED_AFTER)
