"""Azure Relay and the devices behind IoT Hub, for the model world.

They keep the promises of runtime.ports: a hybrid connection has rules and keys, and a device that was opened counts
as a listener.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from support.operator_cluster import Hook
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.method import CloseRequest, ForwardAnswer, OpenAnswer, OpenRequest
from tunnel_forwarder.protocol.secret import Secret
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Device
from tunnel_operator.api.tunnel_class import TunnelClassSpec
from tunnel_operator.core.actions import Ask, EnsureHybridConnection, RetainHybridConnection
from tunnel_operator.core.observed import HybridConnection
from tunnel_operator.core.sweep import Marked
from tunnel_operator.errors import Postponed, Retryable, Terminal


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
