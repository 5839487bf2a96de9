"""The simulated Azure for tests of the forwarder and the device: hybrid connections and tokens."""

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tunnel_azure_sim import AzureSim, SimConfig
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import RelayEndpoint


class Azure:
    """A running simulation and shortcuts to it."""

    def __init__(self, sim: AzureSim) -> None:
        self.sim = sim
        (self.relay,) = sim.endpoints.relay
        self.authorities = Path(sim.endpoints.ca_file).read_text()

    @property
    def endpoint(self) -> RelayEndpoint:
        return RelayEndpoint.parse(self.relay.endpoint)

    async def make_hybrid_connection(self, name: str) -> None:
        await self._arm("PUT", name)

    async def delete_hybrid_connection(self, name: str) -> None:
        await self._arm("DELETE", name)

    def token(self, name: str, *, seconds: float = 3600) -> Secret:
        """Sign a token that may do anything with one hybrid connection."""
        text = self.relay.root_connection_string.reveal()
        pairs = dict(part.partition("=")[::2] for part in text.split(";"))
        return sas.sign(
            sas.relay_audience(self.endpoint.host, name),
            key=sas.relay_key(pairs["SharedAccessKey"]),
            rule=pairs["SharedAccessKeyName"],
            expires_at=int(time.time() + seconds),
        )

    async def _arm(self, method: str, name: str) -> None:
        endpoints = self.sim.endpoints
        url = (
            f"{endpoints.arm_base_url}/subscriptions/{endpoints.subscription_id}"
            f"/resourceGroups/{endpoints.resource_group}/providers/Microsoft.Relay"
            f"/namespaces/{self.relay.namespace}/hybridConnections/{name}?api-version=2024-01-01"
        )
        async with (
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self.sim.access_token().reveal()}"}
            ) as http,
            http.request(
                method,
                url,
                json={"properties": {"requiresClientAuthorization": True}},
                ssl=ssl.create_default_context(cadata=self.authorities),
            ) as answer,
        ):
            assert answer.status in (200, 204), await answer.text()


@contextlib.asynccontextmanager
async def simulating(folder: Path, *, address: str, **options) -> AsyncIterator[Azure]:
    async with AzureSim(SimConfig.for_tests(folder, address=address, **options)) as sim:
        yield Azure(sim)
