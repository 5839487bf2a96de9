"""What the loop works with: everything outside of it, and the Tunnel that one round of a pass is about."""

import logging
from dataclasses import dataclass, field

import structlog

from ..api.tunnel import Tunnel
from ..core import names
from ..core.looks import Look
from ..core.observed import HybridConnection, NoHybridConnection, Step
from ..errors import Postponed, TunnelError
from .cache import Cache
from .leadership import Leadership
from .memory import Memory
from .ports import Clock, Cluster, Devices, Events, Recorder, Relay
from .reporter import Round
from .rollout import Rollout

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the loop."""

    cluster: Cluster
    relay: Relay
    devices: Devices
    events: Events
    cache: Cache
    memory: Memory
    leadership: Leadership
    recorder: Recorder
    clock: Clock
    rollout: Rollout = field(default_factory=Rollout)


class Pass(Round):
    """What all that is done in one round is about."""

    def __init__(self, tunnel: Tunnel, world: World, *, is_certain: bool) -> None:
        super().__init__(tunnel, is_certain=is_certain)
        self.key = tunnel.key
        self.klass = world.cache.class_of(tunnel)
        self.world = world

    def keep(self, written: Tunnel | None) -> None:
        """Take what a write returned; its echo by the watch is no news if nobody else has changed it."""
        super().keep(written)
        if written is None:
            self.world.cache.found_gone(self.key)
        else:
            is_ours = written.is_like(self.tunnel)
            self.world.cache.wrote_tunnel(written, is_ours=is_ours)

    @property
    def class_name(self) -> str:
        """The name of the Tunnel's class; empty when it has none."""
        return "" if self.klass is None else self.klass.metadata.name

    def keep_look(self, found: HybridConnection | NoHybridConnection) -> None:
        """Take what is in Azure now, rules included, as what a look would find."""
        now = self.world.clock()
        self.world.memory.keep_look(self.key, Look(found, now, now))

    def failed(self, step: Step, error: TunnelError) -> None:
        """Keep what has failed, and when it is to be tried again; it becomes part of the status."""
        failure = self.world.memory.fail(self.key, step, error, self.world.clock())
        is_postponed = isinstance(error, Postponed)
        log.log(
            logging.DEBUG if is_postponed else logging.WARNING,
            "step.postponed" if is_postponed else "step.failed",
            tunnel=str(self.key),
            correlation_id=names.correlation_id(self.tunnel),
            step=step,
            reason=failure.reason,
            message=failure.message,
            attempts=failure.attempts,
            retry_at=failure.retry_at.isoformat(),
        )
