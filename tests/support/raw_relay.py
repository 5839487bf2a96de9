"""Listeners and senders of the simulated relay, as the protocol's documentation describes them."""

import asyncio

from support.raw_websocket import DEADLINE, Dialler
from tunnel_azure_sim.relay.model import HybridConnection, Right, Rule
from tunnel_azure_sim.state import KeyPair
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.urls import RelayEndpoint


class Relay(Dialler):
    """The data plane of the namespace `demo`, with the hybrid connection `hc` in it."""

    def __init__(self, sim, context, clock):
        endpoint = RelayEndpoint.parse(sim.endpoints.relay[0].endpoint)
        super().__init__(context, endpoint.host, endpoint.port)
        self.sim, self.clock = sim, clock
        self.namespace = sim._namespace(None)
        self.hc = self.add("hc")

    def add(self, name, **settings):
        now = self.sim._journal.now()
        made = HybridConnection(name, created_at=now, updated_at=now, **settings)
        for right in (Right.LISTEN, Right.SEND):
            made.rules[right.lower()] = Rule(right.lower(), frozenset({right}), KeyPair.generate())
        self.namespace.add(made)
        return made

    def token(self, rule="listen", *, path="hc", audience=None, key=None, expires_at=None, hc=None):
        rules = (hc or self.hc).rules | self.namespace.rules
        key = key or rules[rule.lower()].keys.primary
        return sas.sign(
            audience or f"http://{self.host}/{path}",
            key=sas.relay_key(key.reveal()),
            rule=rule,
            expires_at=expires_at or int(self.clock()) + 600,
        ).reveal()

    async def listen(self, token=None, path="hc"):
        token = token or self.token("listen", path=path)
        return await self.websocket(f"/$hc/{path}?sb-hc-action=listen&sb-hc-id=l", token)

    def dial(self, path="hc", query="", **options):
        """Begin to connect as a sender, which takes until a listener accepts."""
        token = options.pop("token", None) or self.token("send")
        target = f"/$hc/{path}?sb-hc-action=connect&sb-hc-id=s{query}"
        return asyncio.create_task(self.websocket(target, token, **options))

    async def offered(self, control):
        """Return the path and query of the next sender's address."""
        return target_of((await control.receive()).json["accept"]["address"])

    async def accept(self, control, extra="", headers=()):
        return await self.websocket(await self.offered(control) + extra, headers=headers)

    async def pair(self, control=None):
        """Return a joined sender and listener."""
        control = control or await self.listen()
        dialling = self.dial()
        listener = await self.accept(control)
        return await asyncio.wait_for(dialling, DEADLINE), listener


def target_of(address):
    return "/" + address.split("/", 3)[3]
