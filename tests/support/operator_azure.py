"""Azure for the model world: the simulation's own Relay and Resource Manager on the world's clock, and the devices.

A device that was opened is a listener of its hybrid connection there, as one that holds a socket to it would be.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from support.operator_arm import SimulatedArm
from support.operator_cluster import Hook
from tunnel_azure_sim.relay.authorization import Authorizer
from tunnel_azure_sim.relay.errors import Refused
from tunnel_azure_sim.relay.model import HybridConnection, Namespace, Right
from tunnel_forwarder.protocol.method import CloseRequest, ForwardAnswer, OpenAnswer, OpenRequest
from tunnel_forwarder.protocol.urls import RelayEndpoint
from tunnel_operator.adapters.arm_client import make_client_over
from tunnel_operator.adapters.budget import Budget
from tunnel_operator.adapters.calls import Terms
from tunnel_operator.adapters.marks import Mark, read_mark
from tunnel_operator.adapters.relay import ArmRelay
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Device
from tunnel_operator.api.tunnel_class import TunnelClassSpec
from tunnel_operator.core.actions import Ask
from tunnel_operator.errors import Retryable, Terminal

Sleep = Callable[[float], Awaitable[None]]

NAMESPACES = ("clinic-relay", "another-relay")
HOST = "clinic-relay.servicebus.windows.net"
"""Of the class that tests use."""

CLUSTER_ID = "here"


@dataclass(eq=False)
class Listening:
    """A device's part in a hybrid connection. Provides azure_sim's Listener; it ends by being forgotten there.

    `request` is what the device was told; None for one that brings its own credentials.
    """

    device: str
    hybrid_connection: str
    request: OpenRequest | None
    host: str

    def shut(self, code: int, reason: str) -> None:
        """End with the hybrid connection, which holds the only reference to it."""

    def cut(self) -> None:
        """End without a word, likewise."""

    def freeze(self) -> None:
        """Nothing is ever sent here."""

    def offer(self, message: str, body: bytes | None = None) -> bool:
        """Nothing is ever sent here."""
        return True


class ModelAzure:
    """Azure Relay, its management, and which devices can be reached. `calls` counts what the operator asks for."""

    def __init__(self, clock: Callable[[], datetime], hook: Hook, sleep: Sleep) -> None:
        self.hook = hook
        self.online: set[str] = set()
        self.allowed: set[str] | None = None
        self.calls: Counter[str] = Counter()
        self.namespaces = [
            Namespace(name, (f"{name}.servicebus.windows.net",), clock()) for name in NAMESPACES
        ]
        self.arm = SimulatedArm(self.namespaces, clock, hook)
        self._seconds = lambda: clock().timestamp()
        self._sleep = sleep
        self._authorizers = {
            namespace.host_names[0]: Authorizer(namespace, self.arm.tokens, self._seconds)
            for namespace in self.namespaces
        }

    def start_relay(self, may_act: Callable[[], None] = lambda: None) -> ArmRelay:
        """Return the adapter of an operator that has just begun, with the budget that it would have."""
        self.budget = Budget(
            "Azure Resource Manager",
            rate=10,
            burst=200,
            monotonic=self._seconds,
            sleep=self._sleep,
        )
        connect = partial(make_client_over, self.arm.transport, self.arm.credential)
        return ArmRelay(
            connect,
            Terms(self.budget, self._count, may_act),
            cluster_id=CLUSTER_ID,
            monotonic=self._seconds,
        )

    def _count(self, _service: str, verb: str, _code: str, _took: float) -> None:
        self.calls[verb] += 1

    @property
    def outage(self) -> bool:
        """Whether Azure Resource Manager is away."""
        return self.arm.transport.outage

    @outage.setter
    def outage(self, is_away: bool) -> None:
        self.arm.transport.outage = is_away

    @property
    def connections(self) -> dict[str, HybridConnection]:
        """All hybrid connections, which no two namespaces have of one name here."""
        return {n: c for space in self.namespaces for n, c in space.hybrid_connections.items()}

    def places(self) -> set[str]:
        """Return the Relay namespaces that have hybrid connections."""
        return {space.name for space in self.namespaces if space.hybrid_connections}

    def add(self, made: HybridConnection) -> HybridConnection:
        """Let there be what somebody else has made."""
        self.namespaces[0].add(made)
        return made

    def remove(self, *names: str) -> None:
        """Let somebody delete hybrid connections by hand: those of these names, or all."""
        for space in self.namespaces:
            for name in names or tuple(space.hybrid_connections):
                space.remove(name)

    @property
    def listening(self) -> dict[str, OpenRequest | None]:
        """Which devices listen, and what they were told."""
        return {one.device: one.request for _, one in self._listeners()}

    def told(self, device: str) -> OpenRequest | None:
        """Return what a device was told that listens."""
        return next((one.request for _, one in self._listeners() if one.device == device), None)

    def stop_listening(self, *devices: str) -> None:
        """Let devices forget what they listened for: these, or all."""
        for connection, one in list(self._listeners()):
            if not devices or one.device in devices:
                connection.listeners.remove(one)

    def _listeners(self) -> Iterator[tuple[HybridConnection, Listening]]:
        for space in self.namespaces:
            for connection in space.hybrid_connections.values():
                for one in connection.listeners:
                    yield connection, one

    def listen(self, device: str, host: str, name: str, request: OpenRequest | None) -> None:
        """Let a device listen where it was told to, and there alone."""
        found = self._authorizers[host].namespace.get(name)
        assert found is not None
        if request is not None:
            token = request.listen_token.reveal()
            until = self._authorizers[host].check(found, token, Right.LISTEN)
            assert until == int(request.expires_at.timestamp())
            assert self.rights(host, name, token) == {Right.LISTEN}
        self.stop_listening(device)
        found.listeners.append(Listening(device, name, request, host))

    def may_listen(self, host: str, told: OpenRequest) -> bool:
        """Tell whether what a device was told once still lets it listen."""
        token = told.listen_token.reveal()
        return self._gives(host, told.hybrid_connection, token, Right.LISTEN)

    def lets_in(self, host: str, name: str, token: str) -> bool:
        """Tell whether a sender with this token meets a listener."""
        found = self._authorizers[host].namespace.get(name)
        is_met = found is not None and bool(found.listeners)
        return is_met and self._gives(host, name, token, Right.SEND)

    def rights(self, host: str, name: str, token: str) -> set[Right]:
        """Return what a token opens now, by the simulation's own judgement."""
        return {right for right in Right if self._gives(host, name, token, right)}

    def _gives(self, host: str, name: str, token: str, right: Right) -> bool:
        authorizer = self._authorizers[host]
        found = authorizer.namespace.get(name)
        if found is None:
            return False
        try:
            authorizer.check(found, token, right)
        except Refused:
            return False
        return True


def mark_of(found: HybridConnection) -> Mark | None:
    """Return whose mark a hybrid connection bears."""
    return read_mark(found.user_metadata)


@dataclass
class FakeDevices:
    """Direct methods; a device that is not online can not be asked."""

    azure: ModelAzure

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        request = await ask.make()
        self._called("open", device)
        host = RelayEndpoint.parse(klass.relay.endpoint_or_default).host
        if request is None:
            # As the Azure sample's device: it knows where to listen, and says so in its own way.
            self.azure.listen(device.id, host, device.id, None)
            return None
        allowed = self.azure.allowed
        refused = [f.port_name for f in request.forwards if allowed and f.port_name not in allowed]
        if refused:
            raise Terminal(Reason.DEVICE_REFUSED, f"not allowed: {refused}")
        assert request.endpoint.host == host
        self.azure.listen(device.id, host, request.hybrid_connection, request)
        forwards = tuple(ForwardAnswer(f.port_name, allowed=True) for f in request.forwards)
        return OpenAnswer(agent="fake/1", listening=True, forwards=forwards)

    async def close(
        self, klass: TunnelClassSpec, device: Device, request: CloseRequest | None
    ) -> None:
        self._called("close", device)
        self.azure.stop_listening(device.id)

    def _called(self, verb: str, device: Device) -> None:
        self.azure.hook(f"{verb}_device")
        self.azure.calls[f"{verb} {device.id}"] += 1
        if device.id not in self.azure.online:
            raise Retryable(Reason.DEVICE_OFFLINE, f"Device {device.id!r} is not connected.")
