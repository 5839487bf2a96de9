"""Rendezvous made ahead of use, so that a client waits one round trip and not seven.

A stock azbridge listener waits for the preamble without a limit (`RemoteForwardBridge.cs` over
relay-dotnet's `WebSocketStream`), so a link may be kept open before anyone needs it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from .backoff import JITTER, Ladder
from .errors import DialError
from .link import Link

MAX_AGE = 300.0
"""Seconds after which a link is replaced: shorter than the idle limits that were met in practice, and
each replacement proves the path anew."""

PROBE_SECONDS = 30.0
"""Between two proofs of the path when no link is kept."""

RETRY = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds. Quick at first: the device is being told to listen at the same moment."""

SETTLED_SECONDS = 5.0
"""A link that ends sooner counts as a failure, as its peer does not want to be met."""

SHRINK_SECONDS = 60.0

REFILL_SECONDS = 0.05
"""After a link has been taken: its client's first bytes go before a handshake, which costs milliseconds."""

Dial = Callable[[], Awaitable[Link]]


@dataclass(slots=True, eq=False)
class WarmPool:
    """Keeps `size` links ready while `run` runs; 0 keeps none, but proves the path now and then.

    A client that finds the last one, or none, makes it keep twice as many, up to `most`; each
    `shrink_after` seconds without such a client make it keep one less, down to `size` again.
    """

    dial: Dial
    size: int
    most: int = 0
    shrink_after: float = SHRINK_SECONDS
    max_age: float = MAX_AGE
    probe_every: float = PROBE_SECONDS
    retry: Sequence[float] = RETRY
    settled: float = SETTLED_SECONDS
    refill_after: float = REFILL_SECONDS
    _idle: dict[Link, asyncio.Event] = field(default_factory=dict)
    _wanted: int = field(init=False)
    _missed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._wanted = self.size

    @property
    def wanted(self) -> int:
        """How many are to be kept now."""
        return self._wanted

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Link | None:
        """Return the link whose path was proven last, and have another one made; None if there is none."""
        while self._idle:
            link, used = self._idle.popitem()
            used.set()
            if link.connected and link.ending is None:
                link.watch_path(watch=False)
                if not self._idle:
                    self._missed.set()
                return link
            link.abandon()
        self._missed.set()
        return None

    def distrust(self) -> None:
        """Have all links made anew: one has turned out to carry nothing, and they went the same way."""
        while self._idle:
            link, used = self._idle.popitem()
            used.set()
            link.abandon()

    async def run(self) -> None:
        """Keep the pool full until cancelled, then close what is left."""
        keepers: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as tasks:
            if not self.size:
                tasks.create_task(self._probe(), name="probe")
                return
            while True:
                while len(keepers) < self._wanted:
                    name = f"warm-{len(keepers)}"
                    keepers.append(tasks.create_task(self._keep_one(), name=name))
                while len(keepers) > self._wanted:
                    keepers.pop().cancel()
                await self._adapt()

    async def _adapt(self) -> None:
        """Wait until another number is to be kept."""
        before = self._wanted
        while self._wanted == before:
            self._missed.clear()
            try:
                async with asyncio.timeout(self.shrink_after):
                    await self._missed.wait()
            except TimeoutError:
                self._wanted = max(self.size, self._wanted - 1)
            else:
                self._wanted = max(before, min(before * 2, self.most))

    async def _keep_one(self) -> None:
        loop = asyncio.get_running_loop()
        ladder = Ladder(self.retry)
        while True:
            link, used = await self._proven_link(ladder), asyncio.Event()
            made = loop.time()
            link.watch_path(watch=True)
            link.when_ended(used.set)
            self._idle[link] = used
            try:
                # Spread, so that links made together are not replaced together.
                async with asyncio.timeout(self.max_age * (1 - JITTER * random.random())):  # noqa: S311
                    await used.wait()
            except TimeoutError:
                pass
            finally:
                unused = self._idle.pop(link, None) is not None
                if unused:
                    link.close()
            if unused and loop.time() - made < self.settled:
                await asyncio.sleep(ladder.next_delay())  # a peer that hangs up at once
                continue
            ladder.reset()
            if not unused:
                await asyncio.sleep(self.refill_after)

    async def _probe(self) -> None:
        ladder = Ladder(self.retry)
        while True:
            link = await self._proven_link(ladder)
            link.close()
            ladder.reset()
            await asyncio.sleep(self.probe_every)

    async def _proven_link(self, ladder: Ladder) -> Link:
        while True:
            try:
                return await self.dial()
            except DialError:  # whoever dials takes note of it
                await asyncio.sleep(ladder.next_delay())
