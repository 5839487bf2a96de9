"""Notes what kopf's watches hear, by giving kopf a session of our own; kopf tells nobody of bookmarks."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

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
    """Logs kopf in, with sessions that note what they hear."""

    def __init__(self, login: Callable[[], kopf.ConnectionInfo], watches: Watches) -> None:
        self._login = login
        self._watches = watches
        self._given: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None
        self._session: HearingSession | None = None

    async def login(self) -> kopf.AiohttpSession:
        """Return a session for the newest way in, and the same one again while that does not change.

        kopf asks when the API server did not let it in, and gives up if it gets what it had; a new session
        with an old token would seem new to it, and it would try for ever.
        """
        info = self._login()
        if self._given is None or self._given[0] != info:
            await self.close()
            self._session = HearingSession(info, self._watches)
            way_in = kopf.AiohttpSession(
                server=info.server,
                aiohttp_session=self._session,  # type: ignore[arg-type] # has what kopf uses
            )
            self._given = (info, way_in)
        return self._given[1]

    async def close(self) -> None:
        """Close the session for good, which kopf does not if it never used it, or used it until the last."""
        if self._session is not None:
            await self._session.end()


class HearingSession:
    """A session that notes each answer, and each piece of a watch as kopf takes it.

    What is refused counts as heard: kopf gives up by itself over a refusal that lasts. An attempt that gets
    no answer does not count.

    Once closed it opens anew when it is used, as kopf's own ways in do. kopf closes it when it ends, while some
    of its watches go on for a moment; over a session that stays closed they wait for a new login for ever.
    """

    def __init__(self, info: kopf.ConnectionInfo, watches: Watches) -> None:
        self._info = info
        self._watches = watches
        self._current: aiohttp.ClientSession | None = None
        self.closed = False
        """Whether for good."""

    async def request(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        """Send a request as aiohttp's session does."""
        where = urlsplit(url)
        is_watch = "watch" in parse_qs(where.query)
        if is_watch:
            self._watches.asked(where.path)
        answer = await self._open().request(method, url, **options)
        heard = partial(self._watches.heard, where.path)
        heard()
        if is_watch:
            answer.content = _Listened(answer.content, heard)  # type: ignore[assignment]
        return answer

    async def close(self) -> None:
        """Close what is open, for now."""
        if self._current is not None:
            await self._current.close()

    async def end(self) -> None:
        """Close it for good; a request then fails as it does on any closed session."""
        self.closed = True
        await self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open(), name)

    def _open(self) -> aiohttp.ClientSession:
        if self.closed:
            # As aiohttp says it; kopf takes the newest way in then.
            raise RuntimeError("Session is closed")
        if self._current is None or self._current.closed:
            self._current = aiohttp.ClientSession(
                # As kopf's own: each watch holds a connection for as long as it lasts.
                connector=aiohttp.TCPConnector(limit=0, ssl=self._info.as_ssl_context()),
                headers=self._info.as_http_headers(),
                proxy=self._info.proxy_url,
            )
        return self._current


class _Listened:
    """The body of an answer, which tells of each piece that is read of it."""

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
