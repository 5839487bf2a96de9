"""When each watch has last brought anything, which tells one that hangs from one that has no news.

A watch that works is never silent for long: the API server sends a bookmark each minute if nothing else, and
kopf opens one again that was silent for 70 s, over which the server answers. Silence for longer means that
nothing gets through, or that kopf does not try any more. Then this process is deaf, leading or not.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import NamedTuple

LONGEST_SILENCE = timedelta(minutes=5)
"""Four bookmarks or openings missed in a row.

Long enough for an API server that is upgraded, and for kopf's own pauses between attempts, of 21 s at most; as
long as it takes until the resync finds out what was missed.
"""


class Watch(NamedTuple):
    """What is watched: a resource by its plural, in a namespace or, when that is empty, in all."""

    resource: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace}" if self.namespace else self.resource


def watch_of(path: str) -> Watch:
    """Return what is watched at a path of the API, whatever the API server's own prefix is."""
    *before, resource = path.strip("/").split("/")
    match before:
        case [*_, "namespaces", namespace]:
            return Watch(resource, namespace)
        case _:
            return Watch(resource, "")


class Watches:
    """Knows since when each watch has been silent. One that is neither begun nor waited for is not missed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard: dict[Watch, float] = {}
        self._begun: set[Watch] = set()
        self._asked = asyncio.Event()

    def asked(self, path: str) -> None:
        """Take that a watch is being opened. Its silence begins when that is tried for the first time."""
        watch = watch_of(path)
        self._heard.setdefault(watch, self._monotonic())
        self._begun.add(watch)
        self._asked.set()

    async def until_begun(self, expected: AbstractSet[Watch]) -> None:
        """Return once all of these have been opened; until then, each is missed from now on.

        Each begins where a list of its own ended: what goes away after this is heard of.
        """
        for watch in expected:
            self._heard.setdefault(watch, self._monotonic())
        while not expected <= self._begun:
            self._asked.clear()
            await self._asked.wait()

    def heard(self, path: str) -> None:
        """Take that the API server has sent something; that of what is not watched does not matter."""
        watch = watch_of(path)
        if watch in self._heard:
            self._heard[watch] = self._monotonic()

    def silences(self) -> dict[Watch, float]:
        """Return for how many seconds each watch has brought nothing."""
        now = self._monotonic()
        # A copy: metrics are read in another thread.
        return {watch: now - at for watch, at in self._heard.copy().items()}

    def stale(self) -> str | None:
        """Return a sentence about the watches that are silent for too long, if there are any."""
        silences = self.silences()
        longest = max(silences.values(), default=0.0)
        if longest <= LONGEST_SILENCE.total_seconds():
            return None
        silent = (w for w, s in silences.items() if s > LONGEST_SILENCE.total_seconds())
        names = ", ".join(sorted(map(str, silent)))
        return f"nothing has come from the watch of {names} for {longest:.0f} s"
