"""The limit: a client that knows what to write, and writes it, with the operator's concurrency.

For each Tunnel that appears: finalizer, first status, Secret, Pod, Service; and the last status when the
Pod is Ready. It asks nobody anything and decides nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from tunnel_operator.api.tunnel import FINALIZER, Tunnel
from tunnel_operator.api.tunnel_class import TunnelClass
from tunnel_operator.core import manifests
from tunnel_operator.core.refusal import Refusal
from tunnel_operator.core.terms import agree

from .kube import APPLY, TUNNELS, Body, Kube, in_parallel, namespaced

_FORCED = "?fieldManager=bench&force=true"
_PATHS = {"Secret": "/api/v1/secrets", "Pod": "/api/v1/pods", "Service": "/api/v1/services"}


class Limit:
    """Writes for each Tunnel what the operator writes."""

    def __init__(self, kube: Kube, klass: Body, workers: int) -> None:
        self._kube = kube
        self._klass = TunnelClass.from_dict(klass)
        self._workers = workers
        self._seen: set[str] = set()
        self._tunnels: dict[tuple[str, str], Body] = {}
        self._made: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(in_parallel(self._workers, self._work, lambda do: do()))
            group.create_task(self._watch_tunnels())
            group.create_task(self._watch_pods())

    async def _watch_tunnels(self) -> None:
        async for kind, tunnel in self._kube.watch(TUNNELS):
            meta = tunnel["metadata"]
            if kind == "ADDED":
                self._tunnels[meta["namespace"], meta["name"]] = tunnel
                self._work.put_nowait(partial(self._open, tunnel))
            elif "deletionTimestamp" in meta and meta["uid"] not in self._seen:
                self._seen.add(meta["uid"])
                self._work.put_nowait(partial(self._close, tunnel))

    async def _watch_pods(self) -> None:
        async for _, pod in self._kube.watch("/api/v1/pods", "tunnels.dev/tunnel"):
            meta = pod["metadata"]
            conditions = (pod.get("status") or {}).get("conditions") or ()
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            if is_ready and meta["uid"] not in self._seen and "deletionTimestamp" not in meta:
                self._seen.add(meta["uid"])
                tunnel = self._tunnels[meta["namespace"], meta["labels"]["tunnels.dev/tunnel"]]
                self._work.put_nowait(partial(self._finish, tunnel))

    async def _open(self, tunnel: Body) -> None:
        await self._apply_tunnel(tunnel, "", {"finalizers": [FINALIZER]}, {})
        await self._status(tunnel, "False")
        for manifest in self._children(tunnel):
            meta = manifest["metadata"]
            path = namespaced(_PATHS[manifest["kind"]], meta["namespace"])
            await self._kube("PATCH", f"{path}/{meta['name']}{_FORCED}", manifest, APPLY)

        self._made[tunnel["metadata"]["uid"]].set()

    async def _finish(self, tunnel: Body) -> None:
        # What is deleted before all of it is there leaves something behind.
        await self._made[tunnel["metadata"]["uid"]].wait()
        await self._status(tunnel, "True")

    async def _close(self, tunnel: Body) -> None:
        for manifest in self._children(tunnel):
            meta = manifest["metadata"]
            path = namespaced(_PATHS[manifest["kind"]], meta["namespace"])
            await self._kube("DELETE", f"{path}/{meta['name']}")
        await self._apply_tunnel(tunnel, "", {}, {})

    def _children(self, body: Body) -> list[Body]:
        tunnel = Tunnel.from_dict(body)
        terms = agree(tunnel, self._klass, default_image="registry.test/forwarder:1")
        if isinstance(terms, Refusal):
            raise TypeError(terms.message)
        expires_at = datetime.now(UTC) + timedelta(hours=4)
        secret = manifests.make_secret(tunnel, terms, expires_at)
        return [
            manifests.with_token(secret, "t" * 250),
            manifests.make_pod(tunnel, terms),
            manifests.make_service(tunnel),
        ]

    async def _status(self, tunnel: Body, truth: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kinds = ("Accepted", "HybridConnectionReady", "DeviceListening", "ForwarderReady")
        status = {
            "observedGeneration": 1,
            "openedAt": now,
            "expiresAt": now,
            "conditions": [
                {
                    "type": kind,
                    "status": truth,
                    "reason": "Open" if truth == "True" else "Opening",
                    "message": "A sentence as long as those of the operator usually are.",
                    "lastTransitionTime": now,
                    "observedGeneration": 1,
                }
                for kind in (*kinds, "Exposed", "Ready")
            ],
        }
        await self._apply_tunnel(tunnel, "/status", {}, {"status": status})

    async def _apply_tunnel(self, tunnel: Body, end: str, meta: Body, rest: Body) -> None:
        known = tunnel["metadata"]
        same = {name: known[name] for name in ("name", "namespace", "uid")}
        body = {
            "apiVersion": tunnel["apiVersion"],
            "kind": "Tunnel",
            "metadata": same | meta,
            **rest,
        }
        path = f"{namespaced(TUNNELS, known['namespace'])}/{known['name']}{end}{_FORCED}"
        await self._kube("PATCH", path, body, APPLY)
