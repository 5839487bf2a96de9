"""How each plane is made from the configuration and started."""

import random
import ssl
from contextlib import AsyncExitStack

from tunnel_forwarder.protocol.urls import RelayEndpoint

from .arm import server as arm_server
from .arm.service import ArmService, NamespaceEntry
from .config import HubConfig, NamespaceConfig, SimConfig
from .hub import server as hub_server
from .hub.authorization import HubAuthorizer
from .hub.broker import Broker
from .hub.methods import Methods
from .hub.model import Hub
from .hub.service import HubService
from .hub.wiring import make_hub
from .identity import server as identity_server
from .identity.assertion import AssertionChecker
from .identity.service import IdentityService
from .identity.tokens import Tokens
from .journal import Journal
from .relay.authorization import Authorizer
from .relay.model import ROOT_RULE, Namespace, Right, Rule
from .relay.server import RelayServer
from .state import KeyStore
from .web import serving


class Planes:
    """Starts each plane on a stack, which stops them in the opposite order."""

    def __init__(
        self,
        config: SimConfig,
        context: ssl.SSLContext,
        tokens: Tokens,
        store: KeyStore,
        journal: Journal,
    ) -> None:
        self._config = config
        self._context = context
        self._tokens = tokens
        self._store = store
        self._journal = journal
        self._rng = random.Random(config.seed)  # noqa: S311 - chooses listeners, keeps no secret

    async def start_identity(self, stack: AsyncExitStack) -> int:
        """Serve the token endpoint; return its port."""
        config = self._config
        service = IdentityService(
            tenant_id=config.tenant_id,
            client_id=config.client_id,
            tokens=self._tokens,
            assertions=AssertionChecker(jwks_file=config.assertion_jwks, clock=config.clock),
            token_seconds=config.timings.access_token,
            clock=config.clock,
        )
        return await stack.enter_async_context(
            serving(
                identity_server.make_handler(service),
                address=config.address,
                port=config.identity_port,
                context=self._context,
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
        server = RelayServer(
            Authorizer(namespace, self._tokens, config.clock),
            config=config,
            rng=self._rng,
            journal=self._journal,
        )
        port = await stack.enter_async_context(
            server.serving(address=config.address, port=entry.port, context=self._context)
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
        return await stack.enter_async_context(
            serving(
                arm_server.make_handler(service, self._tokens, self._journal),
                address=config.address,
                port=config.arm_port,
                context=self._context,
                max_body=arm_server.MAX_BODY,
            )
        )

    async def start_hubs(self, stack: AsyncExitStack) -> list[tuple[Hub, HubConfig, int]]:
        """Serve each hub's REST API and, for all of them, MQTT; return the hubs with their REST ports."""
        config, started, authorizers = self._config, [], []
        for entry in config.hubs:
            hub = make_hub(config, entry, self._store, self._journal.now())
            authorizer = HubAuthorizer(hub, self._tokens, config.clock)
            methods = Methods(hub, self._journal, second=config.timings.method_second)
            service = HubService(hub, authorizer, methods, self._journal.now)
            port = await stack.enter_async_context(
                serving(
                    hub_server.make_handler(service),
                    address=config.address,
                    port=entry.port,
                    context=self._context,
                    max_body=hub_server.MAX_BODY,
                )
            )
            started.append((hub, entry, port))
            authorizers.append(authorizer)
        broker = Broker(authorizers, timings=config.timings, journal=self._journal)
        await stack.enter_async_context(
            broker.serving(address=config.address, port=config.mqtt_port, context=self._context)
        )
        return started

    def _keep_root_key(self, namespace: Namespace, rule: Rule) -> None:
        """Write a namespace's root key down: it is in connection strings that outlive this process."""
        if rule.name == ROOT_RULE:
            self._store.put(_rule_key(namespace.name, ROOT_RULE), rule.keys)


def _rule_key(namespace: str, rule: str) -> str:
    return f"relay/{namespace}/{rule}"
