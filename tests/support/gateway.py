"""A reverse proxy before one HTTPS server, which knows of each request before and after it is answered."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from support.actions import Actions

Naming = Callable[[str, str, bytes], str | None]
"""From method, path and body to the name of an action; None when nothing is changed."""

_OF_ONE_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Upgrade")


@dataclass(frozen=True)
class Gateway:
    """Passes everything on to `upstream`, watches among it."""

    upstream: str
    trust: ssl.SSLContext
    actions: Actions
    naming: Naming

    @contextlib.asynccontextmanager
    async def serving(self, certificate: ssl.SSLContext) -> AsyncIterator[int]:
        """Serve on loopback; yields the port."""
        connector = aiohttp.TCPConnector(ssl=self.trust, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._pass_on(session, request)

            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{tail:.*}", handle)
            runner = web.AppRunner(
                app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
            )
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate).start()
                yield runner.addresses[0][1]
            finally:
                await runner.cleanup()

    async def _pass_on(
        self, session: aiohttp.ClientSession, request: web.Request
    ) -> web.StreamResponse:
        body = await request.read()
        name = self.naming(request.method, request.path, body)
        try:
            if "watch" in request.query:
                return await self._stream(session, request)
            async with self.actions.heard(name):
                async with self._sent(session, request, body) as answer:
                    data = await answer.read()
                return web.Response(
                    status=answer.status, headers=_end_to_end(answer.headers), body=data
                )
        except (ConnectionError, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.abort()
            raise

    async def _stream(
        self, session: aiohttp.ClientSession, request: web.Request
    ) -> web.StreamResponse:
        async with self._sent(session, request, b"") as answer:
            reply = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            await reply.prepare(request)
            async for chunk in answer.content.iter_any():
                await reply.write(chunk)
        return reply

    def _sent(
        self, session: aiohttp.ClientSession, request: web.Request, body: bytes
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = _end_to_end(request.headers)
        headers.popall("Host", None)
        url = URL(self.upstream + request.raw_path, encoded=True)
        return session.request(request.method, url, headers=headers, data=body or None)


def _end_to_end(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in _OF_ONE_HOP:
        kept.popall(name, None)
    return kept
