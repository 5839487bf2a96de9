"""The simulated Azure as a process of its own, with a hybrid connection and tokens for the bench."""

import argparse
import asyncio
import json
import ssl
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import uvloop

from tunnel_azure_sim import AzureSim, SimConfig
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.urls import RelayEndpoint

NAME = "hc"


async def main(folder: Path, address: str, seed: int) -> None:
    """Run for ever; `bench.json` says how it is reached, once it can be."""
    config = SimConfig.for_tests(folder / "azure", address=address)
    async with AzureSim(replace(config, admin_port=0, seed=seed)) as sim:
        await _make_hybrid_connection(sim)
        (relay,) = sim.endpoints.relay
        endpoint = RelayEndpoint.parse(relay.endpoint)
        text = relay.root_connection_string.reveal()
        pairs = dict(part.partition("=")[::2] for part in text.split(";"))
        token = sas.sign(
            sas.relay_audience(endpoint.host, NAME),
            key=sas.relay_key(pairs["SharedAccessKey"]),
            rule=pairs["SharedAccessKeyName"],
            expires_at=int(time.time()) + 86400,
        )
        facts = {
            "port": endpoint.port,
            "token": token.reveal(),
            "ca": str(sim.endpoints.ca_file),
            "admin": sim.endpoints.admin_url,
        }
        (folder / "bench.new").write_text(json.dumps(facts))
        (folder / "bench.new").rename(folder / "bench.json")
        await asyncio.Event().wait()


async def _make_hybrid_connection(sim: AzureSim) -> None:
    endpoints = sim.endpoints
    url = (
        f"{endpoints.arm_base_url}/subscriptions/{endpoints.subscription_id}"
        f"/resourceGroups/{endpoints.resource_group}/providers/Microsoft.Relay"
        f"/namespaces/{endpoints.relay[0].namespace}/hybridConnections/{NAME}"
    )
    tls = ssl.create_default_context(cafile=str(endpoints.ca_file))
    headers = {"Authorization": f"Bearer {sim.access_token().reveal()}"}
    body = {"properties": {"requiresClientAuthorization": True}}
    async with aiohttp.ClientSession(headers=headers) as http:
        params = {"api-version": "2024-01-01"}
        async with http.put(url, params=params, json=body, ssl=tls) as answer:
            answer.raise_for_status()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="relay", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("address")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' chance")
    given = parser.parse_args()
    uvloop.run(main(given.folder, given.address, given.seed))
