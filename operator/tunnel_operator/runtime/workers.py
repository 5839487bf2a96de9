"""The workers that take keys off the queue, a bounded number at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from ..api.keys import Key
from ..core import backoff
from ..errors import TunnelError
from .leadership import NotLeadingError
from .workqueue import WorkQueue

STUCK_AFTER = timedelta(minutes=5)
"""No pass takes this long: every call in it has a deadline, and all of them together are shorter."""

log = structlog.get_logger(__name__)


class PassObserver(Protocol):
    """Counts passes."""

    def __call__(self, outcome: str, seconds: float) -> None:
        """Take one pass's outcome (done, failed, fenced, crashed) and how long it took."""


class Workers:
    """Runs passes until told to drain."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconcile: Callable[[Key], Awaitable[datetime | None]],
        *,
        count: int,
        clock: Callable[[], datetime],
        observe: PassObserver,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._count = count
        self._clock = clock
        self._observe = observe
        self._running: dict[Key, datetime] = {}
        self._attempts: dict[Key, int] = {}
        self._draining = asyncio.Event()

    def oldest_pass(self) -> timedelta:
        """Return how long the oldest pass has gone on; zero when none does."""
        # A copy: metrics are read in another thread.
        oldest = min(list(self._running.values()), default=None)
        return timedelta(0) if oldest is None else self._clock() - oldest

    def is_stuck(self) -> bool:
        """Tell whether a pass has gone on for longer than any can."""
        return self.oldest_pass() > STUCK_AFTER

    async def run(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Prepare, then work, until `drain`. A fault in a pass is logged and its key tried again later."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._run(prepare))
            await self._draining.wait()
            working.cancel()

    async def _run(self, prepare: Callable[[], Awaitable[None]]) -> None:
        await prepare()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._work())

    async def drain(self, within: timedelta) -> None:
        """Begin no more passes, give those that run some time to end, then call them off."""
        self._queue.close()
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._queue.idle()
        except TimeoutError:
            log.warning("workers.cut_short", tunnels=[str(key) for key in self._running])
        self._draining.set()

    async def _work(self) -> None:
        task = asyncio.current_task()
        while True:
            key = await self._queue.get()
            started = self._running[key] = self._clock()
            try:
                outcome = await self._pass(key)
            finally:
                del self._running[key]
                self._queue.done(key)
            self._observe(outcome, (self._clock() - started).total_seconds())
            if task is not None and task.cancelling():
                # A group of tasks that fails just when it is called off raises the failure alone
                # (Python 3.11), and the call to end would be lost.
                return

    async def _pass(self, key: Key) -> str:
        try:
            recheck_at = await self._reconcile(key)
        except TunnelError as error:
            log.warning("pass.failed", tunnel=str(key), reason=error.reason, message=error.message)
            self._again(key, error.retry_after)
            return "failed"
        except Exception as error:
            if _is_fenced(error):
                # Whoever leads now looks at all Tunnels. That may be this process again, if its renewal
                # came late and nobody else has taken over: then nothing else would bring the key back.
                log.warning("pass.fenced", tunnel=str(key))
                self._again(key)
                return "fenced"
            # A fault of ours in one pass must not end the work on all other tunnels.
            log.exception("pass.crashed", tunnel=str(key))
            self._again(key)
            return "crashed"
        self._attempts.pop(key, None)
        if recheck_at is not None:
            self._queue.add_after(key, (recheck_at - self._clock()).total_seconds())
        return "done"

    def _again(self, key: Key, least: timedelta | None = None) -> None:
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        wait = backoff.delay(attempts, 0.0)
        self._queue.add_after(key, max(wait, least or wait).total_seconds())


def _is_fenced(error: Exception) -> bool:
    """Tell whether a pass ended because this process does not lead, in whichever of its branches."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(NotLeadingError) is not None
    return isinstance(error, NotLeadingError)
