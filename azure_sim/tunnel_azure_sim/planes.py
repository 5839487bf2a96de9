"""How each plane is made from the configuration and started."""

import random
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tunnel_forwarder.protocol.urls import RelayEndpoint

from .arm import server as arm_server
from .arm.plane import ArmPlane, Gate
from .arm.service import ArmService, NamespaceEntry
from .arm.throttle import Throttle
from .config import HubConfig, NamespaceConfig, SimConfig
from .doors import Doors
from .faults import Faults, Plane
from .hub import server as hub_server
from .hub.authorization import HubAuthorizer
from .hub.broker import Broker
from .hub.device_tls import device_context
from .hub.methods import Methods
from .hub.model import Hub
from .hub.service import HubService
from .hub.websocket import make_websocket_handler
from .hub.wiring import make_hub
from .identity import server as identity_server
from .identity.tokens import Tokens
from .identity.wiring import make_identity
from .journal import Journal
from .relay.authorization import Authorizer
from .relay.model import ROOT_RULE, Namespace, Right, Rule
from .relay.server import RelayServer
from .snapshot import Snapshot
from .state import KeyStore
from .tls import server_files
from .web import HttpPlanes, with_faults, with_saving


@dataclass(frozen=True, slots=True)
class Shared:
    """What all planes have in common."""

    context: ssl.SSLContext
    tokens: Tokens
    store: KeyStore
    journal: Journal
    doors: Doors
    snapshot: Snapshot
    save: Callable[[], None]
    """Writes down what clients made; called before a change is answered."""

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose."""
        return self.doors.faults


class Planes:
    """Starts each plane on a stack, which stops them in the opposite order."""

    def __init__(self, config: SimConfig, shared: Shared) -> None:
        self._config = config
        self._context = shared.context
        self._tokens = shared.tokens
        self._store = shared.store
        self._journal = shared.journal
        self._faults = shared.faults
        self._doors = shared.doors
        self._snapshot = shared.snapshot
        self._save = shared.save
        self._http = HttpPlanes(config.address, shared.context, shared.doors)
        self._rng = random.Random(config.seed)  # noqa: S311 - chooses listeners, keeps no secret

    async def start_identity(self, stack: AsyncExitStack) -> int:
        """Serve the token endpoint; return its port."""
        config = self._config
        service = make_identity(config, self._tokens, self._store)
        return await stack.enter_async_context(
            self._http.serving(
                Plane.IDENTITY,
                identity_server.make_handler(service),
                port=config.identity_port,
                max_body=identity_server.MAX_BODY,
            )
        )

    async def start_relay(self, stack: AsyncExitStack, entry: NamespaceConfig) -> NamespaceEntry:
        """Serve one namespace's data plane."""
        config = self._config
        keys = self._store.get_or_create(_rule_key(entry.name, ROOT_RULE))
        namespace = Namespace(
            entry.name,
            config.relay_names(entry.name),
            created_at=self._journal.now(),
            rules={ROOT_RULE.lower(): Rule(ROOT_RULE, frozenset(Right), keys)},
        )
        self._snapshot.restore_namespace(namespace)
        server = RelayServer(
            Authorizer(namespace, self._tokens, config.clock),
            config=config,
            rng=self._rng,
            journal=self._journal,
            faults=self._faults,
        )
        port = await stack.enter_async_context(
            server.serving(entry.port, self._context, self._doors)
        )
        return NamespaceEntry(namespace, str(RelayEndpoint(config.address, port)))

    async def start_arm(self, stack: AsyncExitStack, entries: list[NamespaceEntry]) -> int:
        """Serve ARM for the namespaces; return its port."""
        config = self._config
        service = ArmService(
            subscription=config.subscription_id,
            group=config.resource_group,
            entries=entries,
            page_size=config.arm_page_size,
            keys_changed=self._keep_root_key,
        )
        throttle = Throttle(config.clock) if config.arm_throttling else None
        gate = Gate(self._tokens, self._faults, throttle)
        plane = ArmPlane(service, gate, self._journal)
        return await stack.enter_async_context(
            self._http.serving(
                Plane.ARM,
                with_saving(arm_server.make_handler(plane), self._save),
                port=config.arm_port,
                max_body=arm_server.MAX_BODY,
            )
        )

    async def start_hubs(self, stack: AsyncExitStack) -> list[tuple[Hub, HubConfig, int]]:
        """Serve each hub's REST API and, for all of them, MQTT; return the hubs with their REST ports."""
        config, started = self._config, []
        hubs = [make_hub(config, entry, self._store, self._journal.now()) for entry in config.hubs]
        for hub in hubs:
            self._snapshot.restore_hub(hub)
            hub.save = self._save
        authorizers = [HubAuthorizer(hub, self._tokens, config.clock) for hub in hubs]
        broker = Broker(
            authorizers, timings=config.timings, journal=self._journal, faults=self._faults
        )
        for entry, hub, authorizer in zip(config.hubs, hubs, authorizers, strict=True):
            methods = Methods(
                hub, self._journal, second=config.timings.method_second, faults=self._faults
            )
            service = HubService(hub, authorizer, methods, self._journal.now)
            websocket = make_websocket_handler(broker.make_session, close=config.timings.close)
            websocket = with_faults(websocket, Plane.MQTT, self._faults)
            port = await stack.enter_async_context(
                self._http.serving(
                    Plane.HUB,
                    with_saving(hub_server.make_handler(service, websocket), self._save),
                    port=entry.port,
                    max_body=hub_server.MAX_BODY,
                )
            )
            started.append((hub, entry, port))
        await stack.enter_async_context(
            broker.serving(
                config.address,
                config.mqtt_port,
                device_context(*server_files(config.state_dir)),
                self._doors,
            )
        )
        return started

    def _keep_root_key(self, namespace: Namespace, rule: Rule) -> None:
        """Write a namespace's root key down: it is in connection strings that outlive this process."""
        if rule.name == ROOT_RULE:
            self._store.put(_rule_key(namespace.name, ROOT_RULE), rule.keys)


def _rule_key(namespace: str, rule: str) -> str:
    return f"relay/{namespace}/{rule}"
