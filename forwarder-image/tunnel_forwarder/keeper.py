"""The sockets that a local forwarder keeps ready: one that all streams share, or a pool of warm ones."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from .backoff import Ladder
from .errors import DialError, LinkLostError, Reason, RefusedError
from .link import Link
from .multiplex import MuxSession
from .protocol.mux import MUX_PORT_NAME
from .sender import ask_for_port
from .warm import RETRY, WarmPool

TRY_AGAIN_SECONDS = 600.0
"""Until a device that did not know the mode is asked again; its agent may have been renewed."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True, eq=False)
class MuxKeeper:
    """Keeps a shared socket standing while `run` runs, or `pool` full when the device knows none.

    `session` is the one that takes streams now, if any.
    """

    dial: Callable[[], Awaitable[Link]]
    pool: WarmPool
    max_streams: int = 1000
    retry: Sequence[float] = RETRY
    try_again: float = TRY_AGAIN_SECONDS
    session: MuxSession | None = None
    _old: set[MuxSession] = field(default_factory=set)

    async def run(self) -> None:
        """Keep it standing until cancelled, then close what is left."""
        ladder = Ladder(self.retry)
        try:
            while True:
                try:
                    link = await self.dial()
                    await ask_for_port(link, MUX_PORT_NAME)
                except RefusedError as error:
                    if error.reason is Reason.NO_REPLY:
                        await asyncio.sleep(ladder.next_delay())
                    else:
                        await self._without(str(error))
                except (DialError, LinkLostError):  # whoever dials takes note of it
                    await asyncio.sleep(ladder.next_delay())
                else:
                    ladder.reset()
                    await self._stand(link)
                    await asyncio.sleep(ladder.next_delay())
        finally:
            for session in tuple(self._old):
                session.close()

    async def _stand(self, link: Link) -> None:
        session = self.session = MuxSession(link, max_streams=self.max_streams)
        self._old.add(session)
        link.when_disconnected(lambda: self._old.discard(session))
        session.start()
        log.info("mux.opened", rendezvous=link.tracking_id)
        try:
            await session.retired.wait()
        finally:
            self.session = None
            log.info("mux.closed", rendezvous=link.tracking_id, streams=session.streams)

    async def _without(self, why: str) -> None:
        log.info("mux.unknown", message=f"The device does not share sockets: {why}")
        try:
            async with asyncio.timeout(self.try_again):
                await self.pool.run()
        except TimeoutError:
            return
