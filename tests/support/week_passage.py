"""How the time of a long run passes: the operator looks whenever it wanted to, nodes and devices do their part."""

import heapq
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

from support.operator_world import Crash, only_crashed
from support.week_invariants import Invariants
from support.week_world import FailingWorld
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.errors import TunnelError


class Passage:
    """Moves the world's clock from one wish of the operator's to be called to the next. `seen` counts for people.

    `able_since` is when something last ended that kept the operator from its work.
    """

    def __init__(self, world: FailingWorld, invariants: Invariants, seen: Counter[str]) -> None:
        self.world = world
        self.is_down = False
        self.able_since = world.now
        self._invariants = invariants
        self._seen = seen
        self._order = count()
        self._due: list[tuple[datetime, int, Key]] = []
        self._wanted: dict[Key, datetime] = {}
        self._failed: Counter[Key] = Counter()
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []

    async def until(self, moment: datetime) -> None:
        """Let all happen that is due by then."""
        while True:
            next_later = self._later[0][0] if self._later else None
            next_due = self._due[0][0] if self._due and not self.is_down else None
            times = [t for t in (next_later, next_due) if t is not None and t <= moment]
            if not times:
                break
            self.world.now = max(self.world.now, min(times))
            if next_later is not None and next_later == min(times):
                heapq.heappop(self._later)[2]()
                continue
            at, _, key = heapq.heappop(self._due)
            if self._wanted.get(key) == at:
                del self._wanted[key]
                await self.work_on(key)
        self.world.now = max(self.world.now, moment)

    async def work_on(self, key: Key) -> None:
        """Run passes over one tunnel, and its node, until nothing more comes of it."""
        for _ in range(8):
            if self.is_down:
                return
            before = self.world.cluster.tunnels.get(key)
            try:
                again_at = await self.world.reconcile(key)
            except (Crash, BaseExceptionGroup) as error:
                only_crashed(error)
                self._seen["crashes"] += 1
                self.start_operator()
                return
            except TunnelError:
                self._failed[key] += 1
                again_at = self.world.now + timedelta(seconds=min(2 ** self._failed[key], 30))
            else:
                self._failed.pop(key, None)
            self._seen["passes"] += 1
            self._wake_others()
            if before is not None and key not in self.world.cluster.tunnels:
                self._invariants.sweep(Tunnel.from_dict(before))
            if again_at is not None:
                self.wake(key, again_at)
            self._invariants.keep_tokens(key)
            if not self.world.run_node(key):
                return
        raise AssertionError(f"{key} does not settle")

    def wake(self, key: Key, at: datetime) -> None:
        """Let the operator look at a tunnel then, unless it will before."""
        known = self._wanted.get(key)
        if known is None or at < known:
            self._wanted[key] = at
            heapq.heappush(self._due, (at, next(self._order), key))

    def _wake_others(self) -> None:
        """Put those into the operator's queue whose turn to be replaced a pass over another one has brought."""
        for key in self.world.woken:
            self.wake(key, self.world.now)
        self.world.woken.clear()

    async def notice(self, key: Key) -> None:
        """Let the Pod's readiness change, and the watch tell the operator of it."""
        if self.world.run_node(key):
            await self.work_on(key)

    def start_operator(self) -> None:
        """Start a process that knows nothing, and is told of all tunnels by its first listing."""
        self.world.crash_at = None
        self.world.woken.clear()
        self.world.start_operator()
        self.is_down = False
        self.able_since = self.world.now
        for key in self.world.names():
            self.wake(key, self.world.now)

    def later(self, after: timedelta, do: Callable[[], None]) -> None:
        """Let something happen after a time."""
        heapq.heappush(self._later, (self.world.now + after, next(self._order), do))

    def hurry(self) -> None:
        """Let all happen at once that was to happen later."""
        while self._later:
            heapq.heappop(self._later)[2]()
