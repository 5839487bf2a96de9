"""The composition root: configuration in, running planes out."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from tunnel_forwarder.protocol.secret import Secret

from . import admin, tls
from .actions import Target, slow_down_live_streams, sockets
from .arm.rendering import connection_string
from .arm.service import NamespaceEntry
from .config import SimConfig
from .doors import Doors
from .endpoints import ENDPOINTS_FILE, Endpoints, HubEndpoint, RelayNamespaceEndpoint
from .errors import ConfigError
from .faults import Fault, Faults, Outage, Plane
from .hub.model import Hub
from .hub.wiring import (
    device_connection_string,
    hub_endpoint,
    policy_connection_string,
    reset_hub,
)
from .identity.assertion import make_assertion
from .identity.managed import PATH as MANAGED_PATH
from .identity.tokens import Tokens, load_or_create_key
from .identity.wiring import client_secret, managed_identity_header
from .journal import ArmCall, Journal, MethodCall
from .planes import Planes, Shared
from .relay.model import ROOT_RULE, Namespace
from .snapshot import Snapshot
from .state import KeyStore, write_atomically
from .views import DeviceView, HybridConnectionView, view_device, view_hybrid_connection
from .web import authority

_log = structlog.get_logger(__name__)


class AzureSim:
    """A running simulated Azure: `async with AzureSim(config) as sim`.

    Everything listens inside the block, and `endpoints` says where. What clients did can be read from
    `arm_calls`, `method_calls`, `hybrid_connections` and `device`, and waited for with `until`.
    """

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._journal = Journal(config.clock)
        self.faults = Faults(config.seed)
        """What goes wrong on purpose; nothing at first."""

        self._doors = Doors(self.faults)
        self._stack = AsyncExitStack()
        self._namespaces: dict[str, Namespace] = {}
        self._hubs: dict[str, Hub] = {}
        self._store: KeyStore | None = None
        self._snapshot = Snapshot(None)
        self._tokens: Tokens | None = None
        self._endpoints: Endpoints | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What waits for a silent plane would hold up the stop.
        self.faults.clear()
        self.faults.go_on()
        await self._stack.aclose()

    @property
    def endpoints(self) -> Endpoints:
        """Where everything answers. Raises RuntimeError before the start."""
        if self._endpoints is None:
            raise RuntimeError("The simulation does not run.")
        return self._endpoints

    @property
    def arm_calls(self) -> tuple[ArmCall, ...]:
        """The requests that came to ARM, oldest first."""
        return tuple(self._journal.arm_calls)

    def arm_counts(self) -> Mapping[str, int]:
        """Return how many requests came to ARM, by verb."""
        return self._journal.arm_counts()

    @property
    def method_calls(self) -> tuple[MethodCall, ...]:
        """The direct method calls that came to the hubs, oldest first, without the tokens in them."""
        return tuple(self._journal.method_calls)

    def hybrid_connections(self, namespace: str | None = None) -> dict[str, HybridConnectionView]:
        """Return the hybrid connections by name, of one namespace or of the first."""
        found = self._namespace(namespace)
        return {
            one.name: view_hybrid_connection(found.name, one)
            for one in found.hybrid_connections.values()
        }

    def listeners(self, name: str, namespace: str | None = None) -> int:
        """Return how many listeners a hybrid connection has; 0 when it is not there."""
        found = self._namespace(namespace).get(name)
        return 0 if found is None else len(found.listeners)

    def device(self, identity: str, hub: str | None = None) -> DeviceView:
        """Return a device, or the module `device/module`, of one hub or of the first."""
        found = self._hub(hub)
        return view_device(found.name, found.existing(identity))

    async def until(self, condition: Callable[[], bool], *, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - the deadline is the point
        """Return as soon as a condition on this object holds. Raises TimeoutError when it does not."""
        await self._journal.until(condition, timeout=timeout)

    def access_token(self, audience: str = "https://management.azure.com") -> Secret:
        """Return an access token as the identity plane would issue it, for tests that need no plane."""
        if self._tokens is None:
            raise RuntimeError("The simulation does not run.")
        return Secret(
            self._tokens.issue(
                audience,
                subject=self._config.client_id,
                seconds=self._config.timings.access_token,
            )
        )

    def assertion(self, subject: str = "system:serviceaccount:tunnels:tunnel-operator") -> Secret:
        """Return the content for AZURE_FEDERATED_TOKEN_FILE, good for an hour, when no JWKS is set."""
        expires_at = int(self._config.clock()) + 3600
        return Secret(make_assertion(subject=subject, expires_at=expires_at))

    def policy_connection_string(self, policy: str, hub: str | None = None) -> Secret:
        """Return the connection string of a hub's policy, such as `iothubowner`."""
        found = self._hub(hub)
        port = int(self._hub_endpoint(found.name).host_name.rpartition(":")[2])
        return policy_connection_string(self._config, found, policy, port)

    def device_connection_string(self, identity: str, hub: str | None = None) -> Secret:
        """Return the connection string of any registered device, or of the module `device/module`."""
        return device_connection_string(self._config, self._hub(hub), identity)

    def all_hybrid_connections(self) -> list[HybridConnectionView]:
        """Return the hybrid connections of all namespaces."""
        return [
            view_hybrid_connection(namespace.name, one)
            for namespace in self._namespaces.values()
            for one in namespace.hybrid_connections.values()
        ]

    def all_devices(self) -> list[DeviceView]:
        """Return the devices and modules of all hubs."""
        return [
            view_device(hub.name, identity)
            for hub in self._hubs.values()
            for identity in hub.identities.values()
        ]

    @property
    def faults_in_force(self) -> tuple[Fault, ...]:
        """What goes wrong on purpose."""
        return self.faults.in_force()

    async def inject(self, fault: Fault) -> None:
        """Put a fault in force, for what is open already too. Raises ConfigError for what can not be."""
        if isinstance(fault, Outage) and fault.plane is Plane.RELAY_DATA:
            raise ConfigError(
                "Streams have no port of their own; drop them, or let the relay be out."
            )
        self.faults.add(fault)
        await self._obey_faults()

    async def heal(self) -> None:
        """Take all faults out; sockets that are half open stay so."""
        self.faults.clear()
        await self._obey_faults()

    def drop(
        self,
        target: Target,
        *,
        hybrid_connection: str | None = None,
        half_open: bool = False,
    ) -> int:
        """Lose sockets of one hybrid connection or of all, or leave them half open; return how many."""
        found = sockets(self._namespaces.values(), target, hybrid_connection)
        for socket in found:
            if half_open:
                socket.freeze()
            else:
                socket.cut()
        return len(found)

    async def reset(self) -> None:
        """Bring everything back to the start; keys that connection strings hold stay good."""
        await self.heal()
        if self._store is None:
            raise RuntimeError("The simulation does not run.")
        for namespace in self._namespaces.values():
            for name in tuple(namespace.hybrid_connections):
                for socket in sockets([namespace], Target.ALL, name):
                    socket.cut()
                namespace.remove(name)
            root = namespace.rules[ROOT_RULE.lower()]
            namespace.rules = {ROOT_RULE.lower(): root}
            namespace.network_rules = {}
        for hub in self._hubs.values():
            reset_hub(self._config, hub, self._store, self._journal.now())
        self._save()
        self._journal.forget()

    async def _obey_faults(self) -> None:
        slow_down_live_streams(self._namespaces.values(), self.faults)
        await self._doors.obey()
        self.faults.go_on()

    def _save(self) -> None:
        self._snapshot.save(self._namespaces.values(), self._hubs.values())

    async def _start_admin(self, stack: AsyncExitStack) -> str | None:
        config = self._config
        if config.admin_port is None:
            return None
        port = await stack.enter_async_context(
            admin.serving(self, address=config.address, port=config.admin_port)
        )
        return f"http://{authority(config.address, port)}"

    def _namespace(self, name: str | None) -> Namespace:
        return self._namespaces[name or self._config.relay_namespaces[0].name]

    def _hub(self, name: str | None) -> Hub:
        return self._hubs[name or self._config.hubs[0].name]

    def _hub_endpoint(self, name: str) -> HubEndpoint:
        return next(hub for hub in self.endpoints.hubs if hub.name == name)

    async def _start(self, stack: AsyncExitStack) -> None:
        config = self._config
        directory = config.state_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ready_file = directory / ENDPOINTS_FILE
        ready_file.unlink(missing_ok=True)
        # The certificate is judged by the clients' clock, not by one that a test made up.
        context = tls.server_context(directory, config.certificate_names(), datetime.now(UTC))
        tokens = self._tokens = Tokens(
            load_or_create_key(directory), tenant_id=config.tenant_id, clock=config.clock
        )
        store = self._store = KeyStore(directory)
        snapshot = self._snapshot = Snapshot(directory if config.keep_state else None)
        planes = Planes(
            config, Shared(context, tokens, store, self._journal, self._doors, snapshot, self._save)
        )
        identity_port = await planes.start_identity(stack)
        relay = [await planes.start_relay(stack, one) for one in config.relay_namespaces]
        self._namespaces = {entry.namespace.name: entry.namespace for entry in relay}
        arm_port = await planes.start_arm(stack, relay)
        hubs = await planes.start_hubs(stack)
        self._hubs = {hub.name: hub for hub, _, _ in hubs}
        admin_url = await self._start_admin(stack)
        identity_url = f"https://{authority(config.address, identity_port)}"
        self._endpoints = Endpoints(
            ca_file=directory.absolute() / tls.CA_FILE,
            authority_host=identity_url,
            tenant_id=config.tenant_id,
            client_id=config.client_id,
            client_secret=client_secret(store),
            managed_identity_endpoint=f"{identity_url}{MANAGED_PATH}",
            managed_identity_header=managed_identity_header(store),
            arm_base_url=f"https://{authority(config.address, arm_port)}",
            subscription_id=config.subscription_id,
            resource_group=config.resource_group,
            relay=tuple(_relay_endpoint(entry) for entry in relay),
            hubs=tuple(hub_endpoint(config, hub, entry.devices, port) for hub, entry, port in hubs),
            admin_url=admin_url,
        )
        self._publish(ready_file, stack)

    def _publish(self, ready_file: Path, stack: AsyncExitStack) -> None:
        """Tell clients where everything is: the file's presence means that it listens."""
        write_atomically(ready_file, self.endpoints.to_json())
        stack.callback(ready_file.unlink, missing_ok=True)
        _log.info("sim.ready", endpoints=str(ready_file.absolute()))


def _relay_endpoint(entry: NamespaceEntry) -> RelayNamespaceEndpoint:
    root = entry.namespace.rules[ROOT_RULE.lower()]
    return RelayNamespaceEndpoint(
        entry.namespace.name,
        entry.endpoint,
        connection_string(entry.endpoint, root.name, root.keys.primary, None),
    )
