"""Removes what was left behind in Azure. Each candidate's Tunnel is asked for once more before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass, TunnelClassSpec
from ..core.sweep import Marked, candidates, is_in_use, place_of
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


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Looks every ten minutes. `class_of` returns a Tunnel's class as far as it is known."""

    cluster: Cluster
    relay: MarkedConnections
    leadership: Leadership
    clock: Clock
    policy: SweepPolicy
    class_of: Callable[[Tunnel], TunnelClass | None]

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
        found = await self.relay.marked(klass)
        for marked in candidates(found, self.policy.cluster_id, self.clock()):
            tunnel = await self.cluster.get_tunnel(marked.tunnel)
            its_class = None if tunnel is None else self.class_of(tunnel)
            its_spec = None if its_class is None else its_class.spec
            if is_in_use(marked, klass.relay, tunnel, its_spec):
                continue
            log.warning(
                "sweep.orphan",
                hybrid_connection=marked.name,
                tunnel=str(marked.tunnel),
                correlation_id=marked.uid,
                removed=not self.policy.is_dry,
            )
            if not self.policy.is_dry:
                self.leadership.require()
                await self.relay.delete(klass, marked.name)


def _one_for_each_namespace(classes: Iterable[TunnelClassSpec]) -> list[TunnelClassSpec]:
    return list({place_of(klass.relay): klass for klass in classes}.values())
