"""Removes what was left behind in Azure. Each candidate's Tunnel is asked for once more before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from ..api.tunnel_class import TunnelClassSpec
from ..core.sweep import Marked, candidates
from ..errors import TunnelError
from .leadership import Leadership, NotLeadingError
from .ports import Clock, Cluster

INTERVAL = timedelta(minutes=10)

log = structlog.get_logger(__name__)


class MarkedConnections(Protocol):
    """Hybrid connections with an ownership mark."""

    async def marked(self, klass: TunnelClassSpec) -> list[Marked]:
        """Return those of a class's namespace."""

    async def delete(self, klass: TunnelClassSpec, name: str) -> None:
        """Remove one; removed already counts as done."""


@dataclass(frozen=True, slots=True)
class SweepPolicy:
    """What may be removed: of which cluster; a dry run says what it would remove, and removes nothing."""

    cluster_id: str
    is_dry: bool


class Sweeper:
    """Looks every ten minutes."""

    def __init__(
        self,
        cluster: Cluster,
        relay: MarkedConnections,
        leadership: Leadership,
        clock: Clock,
        policy: SweepPolicy,
    ) -> None:
        self._cluster = cluster
        self._relay = relay
        self._leadership = leadership
        self._clock = clock
        self._policy = policy

    async def run(
        self,
        classes: Callable[[], Iterable[TunnelClassSpec]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Sweep the namespaces of these classes for ever."""
        while True:
            await sleep(INTERVAL.total_seconds())
            for klass in _one_for_each_namespace(classes()):
                try:
                    await self.sweep(klass)
                except TunnelError as error:
                    log.warning("sweep.failed", reason=error.reason, message=error.message)
                except NotLeadingError:
                    # Whoever leads sweeps; that may be this process again.
                    log.warning("sweep.fenced")

    async def sweep(self, klass: TunnelClassSpec) -> None:
        """Sweep one namespace once. Raises TunnelError, and NotLeadingError when this process may not act."""
        found = await self._relay.marked(klass)
        for marked in candidates(found, self._policy.cluster_id, self._clock()):
            tunnel = await self._cluster.get_tunnel(marked.tunnel)
            if tunnel is not None and tunnel.metadata.uid == marked.uid and tunnel.has_finalizer:
                continue
            log.warning(
                "sweep.orphan",
                hybrid_connection=marked.name,
                tunnel=str(marked.tunnel),
                correlation_id=marked.uid,
                removed=not self._policy.is_dry,
            )
            if not self._policy.is_dry:
                self._leadership.require()
                await self._relay.delete(klass, marked.name)


def _one_for_each_namespace(classes: Iterable[TunnelClassSpec]) -> list[TunnelClassSpec]:
    places = {
        (k.relay.subscription_id, k.relay.resource_group, k.relay.namespace): k for k in classes
    }
    return list(places.values())
