"""A small world for the operator: an API server, Azure and devices that behave, and a clock that is moved."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from support.operator_azure import FakeDevices, ModelAzure
from support.operator_cluster import FakeCluster, sent
from support.tunnels import IMAGE, NOON, class_body
from tunnel_forwarder.protocol.urls import RelayEndpoint
from tunnel_operator.api.base import format_time
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.api.tunnel_class import TunnelClass
from tunnel_operator.core.notices import Notice
from tunnel_operator.core.observed import Kind
from tunnel_operator.observability.tunnel_metrics import TunnelMetrics
from tunnel_operator.runtime.cache import Cache
from tunnel_operator.runtime.guard import GuardedDevices
from tunnel_operator.runtime.leadership import Leadership
from tunnel_operator.runtime.memory import Memory
from tunnel_operator.runtime.reconciler import Reconciler
from tunnel_operator.runtime.rollout import Rollout
from tunnel_operator.runtime.telling import MeasuredEvents
from tunnel_operator.runtime.world import World

ROUTES = {
    Kind.HTTP_ROUTE: "gateway.networking.k8s.io/v1",
    Kind.TLS_ROUTE: "gateway.networking.k8s.io/v1alpha2",
    Kind.TCP_ROUTE: "gateway.networking.k8s.io/v1alpha2",
}


class Crash(BaseException):
    """The operator's process ends here, as by kill -9."""


def only_crashed(error: BaseException) -> None:
    """Raise what else is in a group of errors: an assertion that failed is no crash."""
    others = error.split(Crash)[1] if isinstance(error, BaseExceptionGroup) else None
    if others is not None:
        raise others from error


class OperatorWorld:
    """All of it, with an operator that can be killed and started again."""

    def __init__(self, *, now: datetime = NOON) -> None:
        self.now = now
        self.crash_at: int | None = None
        self.steps = 0
        self.cluster = FakeCluster(self._clock, self._step)
        self.azure = ModelAzure(self._clock, self._step, self._sleep)
        self.classes = [TunnelClass.from_dict(class_body())]
        self.routes = dict(ROUTES)
        self.told: list[Notice] = []
        self.recheck_at: dict[Key, datetime | None] = {}
        self.missing_images: set[str] = set()
        self.woken: list[Key] = []
        self.is_watch_late = False
        """What people do to Tunnels is brought by `cluster.feed` and not before."""

        self.start_operator()

    def _clock(self) -> datetime:
        return self.now

    async def _sleep(self, seconds: float) -> None:
        """Wait as the operator does for its turn: the time passes for all.

        A wait that is too short for the clock would end before it has, and be begun again for ever.
        """
        self.now += max(timedelta(seconds=seconds), timedelta.resolution)

    def _step(self, _name: str) -> None:
        """Count the operator's writes and calls; crash just before or after the one that is asked for."""
        self.steps += 1
        if self.crash_at is not None and self.steps > self.crash_at:
            raise Crash

    def start_operator(self) -> None:
        """Start a process that remembers nothing."""
        self.cache = Cache(self.routes)
        self.leadership = Leadership(lambda: 0.0)
        self.leadership.grant(1.0)
        self.registry = CollectorRegistry()
        self.rollout = Rollout(self.woken.append)
        for klass in self.classes:
            self.cache.put_class(klass)
        world = World(
            cluster=self.cluster,
            relay=self.azure.start_relay(self.leadership.require),
            devices=GuardedDevices(FakeDevices(self.azure), self._clock),
            events=MeasuredEvents(self, self._clock),
            cache=self.cache,
            memory=Memory(lambda: 0.0),
            leadership=self.leadership,
            recorder=TunnelMetrics(self.registry, self._clock),
            clock=self._clock,
            rollout=self.rollout,
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
        new = sent(body)
        key = Key(new["metadata"]["namespace"], new["metadata"]["name"])
        old = self.cluster.tunnels.get(key)
        if old is not None:
            new["metadata"] = old["metadata"]
            if new["spec"] != old["spec"]:
                new["metadata"]["generation"] += 1
            new["status"] = old.get("status", {})
        self.cluster.tunnels[key] = new
        self._bring(new)
        return key

    def delete(self, key: Key) -> None:
        """Do what `kubectl delete` does."""
        body = self.cluster.tunnels.get(key)
        if body is None:
            return
        if body["metadata"].get("finalizers"):
            body["metadata"]["deletionTimestamp"] = format_time(self.now)
            self._bring(body)
        else:
            del self.cluster.tunnels[key]
            if not self.is_watch_late:
                self.cluster.touch(body)
                meta = body["metadata"]
                self.cache.drop_tunnel(key, meta["uid"], int(meta["resourceVersion"]))
            self.cluster._collect_garbage(body["metadata"]["uid"])

    def _bring(self, body: dict[str, Any]) -> None:
        """Do what the watch does."""
        self.cluster.touch(body)
        if not self.is_watch_late:
            self.cache.put_tunnel(Tunnel.from_dict(body))

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
            self.cache.put_child(sent(body))

    def run_kubelet(self) -> None:
        """Make Pods what the node would: ready when the device listens for the forwarder's own lease."""
        for body in list(self.cluster.children.values()):
            if body["kind"] == "Pod" and "deletionTimestamp" not in body["metadata"]:
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
            host = RelayEndpoint.parse(settings["relay"]["endpoint"]).host
            name = settings["relay"]["hybridConnection"]
            met = self.azure.lets_in(host, name, files["token"])
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
        self.cache.put_child(sent(body))

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
        statuses = [sent(body.get("status")) for body in self.cluster.children.values()]
        return dict(self.cluster.writes), self.azure.listening, statuses

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
        self.now = max(self.now, end)
        self.run_kubelet()

    async def crash_and_recover(self, key: Key, after: int) -> bool:
        """Kill the operator after so many steps, start it again, and settle; return whether it came to that."""
        self.crash_at = self.steps + after
        has_crashed = False
        try:
            await self.settle(key)
        except (Crash, BaseExceptionGroup) as error:
            only_crashed(error)
            has_crashed = True
        self.crash_at = None
        self.start_operator()
        self.run_kubelet()
        await self.settle(key)
        return has_crashed

    def is_bare(self) -> bool:
        """Tell whether nothing of any Tunnel is left, in Azure, on devices and in the cluster."""
        return not (self.azure.connections or self.azure.listening or self.cluster.children)

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
