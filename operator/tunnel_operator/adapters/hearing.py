"""Notes what kopf's watches hear, by giving kopf a session of our own; kopf tells nobody of bookmarks."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import aiohttp
import kopf
from aiohttp.streams import AsyncStreamIterator


class Watches(Protocol):
    """Keeps when each watch has last brought anything; a path is that of the URL."""

    def asked(self, path: str) -> None:
        """Take that a watch is being opened."""

    def heard(self, path: str) -> None:
        """Take that the API server has sent something."""


class Hearing:
    """Logs kopf in, with a session that notes each answer and each piece of a watch as kopf takes it.

    What is refused counts as heard: kopf gives up by itself over a refusal that lasts. An attempt that gets
    no answer does not count.
    """

    def __init__(self, login: Callable[[], kopf.ConnectionInfo], watches: Watches) -> None:
        self._login = login
        self._watches = watches
        self._given: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None

    def login(self) -> kopf.AiohttpSession:
        """Return a session for the newest way in, and the same one again while that does not change.

        kopf asks when the API server did not let it in, and gives up if it gets what it had; a new session
        with an old token would seem new to it, and it would try for ever.
        """
        info = self._login()
        if self._given is None or self._given[0] != info:
            self._given = (info, self._session(info))
        return self._given[1]

    async def close(self) -> None:
        """Close the session, if kopf has not done so; it closes only what it has used."""
        if self._given is not None:
            await self._given[1].aiohttp_session.close()

    def _session(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._started)
        trace.on_request_end.append(self._answered)
        session = aiohttp.ClientSession(
            # As kopf's own: each watch holds a connection for as long as it lasts.
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            trace_configs=[trace],
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    async def _started(self, _: Any, __: Any, request: aiohttp.TraceRequestStartParams) -> None:
        if "watch" in request.url.query:
            self._watches.asked(request.url.path)

    async def _answered(self, _: Any, __: Any, request: aiohttp.TraceRequestEndParams) -> None:
        path = request.url.path
        self._watches.heard(path)
        if "watch" in request.url.query:
            answer = request.response
            heard = partial(self._watches.heard, path)
            answer.content = _Listened(answer.content, heard)  # type: ignore[assignment]


class _Listened:
    """The body of an answer, which tells of each piece that is read of it.

    aiohttp's own tracing tells of no piece of a body that is read while it comes.
    """

    def __init__(self, content: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._content = content
        self._heard = heard

    def iter_chunked(self, size: int) -> AsyncStreamIterator[bytes]:
        """Read as kopf reads a watch."""
        return AsyncStreamIterator(partial(self._read, size))

    async def _read(self, size: int) -> bytes:
        data = await self._content.read(size)
        self._heard()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)
