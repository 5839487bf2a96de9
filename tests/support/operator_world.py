"""A small world for the operator: an API server, Azure and devices that behave, and a clock that is moved.

The fakes keep the promises of runtime.ports: applies merge into one object with a uid and a version, deletes
respect uids, a hybrid connection has rules and keys, and a device that was opened counts as a listener.
"""

import base64
import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry

from support.tunnels import IMAGE, NOON, class_body
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.method import CloseRequest, ForwardAnswer, OpenAnswer, OpenRequest
from tunnel_forwarder.protocol.secret import Secret
from tunnel_operator.api.base import format_time
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import FINALIZER, Device, Tunnel, TunnelStatus
from tunnel_operator.api.tunnel_class import TunnelClass, TunnelClassSpec
from tunnel_operator.core.actions import Ask, EnsureHybridConnection, RetainHybridConnection
from tunnel_operator.core.notices import Notice
from tunnel_operator.core.observed import HybridConnection, Kind
from tunnel_operator.core.sweep import Marked
from tunnel_operator.errors import Postponed, Retryable, Terminal
from tunnel_operator.observability.tunnel_metrics import TunnelMetrics
from tunnel_operator.runtime.cache import Cache
from tunnel_operator.runtime.guard import GuardedDevices
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.memory import Memory
from tunnel_operator.runtime.reconciler import Reconciler, World
from tunnel_operator.runtime.rollout import Rollout

ROUTES = {
    Kind.HTTP_ROUTE: "gateway.networking.k8s.io/v1",
    Kind.TLS_ROUTE: "gateway.networking.k8s.io/v1alpha2",
    Kind.TCP_ROUTE: "gateway.networking.k8s.io/v1alpha2",
}

Hook = Callable[[str], None]


class Crash(BaseException):
    """The operator's process ends here, as by kill -9."""


@dataclass
class FakeCluster:
    """The API server's part, without watches: `feed` brings the cache what they would."""

    clock: Callable[[], datetime]
    hook: Hook
    tunnels: dict[Key, dict[str, Any]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    children: dict[tuple[str, Kind, str], dict[str, Any]] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    serial: "count[int]" = field(default_factory=lambda: count(100))

    async def get_tunnel(self, key: Key) -> Tunnel | None:
        body = self.tunnels.get(key)
        return None if body is None else Tunnel.from_dict(copy.deepcopy(body))

    async def apply_status(self, tunnel: Tunnel, status: TunnelStatus) -> Tunnel | None:
        self.hook("apply_status")
        body = self._current(tunnel)
        if body is None:
            return None
        self.writes["status"] += 1
        body["status"] = status.to_dict()
        return Tunnel.from_dict(copy.deepcopy(body))

    async def set_finalizer(self, tunnel: Tunnel, *, present: bool) -> Tunnel | None:
        self.hook("add_finalizer" if present else "remove_finalizer")
        body = self._current(tunnel)
        if body is None:
            return None
        self.writes["finalizer"] += 1
        body["metadata"]["finalizers"] = [FINALIZER] if present else []
        if not present and "deletionTimestamp" in body["metadata"]:
            del self.tunnels[Key(tunnel.metadata.namespace, tunnel.metadata.name)]
            self._collect_garbage(tunnel.metadata.uid)
            return None
        return Tunnel.from_dict(copy.deepcopy(body))

    async def apply(self, manifest: Mapping[str, Any], *, is_known: bool) -> Mapping[str, Any]:
        self.hook(f"apply_{manifest['kind']}")
        metadata = manifest["metadata"]
        where = (metadata["namespace"], Kind(manifest["kind"]), metadata["name"])
        there = self.children.get(where)
        owner = metadata["ownerReferences"][0]["uid"]
        if (
            not is_known
            and there is not None
            and there["metadata"]["ownerReferences"] != (metadata["ownerReferences"])
        ):
            raise Terminal(Reason.NAME_TAKEN, f"{where} is not {owner}'s")
        self.writes[manifest["kind"]] += 1
        body = copy.deepcopy(dict(manifest))
        kept = there["metadata"] if there else {}
        is_changed = there is None or there.get("spec") != body.get("spec")
        body["metadata"] |= {
            "uid": kept.get("uid") or f"child-{next(self.serial)}",
            "generation": kept.get("generation", 0) + is_changed,
            "creationTimestamp": kept.get("creationTimestamp") or format_time(self.clock()),
            "resourceVersion": str(next(self.serial)),
        }
        body["status"] = there.get("status", {}) if there else {}
        self.children[where] = body
        return copy.deepcopy(body)

    async def delete(
        self, namespace: str, kind: Kind, name: str, uid: str
    ) -> Mapping[str, Any] | None:
        self.hook(f"delete_{kind}")
        there = self.children.get((namespace, kind, name))
        if there is not None and there["metadata"]["uid"] == uid:
            self.writes[f"delete {kind}"] += 1
            del self.children[namespace, kind, name]
        return None

    def feed(self, cache: Cache) -> None:
        """Bring the cache up to date, as a fresh listing would."""
        for name, labels in self.namespaces.items():
            cache.put_namespace(name, labels)
        for body in self.tunnels.values():
            cache.put_tunnel(Tunnel.from_dict(body))
        for body in self.children.values():
            cache.put_child(copy.deepcopy(body))

    def child(self, kind: Kind) -> dict[str, Any] | None:
        """Return the one child of a kind."""
        found = [body for (_, k, _), body in self.children.items() if k is kind]
        assert len(found) <= 1
        return found[0] if found else None

    def touch(self, body: dict[str, Any]) -> None:
        """Give a changed object its next version."""
        body["metadata"]["resourceVersion"] = str(next(self.serial))

    def _current(self, tunnel: Tunnel) -> dict[str, Any] | None:
        body = self.tunnels.get(Key(tunnel.metadata.namespace, tunnel.metadata.name))
        return body if body and body["metadata"]["uid"] == tunnel.metadata.uid else None

    def _collect_garbage(self, uid: str) -> None:
        self.children = {
            where: body
            for where, body in self.children.items()
            if body["metadata"]["ownerReferences"][0]["uid"] != uid
        }


@dataclass(frozen=True)
class StockListener:
    """What a device listens for that was told nothing."""

    hybrid_connection: str


@dataclass
class FakeAzure:
    """Azure Relay's management and the devices behind IoT Hub."""

    clock: Callable[[], datetime]
    hook: Hook
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    online: set[str] = field(default_factory=set)
    allowed: set[str] | None = None
    listening: dict[str, OpenRequest | StockListener] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    outage: bool = False
    postponed: Postponed | None = None
    marks: list[Marked] = field(default_factory=list)
    serial: "count[int]" = field(default_factory=lambda: count(1))

    async def observe(
        self, klass: TunnelClassSpec, name: str, *, with_rules: bool
    ) -> HybridConnection | None:
        self._called("observe")
        found = self.connections.get(name)
        place = klass.relay.namespace
        if found is None or found.get("namespace", place) != place:
            return None
        return HybridConnection(
            name=name,
            listener_count=self._listeners(name),
            owner=found.get("owner"),
            owner_name=found.get("owner_name"),
            rules=frozenset(found["rules"]) if with_rules else None,
            is_retained=found.get("is_retained", False),
        )

    def places(self) -> set[str]:
        """Return the Relay namespaces that hybrid connections were made in."""
        return {str(found.get("namespace")) for found in self.connections.values()}

    async def ensure(
        self, klass: TunnelClassSpec, wanted: EnsureHybridConnection
    ) -> HybridConnection | None:
        self._called("ensure")
        new = {"rules": {}, "namespace": klass.relay.namespace}
        found = self.connections.setdefault(wanted.name, new)
        if not wanted.is_borrowed:
            found |= {"owner": wanted.owner, "owner_name": wanted.tunnel, "is_retained": False}
        for rule, right in wanted.rules:
            found["rules"].setdefault(rule, (right, f"key {next(self.serial)} of {rule}"))
        if wanted.is_borrowed:
            return None
        return HybridConnection(
            name=wanted.name,
            listener_count=self._listeners(wanted.name),
            owner=wanted.owner,
            owner_name=wanted.tunnel,
            rules=frozenset(rule for rule, _ in wanted.rules),
        )

    async def delete(self, klass: TunnelClassSpec, name: str) -> None:
        self._called("delete")
        assert self.connections.get(name, {}).get("namespace") in {None, klass.relay.namespace}
        self.connections.pop(name, None)
        for device in [d for d, r in self.listening.items() if r.hybrid_connection == name]:
            del self.listening[device]

    async def retain(self, klass: TunnelClassSpec, wanted: RetainHybridConnection) -> None:
        await self.delete_rules(klass, wanted.name, wanted.rules)
        self._called("retain")
        found = self.connections.setdefault(wanted.name, {"rules": {}})
        found |= {"owner": wanted.owner, "owner_name": wanted.tunnel, "is_retained": True}

    async def marked(self, _: TunnelClassSpec) -> list[Marked]:
        self._called("marked")
        return list(self.marks)

    async def delete_rules(self, _: TunnelClassSpec, name: str, rules: tuple[str, ...]) -> None:
        self._called("delete_rules")
        for rule in rules:
            self.connections[name]["rules"].pop(rule, None)

    async def key(self, _: TunnelClassSpec, name: str, rule: str) -> Secret:
        self._called("key")
        try:
            return Secret(self.connections[name]["rules"][rule][1])
        except KeyError:
            raise Retryable(Reason.NOT_FOUND, "no such rule") from None

    def lets_in(self, name: str, token: str) -> bool:
        """Tell whether a sender with this token meets a listener."""
        found = self.connections.get(name, {"rules": {}})
        parsed = sas.parse(token)
        right, key = found["rules"].get(parsed.rule, ("", ""))
        is_good = right == "Send" and parsed.is_signed_with(key.encode())
        return is_good and self._listeners(name) > 0

    def _listeners(self, name: str) -> int:
        return sum(r.hybrid_connection == name for r in self.listening.values())

    def _called(self, verb: str) -> None:
        self.hook(verb)
        self.calls[verb] += 1
        if self.postponed is not None:
            raise self.postponed
        if self.outage:
            raise Retryable(Reason.UNAVAILABLE, "Azure is down.")


@dataclass
class FakeDevices:
    """Direct methods; a device that is not online can not be asked."""

    azure: FakeAzure

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        request = await ask.make()
        self._called("open", device)
        if request is None:
            # As the Azure sample's device: it knows where to listen, and says so in its own way.
            self.azure.listening[device.id] = StockListener(device.id)
            return None
        allowed = self.azure.allowed
        refused = [f.port_name for f in request.forwards if allowed and f.port_name not in allowed]
        if refused:
            raise Terminal(Reason.DEVICE_REFUSED, f"not allowed: {refused}")
        found = self.azure.connections[request.hybrid_connection]
        token = sas.parse(request.listen_token.reveal())
        right, key = found["rules"][token.rule]
        assert right == "Listen"
        assert token.is_signed_with(key.encode())
        assert token.expires_at == int(request.expires_at.timestamp())
        self.azure.listening[device.id] = request
        forwards = tuple(ForwardAnswer(f.port_name, allowed=True) for f in request.forwards)
        return OpenAnswer(agent="fake/1", listening=True, forwards=forwards)

    async def close(
        self, klass: TunnelClassSpec, device: Device, request: CloseRequest | None
    ) -> None:
        self._called("close", device)
        self.azure.listening.pop(device.id, None)

    def _called(self, verb: str, device: Device) -> None:
        self.azure.hook(f"{verb}_device")
        self.azure.calls[f"{verb} {device.id}"] += 1
        if device.id not in self.azure.online:
            raise Retryable(Reason.DEVICE_OFFLINE, f"Device {device.id!r} is not connected.")


class OperatorWorld:
    """All of it, with an operator that can be killed and started again."""

    def __init__(self, *, now: datetime = NOON) -> None:
        self.now = now
        self.crash_at: int | None = None
        self.steps = 0
        self.cluster = FakeCluster(self._clock, self._step)
        self.azure = FakeAzure(self._clock, self._step)
        self.classes = [TunnelClass.from_dict(class_body())]
        self.routes = dict(ROUTES)
        self.told: list[Notice] = []
        self.recheck_at: dict[Key, datetime | None] = {}
        self.missing_images: set[str] = set()
        self.woken: list[Key] = []
        self.start_operator()

    def _clock(self) -> datetime:
        return self.now

    def _step(self, _name: str) -> None:
        """Count the operator's writes and calls; crash just before or after the one that is asked for."""
        self.steps += 1
        if self.crash_at is not None and self.steps > self.crash_at:
            raise Crash

    def start_operator(self) -> None:
        """Start a process that remembers nothing."""
        self.cache = Cache(self.routes)
        leadership = Leadership(lambda: 0.0)
        leadership.grant(1.0)
        self.registry = CollectorRegistry()
        for klass in self.classes:
            self.cache.put_class(klass)
        world = World(
            cluster=self.cluster,
            relay=self.azure,
            devices=GuardedDevices(FakeDevices(self.azure), self._clock),
            events=self,
            cache=self.cache,
            memory=Memory(lambda: 0.0),
            leadership=leadership,
            recorder=TunnelMetrics(self.registry, self._clock),
            clock=self._clock,
            rollout=Rollout(self.woken.append),
        )
        self.reconciler = Reconciler(
            world, controller_name="tunnels.dev/operator", default_image=IMAGE
        )
        self.cluster.feed(self.cache)

    async def record(self, tunnel: Tunnel, notice: Notice) -> None:
        """Keep what people were told."""
        self.told.append(notice)

    def apply(self, body: Mapping[str, Any]) -> Key:
        """Do what `kubectl apply` does."""
        new = copy.deepcopy(dict(body))
        key = Key(new["metadata"]["namespace"], new["metadata"]["name"])
        old = self.cluster.tunnels.get(key)
        if old is not None:
            new["metadata"] = old["metadata"]
            if new["spec"] != old["spec"]:
                new["metadata"]["generation"] += 1
            new["status"] = old.get("status", {})
        self.cluster.tunnels[key] = new
        self.cache.put_tunnel(Tunnel.from_dict(new))
        return key

    def delete(self, key: Key) -> None:
        """Do what `kubectl delete` does."""
        body = self.cluster.tunnels.get(key)
        if body is None:
            return
        if body["metadata"].get("finalizers"):
            body["metadata"]["deletionTimestamp"] = format_time(self.now)
        else:
            del self.cluster.tunnels[key]
            self.cluster._collect_garbage(body["metadata"]["uid"])

    async def reconcile(self, key: Key) -> datetime | None:
        """Run one pass."""
        self.recheck_at[key] = await self.reconciler.reconcile(key)
        return self.recheck_at[key]

    def run_gateway(self, **refused: str) -> None:
        """Answer all routes, as the controller of their Gateway: yes, but for the conditions that are named."""
        for body in list(self.cluster.children.values()):
            if body["kind"] not in ROUTES:
                continue
            conditions = [
                {
                    "type": kind,
                    "status": "False" if kind in refused else "True",
                    "reason": refused.get(kind, kind),
                    "message": "",
                    "observedGeneration": body["metadata"]["generation"],
                }
                for kind in ("Accepted", "ResolvedRefs")
            ]
            [parent] = body["spec"]["parentRefs"]
            status = {"parents": [{"parentRef": parent, "conditions": conditions}]}
            if body["status"] != status:
                body["status"] = status
                self.cluster.touch(body)
            self.cache.put_child(copy.deepcopy(body))

    def run_kubelet(self) -> None:
        """Make Pods what the node would: ready when the device listens for the forwarder's own lease."""
        for body in list(self.cluster.children.values()):
            if body["kind"] == "Pod":
                self._run_pod(body)

    def _run_pod(self, body: dict[str, Any]) -> None:
        status: dict[str, Any] = body["status"]
        if status.get("phase") not in ("Succeeded", "Failed"):
            metadata = body["metadata"]
            where = (metadata["namespace"], Kind.SECRET, metadata["name"])
            secret = self.cluster.children.get(where)
            if secret is None:
                return
            files = {name: base64.b64decode(data).decode() for name, data in secret["data"].items()}
            settings = json.loads(files["settings.json"])
            met = self.azure.lets_in(settings["relay"]["hybridConnection"], files["token"])
            [container] = body["spec"]["containers"]
            is_there = container["image"] not in self.missing_images
            status = {
                "phase": "Running" if is_there else "Pending",
                "conditions": [
                    {"type": "Ready", "status": "True" if met and is_there else "False"}
                ],
            }
            if not is_there:
                waiting = {"reason": "ImagePullBackOff"}
                status["containerStatuses"] = [{"state": {"waiting": waiting}}]
            if format_time(self.now) >= settings["expiresAt"]:
                status = ended_status("Expired")
        if body["status"] != status:
            body["status"] = status
            self.cluster.touch(body)
        self.cache.put_child(copy.deepcopy(body))

    async def settle(self, key: Key, *, passes: int = 20) -> None:
        """Run passes and the node until neither changes anything."""
        for _ in range(passes):
            before = self._state()
            await self.reconcile(key)
            self.run_kubelet()
            if self._state() == before:
                return
        raise AssertionError("does not settle")

    def _state(self) -> object:
        statuses = [copy.deepcopy(body.get("status")) for body in self.cluster.children.values()]
        return dict(self.cluster.writes), dict(self.azure.listening), statuses

    async def pass_time(self, key: Key, span: timedelta) -> None:
        """Let time pass, with the operator looking whenever it wanted to."""
        end = self.now + span
        while True:
            recheck_at = self.recheck_at.get(key)
            if recheck_at is None or recheck_at > end:
                break
            self.now = max(self.now, recheck_at)
            self.run_kubelet()
            await self.settle(key)
        self.now = end
        self.run_kubelet()

    def tunnel(self, key: Key) -> Tunnel:
        """Return the Tunnel as it is now."""
        return Tunnel.from_dict(self.cluster.tunnels[key])

    def ready(self, key: Key) -> tuple[str, str]:
        """Return status and reason of the condition Ready."""
        condition = self.tunnel(key).status.condition("Ready")
        assert condition is not None
        return condition.status, condition.reason


def ended_status(reason: str, **totals: int) -> dict[str, Any]:
    """Return the status of a Pod whose forwarder has ended with a termination message."""
    message = json.dumps(
        {"reason": reason, "connections": 3, "bytesIn": 10, "bytesOut": 20} | totals
    )
    terminated = {"exitCode": 0, "message": message}
    return {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": terminated}}]}
