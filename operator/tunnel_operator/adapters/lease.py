"""Leader election by a Lease of coordination.k8s.io/v1, as client-go does it.

Nobody's clock is trusted but one's own monotonic one: a holder counts as gone when its Lease has not changed
for as long as it lasts, as seen from here. A leader stops acting well before others may think so.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from ..errors import ConflictError, TunnelError
from .kube_api import KubeApi, NotFoundError

LEASE_SECONDS = 10
"""After this long without a renewal another operator takes over."""

ACT_SECONDS = 7
"""For this long after a renewal was sent the leader acts; the rest is the margin for slow clocks and calls."""

RETRY_SECONDS = 2
"""Between renewals, and between attempts to take over."""

TRY_SECONDS = 2.3
AGAIN_SECONDS = 0.2
"""How long one attempt may take, and the pause after one that failed: two of them fit in before the leader must stop."""

log = structlog.get_logger(__name__)


class LeaseLostError(Exception):
    """The Lease could not be renewed in time: this process must not go on."""


class Right(Protocol):
    """The right to act, which the Lease gives."""

    def grant(self, until: float) -> None:
        """Allow acting until a moment of the monotonic clock."""

    def revoke(self) -> None:
        """Allow no more."""

    def is_held(self) -> bool:
        """Tell whether acting is allowed now."""


@dataclass(frozen=True, slots=True)
class LeaseName:
    """Which Lease, and in whose name it is taken."""

    namespace: str
    name: str
    identity: str


@dataclass(slots=True)
class _Seen:
    version: str
    since: float


class LeaseElector:
    """Takes the Lease, keeps it, and gives it back."""

    def __init__(
        self, api: KubeApi, lease: LeaseName, right: Right, monotonic: Callable[[], float]
    ) -> None:
        self._api = api
        self._lease = lease
        self._right = right
        self._monotonic = monotonic
        self._seen: _Seen | None = None
        self._held: dict[str, Any] | None = None
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{lease.namespace}/leases"

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._try():  # noqa: ASYNC110 - nothing here can tell when it changes
            await asyncio.sleep(RETRY_SECONDS)
        log.info("leader.elected", identity=self._lease.identity)

    async def keep(self) -> None:
        """Renew the Lease for ever. Raises LeaseLostError once it may not be ours any more."""
        wait: float = RETRY_SECONDS
        while True:
            await asyncio.sleep(wait)
            if not self._right.is_held():
                raise LeaseLostError("The Lease was not renewed in time.")
            wait = RETRY_SECONDS if await self._try() else AGAIN_SECONDS

    async def release(self) -> None:
        """Give the Lease back, so that nobody has to wait for its end."""
        self._right.revoke()
        try:
            current = await self._api.request("GET", f"{self._path}/{self._lease.name}")
            if current["spec"].get("holderIdentity") == self._lease.identity:
                await self._put(current, holder="", seconds=1)
        except TunnelError as error:
            log.warning("leader.not_released", message=error.message)

    async def _try(self) -> bool:
        """Take or renew the Lease if that may be done; return whether it is ours now."""
        started = self._monotonic()
        try:
            async with asyncio.timeout(TRY_SECONDS):
                is_ours = await self._renew() or await self._take(started)
        except (TunnelError, TimeoutError) as error:
            log.warning("leader.unsure", error=type(error).__name__, message=str(error))
            return False
        if is_ours:
            self._right.grant(started + ACT_SECONDS)
        return is_ours

    async def _renew(self) -> bool:
        """Replace the Lease as this process wrote it last, which is one request and not two."""
        held, self._held = self._held, None
        if held is None:
            return False
        try:
            self._held = await self._put(held, holder=self._lease.identity, seconds=LEASE_SECONDS)
        except (ConflictError, NotFoundError):
            # Another's by now, or an attempt that was given up had its effect all the same.
            return False
        return True

    async def _take(self, now: float) -> bool:
        """Take the Lease if it is free, or ours already."""
        try:
            current = await self._api.request("GET", f"{self._path}/{self._lease.name}")
        except NotFoundError:
            return await self._create()
        version, spec = current["metadata"]["resourceVersion"], current["spec"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, now)
        holder = spec.get("holderIdentity") or ""
        lasts = spec.get("leaseDurationSeconds") or LEASE_SECONDS
        is_free = holder in ("", self._lease.identity) or now >= self._seen.since + lasts
        if not is_free:
            return False
        try:
            self._held = await self._put(
                current, holder=self._lease.identity, seconds=LEASE_SECONDS
            )
        except ConflictError:
            return False
        return True

    async def _create(self) -> bool:
        body = self._body({}, holder=self._lease.identity, seconds=LEASE_SECONDS)
        body["metadata"] = {"name": self._lease.name, "namespace": self._lease.namespace}
        try:
            self._held = await self._api.request("POST", self._path, body=body)
        except ConflictError:
            return False
        return True

    async def _put(self, current: dict[str, Any], *, holder: str, seconds: int) -> dict[str, Any]:
        """Replace the Lease, if it is still the one that was read; return it as it is then."""
        body = self._body(current["spec"], holder=holder, seconds=seconds)
        body["metadata"] = current["metadata"]
        return await self._api.request("PUT", f"{self._path}/{self._lease.name}", body=body)

    def _body(self, spec: dict[str, Any], *, holder: str, seconds: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_same = spec.get("holderIdentity") == holder
        changes = (spec.get("leaseTransitions") or 0) + (not is_same)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": spec.get("acquireTime") if is_same else now,
                "renewTime": now,
                "leaseTransitions": changes,
            },
        }
