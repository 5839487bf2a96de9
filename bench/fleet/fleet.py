"""Many Tunnels: made as fast as the API server takes them, and watched until they are Ready or gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from .kube import TUNNELS, Body, Kube, in_parallel, namespaced
from .stage import DEVICES, NAMESPACES

MAKERS = 16


class Fleet:
    """So many Tunnels over all namespaces and devices."""

    def __init__(self, kube: Kube, count: int) -> None:
        self._kube = kube
        self.count = count
        self._ready: set[str] = set()
        self._there: set[str] = set()
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator["Fleet"]:
        """Follow all Tunnels meanwhile."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            yield self
            watching.cancel()

    async def make(self) -> None:
        """Create all Tunnels."""
        work: asyncio.Queue[Body] = asyncio.Queue()
        for body in self._bodies():
            work.put_nowait(body)

        async def create(body: Body) -> None:
            path = namespaced(TUNNELS, body["metadata"]["namespace"])
            await self._kube("POST", path, body)

        makers = asyncio.ensure_future(in_parallel(MAKERS, work, create))
        await _until_done(work, makers)

    async def delete(self) -> None:
        """Delete all, as `kubectl delete tunnels --all` does in each namespace."""
        async with asyncio.TaskGroup() as group:
            for number in range(NAMESPACES):
                path = namespaced(TUNNELS, f"clinic-{number}")
                group.create_task(self._kube("DELETE", path))

    async def until_ready(self, *, within: float) -> None:
        """Return once all are Ready."""
        async with asyncio.timeout(within):
            while len(self._ready) < self.count:
                await self._next(f"{len(self._ready)} of {self.count} ready")

    async def until_gone(self, *, within: float) -> None:
        """Return once none is left."""
        async with asyncio.timeout(within):
            while self._there:
                await self._next(f"{len(self._there)} left")

    async def _next(self, words: str) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), 10)
        except TimeoutError:
            print("   ", words, flush=True)

    async def _watch(self) -> None:
        async for kind, tunnel in self._kube.watch(TUNNELS):
            uid = tunnel["metadata"]["uid"]
            conditions = (tunnel.get("status") or {}).get("conditions") or ()
            is_gone = kind == "DELETED"
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            (self._there.discard if is_gone else self._there.add)(uid)
            (self._ready.add if is_ready and not is_gone else self._ready.discard)(uid)
            self._changed.set()

    def _bodies(self) -> Iterator[Body]:
        for number in range(self.count):
            yield {
                "apiVersion": "tunnels.dev/v1alpha1",
                "kind": "Tunnel",
                "metadata": {
                    "name": f"tunnel-{number}",
                    "namespace": f"clinic-{number % NAMESPACES}",
                },
                "spec": {
                    "tunnelClassName": "azure",
                    "device": {"id": f"device-{number % DEVICES}"},
                    "ports": [
                        {"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"},
                        {"name": "ssh", "port": 22},
                    ],
                    "ttl": "4h",
                },
            }


async def _until_done(work: asyncio.Queue[Body], workers: asyncio.Future[None]) -> None:
    done = asyncio.ensure_future(work.join())
    await asyncio.wait({done, workers}, return_when=asyncio.FIRST_COMPLETED)
    if workers.done():
        workers.result()
    workers.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await workers
