"""Keeps the operator's process running as the kubelet keeps its container, by the Deployment's own probe."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from support.processes import Program, health_port

PERIOD = 10.0
TIMEOUT = 5.0
FAILURES = 3
"""periodSeconds, timeoutSeconds and failureThreshold of the livenessProbe."""

BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0


@dataclass
class Kubelet:
    """Starts a program again whenever it has ended, or says on /livez that it is to be."""

    program: Program
    ends: list[str] = field(default_factory=list)
    """Why it was started again, each time."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Kubelet"]:
        await self.program.start()
        task = asyncio.create_task(self._keep())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            self.ends.append(await self._until_it_ends())
            # The first start after an end comes at once, each later one waits twice as long.
            if len(self.ends) > 1:
                await asyncio.sleep(min(BACK_OFF * 2 ** (len(self.ends) - 2), LONGEST_BACK_OFF))
            await self.program.start()

    async def _until_it_ends(self) -> str:
        failures, probe_at = 0, time.monotonic() + PERIOD
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT)) as http:
            while self.program.is_running:
                if time.monotonic() >= probe_at:
                    probe_at += PERIOD
                    failures = 0 if await self._is_alive(http) else failures + 1
                if failures == FAILURES:
                    await self.program.stop()
                    return "not alive"
                await asyncio.sleep(0.1)
        return "ended"

    async def _is_alive(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"http://127.0.0.1:{health_port(self.program)}/livez") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
