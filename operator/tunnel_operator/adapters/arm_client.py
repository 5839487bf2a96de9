"""The client of azure-mgmt-relay, made for many calls of one process.

The SDK's own retries are off: up to ten of them hide in one call, POSTs among them, and the queue tries
again with the budget of all tunnels in mind.
"""

from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport
from azure.mgmt.relay.aio import RelayAPIMgmtClient

from ..api.tunnel_class import Relay

API_VERSION = "2024-01-01"
"""Pinned: the SDK's default is newer than what every cloud offers."""

CONNECTIONS = 16
"""How many calls are under way at once; each connection costs asyncio a quarter of a MiB (sslproto.py)."""


def make_client(
    credential: AsyncTokenCredential, relay: Relay, *, authorities: str | None = None
) -> RelayAPIMgmtClient:
    """Return the client for a class's Azure; `authorities` is a file of those to trust instead of the system's.

    Its session does not look at the environment: aiohttp would search that for a proxy, and .netrc for a
    password, in two threads for each request.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    transport = AioHttpTransport(session=session, connection_verify=authorities or True)
    return make_client_over(transport, credential, relay)


def make_client_over(
    transport: AsyncHttpTransport[Any, Any], credential: AsyncTokenCredential, relay: Relay
) -> RelayAPIMgmtClient:
    """Return the client for a class's Azure whose requests go this way."""
    return RelayAPIMgmtClient(
        credential,
        relay.subscription_id,
        base_url=relay.resource_manager_endpoint,
        api_version=API_VERSION,
        credential_scopes=[relay.resource_manager_audience],
        retry_total=0,
        transport=transport,
        proxies=proxies_for(relay.resource_manager_endpoint),
    )


def proxies_for(url: str) -> dict[str, str]:
    """Return the proxy for a URL by its scheme, as HTTPS_PROXY and NO_PROXY have it; empty for none."""
    address = urlsplit(url)
    proxy = getproxies().get(address.scheme)
    if proxy is None or proxy_bypass(address.hostname or ""):
        return {}
    return {address.scheme: proxy}
