"""A bare asynchronous client of the API server: what the bench looks and writes with, and the limit."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tunnel_dev.apiserver import ApiServer

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
TUNNELS = "/apis/tunnels.dev/v1alpha1/tunnels"
_LINE_BYTES = 1 << 22

Body = dict[str, Any]


def namespaced(collection: str, namespace: str) -> str:
    """Return the path of a collection within one namespace."""
    head, _, plural = collection.rpartition("/")
    return f"{head}/namespaces/{namespace}/{plural}"


class Kube:
    """Requests as the cluster's administrator, who is not in the audit log, or with a token."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connected(cls, server: ApiServer, token: str = "") -> AsyncIterator["Kube"]:
        tls = ssl.create_default_context(cafile=str(server.ca))
        if not token:
            tls.load_cert_chain(server.certificate, server.key)
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else None,
            connector=aiohttp.TCPConnector(ssl=tls, limit=256),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=_LINE_BYTES,
        ) as session:
            yield cls(server.url, session)

    async def __call__(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> Body:
        """Return the answer; what is not there is no error, anything else that fails is."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind}
        while True:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers
            ) as answer:
                text = await answer.read()
            if answer.status not in (429, 500, 503, 504):
                break
            # Not served yet, or overloaded: all of these requests may be repeated.
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        if answer.status >= 400 and answer.status != 404:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        result: Body = json.loads(text)
        return result

    async def watch(self, path: str, selector: str = "") -> AsyncIterator[tuple[str, Body]]:
        """Yield what is there, and then every change, for ever."""
        query = f"labelSelector={selector}" if selector else ""
        listed = await self("GET", f"{path}?{query}")
        for item in listed["items"]:
            yield "ADDED", item
        version = listed["metadata"]["resourceVersion"]
        while True:
            url = f"{self._url}{path}?watch=1&resourceVersion={version}&{query}"
            async with self._session.get(url) as stream:
                async for line in stream.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"watch {path}: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]


async def in_parallel(count: int, work: "asyncio.Queue[Any]", do: Any) -> None:
    """Work a queue off by so many at a time, until cancelled."""

    async def one() -> None:
        while True:
            item = await work.get()
            await do(item)
            work.task_done()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
