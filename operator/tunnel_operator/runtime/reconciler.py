"""The one code path: gather, plan, report, execute, until there is nothing left to do."""

from datetime import datetime

from ..api.keys import Key
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core.plan import plan
from ..errors import ConflictError
from . import stuck
from .execute import execute
from .gather import gather
from .reporter import Reporter
from .world import Pass, World

MAX_ROUNDS = 8
"""How often one pass looks again after it has acted; more can only come from a fault of ours."""


class Reconciler:
    """Brings one Tunnel after another to where it should be. Holds no state of its own."""

    def __init__(self, world: World, *, controller_name: str, default_image: str) -> None:
        self._world = world
        self._controller_name = controller_name
        self._default_image = default_image
        self._reporter = Reporter(world.cluster, world.events, world.memory, world.leadership)

    async def reconcile(self, key: Key) -> datetime | None:
        """Do all that can be done for a Tunnel now; return when to look again, if ever.

        Raises TunnelError when the Kubernetes API fails; all other failures become part of the status.
        Raises NotLeadingError, alone or in a group, when this process may not act any more.
        """
        world = self._world
        tunnel, is_certain = await self._newest(key), False
        for _ in range(MAX_ROUNDS):
            if tunnel is None or tunnel.is_gone:
                world.memory.forget(key)
                world.recorder.forget(key)
                world.rollout.forget(key)
                return None
            current = Pass(tunnel, world, is_certain=is_certain)
            if not self._is_mine(current.klass):
                world.recorder.forget(key)
                return None
            now = world.clock()
            observed = await gather(current, now)
            decision = plan(tunnel, current.klass, observed, now, default_image=self._default_image)
            if world.memory.settle(key, decision.reached):
                continue
            world.cache.note_opening(key, is_open=decision.stage is not None)
            world.rollout.follow(key, current.class_name, decision.stage, now)
            try:
                await self._reporter.say(current, decision)
            except ConflictError:
                # What was decided is not of the Tunnel as it is: the watch is late.
                tunnel, is_certain = await world.cluster.get_tunnel(key), True
                continue
            world.recorder.report(tunnel, decision.status, observed.failures)
            if not decision.branches:
                world.memory.settled(key)
                return decision.recheck_at
            await execute(current, decision, self._reporter)
            tunnel, is_certain = await self._newest(key, current.newest), False
        return stuck.put_off(world.memory, key, decision, world.clock())

    async def _newest(self, key: Key, written: Tunnel | None = None) -> Tunnel | None:
        """Return the Tunnel as the watch or a write of ours last brought it; None when the watch told of its end.

        It is not read for that: what is recorded on a state that has changed since is refused.
        """
        cache = self._world.cache
        if written is not None and (written.is_gone or cache.is_newest(written)):
            return written
        if not cache.has_tunnel(key):
            return None
        return cache.tunnel(key) or await self._world.cluster.get_tunnel(key)

    def _is_mine(self, klass: TunnelClass | None) -> bool:
        return klass is None or klass.spec.controller_name == self._controller_name
