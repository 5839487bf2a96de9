"""Many tunnels over simulated days: people edit, things fail, and what must hold is looked at all the time.

The reconciler is the real one, in the model world, whose clock is moved from one wish of the operator's to be
called to the next. All chance comes from one seed.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from support.week_faults import Faults
from support.week_invariants import Invariants
from support.week_passage import Passage
from support.week_people import People
from support.week_world import FailingWorld

CALM = timedelta(minutes=6)
"""After this long without faults everything has been looked at once, and is as it should be."""


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    tunnels: int
    span: timedelta
    edit_every: timedelta
    fault_every: timedelta
    calm_every: timedelta = timedelta(hours=6)


@dataclass(frozen=True)
class Seen:
    """What happened, and how many tunnels were open at each calm moment, for people to judge a run by."""

    happened: Counter[str]
    open: list[int]

    @property
    def average_open(self) -> float:
        return sum(self.open) / len(self.open)

    def lines(self) -> list[str]:
        """Return it as text."""
        how_many = f"{self.average_open:.0f} on average, {min(self.open)} at least"
        counted = [f"{n:>9}  {what.replace('_', ' ')}" for what, n in sorted(self.happened.items())]
        return [*counted, f"open at a calm moment: {how_many}, {self.open}"]


class Week:
    """One run."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.scale = scale
        self.chance = random.Random(seed)  # noqa: S311 - chooses, keeps no secret
        self.world = FailingWorld()
        self.began = self.world.now
        happened: Counter[str] = Counter()
        names = [f"mri-{number}" for number in range(scale.tunnels)]
        self.world.azure.online.update(names)
        self._invariants = Invariants(self.world, happened, self._is_able)
        self._passage = Passage(self.world, self._invariants, happened)
        self._people = People(self._passage, names, self.chance, happened)
        self._faults = Faults(self._passage, names, self.chance, happened)
        self.seen = Seen(happened, self._invariants.found_open)

    def _is_able(self) -> bool:
        return self._faults.is_able()

    async def run(self) -> None:
        """Let the time pass. Raises AssertionError as soon as something does not hold."""
        end = self.began + self.scale.span
        calm_at = self.began + self.scale.calm_every
        await self._people.begin()
        for moment, happen in self._happenings():
            if moment > end:
                break
            await self._passage.until(moment)
            await happen()
            self._invariants.look()
            if moment >= calm_at:
                await self._calm_down()
                calm_at = self.world.now + self.scale.calm_every
        await self._calm_down()

    def _happenings(self) -> Iterator[tuple[datetime, Callable[[], Coroutine[None, None, None]]]]:
        """Yield what people and faults do, in the order of time."""
        edit_at = fault_at = self.began
        while True:
            if edit_at <= fault_at:
                yield max(edit_at, self.world.now), self._people.edit
                edit_at += self.scale.edit_every * self.chance.expovariate(1)
            else:
                yield max(fault_at, self.world.now), self._faults.fail
                fault_at += self.scale.fault_every * self.chance.expovariate(1)

    async def _calm_down(self) -> None:
        """End all faults, wait, and see that everything is exactly as it should be."""
        self._faults.end_all()
        await self._passage.until(self.world.now + CALM)
        self._invariants.look_when_calm()


def live_through(scale: Scale, seed: int) -> Seen:
    """Run it; return what happened. The seed is part of every failure."""
    # A week has hundreds of thousands of lines.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    week = Week(scale, seed)
    try:
        asyncio.run(week.run())
    except (AssertionError, ExceptionGroup) as error:
        at = week.world.now - week.began
        raise AssertionError(f"seed {seed}, after {at}: {error}") from error
    return week.seen
