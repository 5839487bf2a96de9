"""One tunnel's changes under an operator that dies after any one of its actions, and is started again."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config

from support.actions import Actions, Moment, once
from support.processes import Program
from support.tunnels import tunnel_body
from tunnel_azure_sim import AzureSim
from tunnel_operator.adapters.kube_api import KubeApi, NotFoundError
from tunnel_operator.core.names import MANAGED_BY_SELECTOR

WITHIN = 40.0
QUIET = 1.0
"""Seconds without an action after which a pass is over."""

TUNNELS = "/apis/tunnels.dev/v1alpha1/namespaces/{namespace}/tunnels"
CHILDREN = {
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Service": "/api/v1/namespaces/{namespace}/services",
}


@asynccontextmanager
async def admin_api(kubeconfig: Path) -> AsyncIterator[KubeApi]:
    """Reach an API server as one who may do anything there."""
    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        yield KubeApi(api)


@dataclass
class Theatre:
    """Where it happens: the cluster and Azure, looked at from outside, and the operator."""

    api: KubeApi
    azure: AzureSim
    operator: Program
    actions: Actions
    namespace: str
    class_name: str
    serial: "count[int]" = field(default_factory=count)

    async def start_operator(self) -> None:
        self.actions.live()
        # Waiting for the dead one's Lease to end is another test's matter.
        self.operator.environment["LEASE_NAME"] = f"{self.namespace}-{next(self.serial)}"
        await self.operator.start()

    async def create(self, name: str) -> None:
        spec = {"tunnelClassName": self.class_name, "device": {"id": "mri-7"}, "ttl": "10m"}
        body = tunnel_body(name, **spec)
        body["metadata"] = {"name": name, "namespace": self.namespace}
        await self.api.request("POST", self._path(TUNNELS), body=body)

    async def change(self, name: str, **spec: Any) -> None:
        merge = "application/merge-patch+json"
        path = f"{self._path(TUNNELS)}/{name}"
        await self.api.request("PATCH", path, body={"spec": spec}, content_type=merge)

    async def delete(self, name: str) -> None:
        await self.api.request("DELETE", f"{self._path(TUNNELS)}/{name}")

    async def tunnel(self, name: str) -> dict[str, Any] | None:
        try:
            return await self.api.request("GET", f"{self._path(TUNNELS)}/{name}")
        except NotFoundError:
            return None

    async def children(self) -> dict[str, dict[str, Any]]:
        """Return all objects that an operator made, by kind and name."""
        found = {}
        for kind, path in CHILDREN.items():
            query = {"labelSelector": MANAGED_BY_SELECTOR}
            listed = await self.api.request("GET", self._path(path), query=query)
            found |= {f"{kind} {item['metadata']['name']}": item for item in listed["items"]}
        return found

    async def picture(self, name: str) -> dict[str, Any]:
        """Return all that there is of a tunnel, but for times and for what differs between two tunnels."""
        tunnel = await self.tunnel(name)
        status = (tunnel or {}).get("status") or {}
        connections = self.azure.hybrid_connections()
        seen = {
            "finalizers": (tunnel or {}).get("metadata", {}).get("finalizers"),
            "conditions": [
                {key: c.get(key) for key in ("type", "status", "reason", "message")}
                for c in status.get("conditions", ())
            ],
            "status": sorted(status),
            "session": (status.get("session") or {}).get("reason"),
            "connections": [
                (c.name, c.listeners, c.rules, c.user_metadata) for c in connections.values()
            ],
            "children": {k: _intent(v) for k, v in (await self.children()).items()},
        }
        text = json.dumps(seen, sort_keys=True)
        uid = tunnel["metadata"]["uid"] if tunnel else "no tunnel"
        text = text.replace(uid, "UID").replace(uid[:8], "UID8").replace(name, "NAME")
        return dict(json.loads(re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)))

    def methods(self, name: str) -> Counter[str]:
        """Count the direct methods that were called for a tunnel."""
        whole = f"{self.namespace}/{name}"
        called = (c for c in self.azure.method_calls if c.payload["tunnel"] == whole)
        return Counter(call.method for call in called)

    def _path(self, template: str) -> str:
        return template.format(namespace=self.namespace)


Do = Callable[[Theatre, str], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """A change of a tunnel: what is before, the change itself, and how it is to end."""

    name: str
    ready: str | None
    """The reason of the condition Ready at the end; None when the tunnel is to be gone."""

    change: Do
    before: tuple[tuple[Do, str], ...] = ()


async def _open(theatre: Theatre, name: str) -> None:
    await theatre.create(name)


async def _extend(theatre: Theatre, name: str) -> None:
    await theatre.change(name, ttl="1h")


async def _suspend(theatre: Theatre, name: str) -> None:
    await theatre.change(name, suspend=True)


async def _resume(theatre: Theatre, name: str) -> None:
    await theatre.change(name, suspend=False)


async def _delete(theatre: Theatre, name: str) -> None:
    await theatre.delete(name)


OPENED = (_open, "Open")
SUSPENDED = (_suspend, "Suspended")
SCENES = (
    Scene("opening", "Open", _open),
    Scene("extending", "Open", _extend, (OPENED,)),
    Scene("ending", "Suspended", _suspend, (OPENED,)),
    Scene("reopening", "Open", _resume, (OPENED, SUSPENDED)),
    Scene("closing", None, _delete, (OPENED,)),
)


@dataclass
class Rehearsal:
    """Plays a scene again and again, with a death after another action each time."""

    theatre: Theatre
    scene: Scene
    names: "count[int]" = field(default_factory=lambda: count(1))

    async def undisturbed(self) -> tuple[list[str], dict[str, Any]]:
        """Play it without a death; return the actions and the picture at the end."""
        name = await self._before()
        self.theatre.actions.done.clear()
        await self.scene.change(self.theatre, name)
        await self._until_settled(name)
        await self._until_quiet()
        done, picture = list(self.theatre.actions.done), await self.theatre.picture(name)
        await self._after(name)
        return done, picture

    async def with_death_after(
        self, number: int, moment: Moment, picture: dict[str, Any]
    ) -> str | None:
        """Play it; return the name of the fatal action, or None when there were not as many actions."""
        theatre = self.theatre
        name = await self._before()
        earlier = await theatre.tunnel(name)
        theatre.actions.die_after(number, moment)
        before = theatre.methods(name)
        await self.scene.change(theatre, name)
        fatal = await self._death_or_end(name)
        if fatal is not None:
            allowed = await self._allowed(name, before, earlier)
            await theatre.start_operator()
            await self._until_picture_is(name, picture, fatal)
            called = theatre.methods(name) - before
            assert called <= allowed, f"after {fatal}: {called} instead of {allowed}"
        await self._after(name)
        return fatal

    async def _before(self) -> str:
        name = f"t{next(self.names)}-{self.scene.name}"
        for do, reason in self.scene.before:
            await do(self.theatre, name)
            await self._until_ready_is(name, reason)
        if self.scene.before:
            await self._until_quiet()
        return name

    async def _after(self, name: str) -> None:
        """Delete the tunnel, and see that nothing of it is left anywhere."""
        if await self.theatre.tunnel(name) is not None:
            await self.theatre.delete(name)

        async def is_all_gone() -> bool:
            left = await self.theatre.tunnel(name), await self.theatre.children()
            return not any(left) and not self.theatre.azure.hybrid_connections()

        await once(is_all_gone, within=WITHIN, what=f"{name} is gone")

    async def _death_or_end(self, name: str) -> str | None:
        theatre = self.theatre

        async def is_over() -> bool:
            return theatre.actions.is_dead or await self._is_settled(name)

        await once(is_over, within=WITHIN, what=f"{name} settles or the operator dies")
        if not theatre.actions.is_dead:
            await self._until_quiet()
        if not theatre.actions.is_dead:
            theatre.actions.live()
            return None
        await theatre.operator.wait()
        return theatre.actions.done[-1]

    async def _allowed(
        self, name: str, before: Counter[str], earlier: dict[str, Any] | None
    ) -> Counter[str]:
        """Return how often each direct method may be called in all, seen from the moment of the death.

        What the device agreed to is not asked again once the status says so, and a device is not told to close
        once its hybrid connection is gone. Before that, nobody knows what the dead one heard.
        """
        theatre = self.theatre
        called = theatre.methods(name) - before
        tunnel = await theatre.tunnel(name)
        if self.scene.ready == "Open":
            is_on_record = _agreed(tunnel) not in (None, _agreed(earlier))
            return Counter(CreateConnection=called["CreateConnection"] + (not is_on_record))
        is_cut_off = not theatre.azure.hybrid_connections()
        return Counter(DeleteConnection=called["DeleteConnection"] + (not is_cut_off))

    async def _until_picture_is(self, name: str, picture: dict[str, Any], fatal: str) -> None:
        seen: dict[str, Any] = {}

        async def is_same() -> bool:
            nonlocal seen
            seen = await self.theatre.picture(name)
            return seen == picture

        try:
            await once(is_same, within=WITHIN, what="")
        except AssertionError:
            raise AssertionError(f"after {fatal} it is\n{seen}\ninstead of\n{picture}") from None

    async def _until_settled(self, name: str) -> None:
        await once(lambda: self._is_settled(name), within=WITHIN, what=f"{name} settles")

    async def _is_settled(self, name: str) -> bool:
        if self.scene.ready is None:
            return await self.theatre.tunnel(name) is None
        return await self._is_ready(name, self.scene.ready)

    async def _until_ready_is(self, name: str, reason: str) -> None:
        await once(lambda: self._is_ready(name, reason), within=WITHIN, what=f"{name} is {reason}")

    async def _is_ready(self, name: str, reason: str) -> bool:
        """Whether Ready has this reason for the spec as it is, and the operator is at work no more."""
        tunnel = await self.theatre.tunnel(name) or {}
        conditions = {c["type"]: c for c in (tunnel.get("status") or {}).get("conditions", ())}
        found = conditions.get("Ready", {})
        is_current = found.get("observedGeneration") == tunnel.get("metadata", {}).get("generation")
        return is_current and found.get("reason") == reason and "Reconciling" not in conditions

    async def _until_quiet(self) -> None:
        actions = self.theatre.actions
        seen = -1
        while seen != len(actions.done) and not actions.is_dead:
            seen = len(actions.done)
            await asyncio.sleep(QUIET)


def _agreed(tunnel: dict[str, Any] | None) -> str | None:
    status = (tunnel or {}).get("status") or {}
    return (status.get("device") or {}).get("revision")


def _intent(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the operator asked for, without what is of one tunnel only."""
    metadata = body["metadata"]
    return {
        "labels": metadata.get("labels"),
        "annotations": sorted(metadata.get("annotations") or ()),
        "owners": [owner["name"] for owner in metadata.get("ownerReferences") or ()],
        "isGoing": "deletionTimestamp" in metadata,
        "ports": (body.get("spec") or {}).get("ports"),
        "containers": [c["name"] for c in (body.get("spec") or {}).get("containers") or ()],
        "files": sorted(body.get("data") or ()),
    }
