"""A node without containers: it binds Pods to itself, makes them Running, then Ready, and lets them go.

That is what kwok does, too, without building a program of Kubernetes' size for it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from .kube import MERGE, Body, Kube, in_parallel

NODE = "bench"
WORKERS = 16

Gate = Callable[[str], Awaitable[None]]
"""Returns when the forwarder of this Tunnel (`namespace/name`) could meet the device's listener."""


class Node:
    """Plays all Pods of tunnels."""

    def __init__(self, kube: Kube, gate: Gate) -> None:
        self._kube = kube
        self._gate = gate
        self._known: set[str] = set()
        self._waiting: asyncio.TaskGroup
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    async def run(self) -> None:
        """Play until cancelled."""
        async with asyncio.TaskGroup() as self._waiting:
            self._waiting.create_task(in_parallel(WORKERS, self._work, lambda do: do()))
            async for kind, pod in self._kube.watch("/api/v1/pods", "tunnels.dev/tunnel"):
                self._take(kind, pod)

    def _take(self, kind: str, pod: Body) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._known.discard(uid)
        elif "deletionTimestamp" in pod["metadata"]:
            self._work.put_nowait(lambda: self._remove(pod))
        elif uid not in self._known:
            self._known.add(uid)
            self._work.put_nowait(lambda: self._start(pod))

    async def _start(self, pod: Body) -> None:
        meta = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "target": {"kind": "Node", "name": NODE},
        }
        await self._kube("POST", f"{_path(pod)}/binding", binding)
        await self._report(pod, is_ready=False)
        self._waiting.create_task(self._become_ready(pod))

    async def _become_ready(self, pod: Body) -> None:
        meta = pod["metadata"]
        await self._gate(f"{meta['namespace']}/{meta['labels']['tunnels.dev/tunnel']}")
        self._work.put_nowait(lambda: self._report(pod, is_ready=True))

    async def _report(self, pod: Body, *, is_ready: bool) -> None:
        truth = "True" if is_ready else "False"
        container = {
            "name": "forwarder",
            "image": "registry.test/forwarder:1",
            "imageID": "registry.test/forwarder@sha256:" + "0" * 64,
            "containerID": "containerd://" + "0" * 64,
            "restartCount": 0,
            "ready": is_ready,
            "started": True,
            "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}},
        }
        kinds = ("PodReadyToStartContainers", "Initialized", "PodScheduled")
        status = {
            "phase": "Running",
            "podIP": "10.244.0.9",
            "hostIP": "10.0.0.1",
            "startTime": pod["metadata"]["creationTimestamp"],
            "containerStatuses": [container],
            "conditions": [{"type": kind, "status": "True"} for kind in kinds]
            + [{"type": kind, "status": truth} for kind in ("Ready", "ContainersReady")],
        }
        await self._kube("PATCH", f"{_path(pod)}/status", {"status": status}, MERGE)

    async def _remove(self, pod: Body) -> None:
        await self._kube("DELETE", _path(pod), {"gracePeriodSeconds": 0})


def _path(pod: Body) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
