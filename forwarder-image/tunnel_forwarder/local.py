"""The local forwarder: TCP clients in, the device's listener out."""

import asyncio
import contextlib
import errno
import functools
import itertools
import socket
from collections.abc import AsyncIterator

import structlog
from prometheus_client import Histogram

from . import tcp
from .errors import LinkLostError, Reason, RefusedError, TunnelError
from .link import Link
from .protocol.settings import ListenPort
from .sender import Sender, ask_for_port
from .session import Session
from .stream import Carrier, isolated
from .warm import WarmPool

MAX_STREAMS = 1000

WARM_REPLY_SECONDS = 5.0
"""Less than for a fresh link, whose path has just been proven: this one may have died in silence."""

SET_UP_SECONDS = 45.0
"""For all of it: a warm link that is stale, the wait for a slot, a dial, an answer."""

SHORTAGE_SECONDS = 1.0
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_NEVER_STALE = frozenset({Reason.TARGET_REFUSED, Reason.MODE_MISMATCH, Reason.UNSUPPORTED})
"""Answers that only a live listener gives: a second attempt would hear the same."""


class LocalForwarder:
    """Forwards clients while `running`. A stream is set up in a task of its own, and lives in it."""

    def __init__(
        self,
        sender: Sender,
        session: Session,
        *,
        set_up: Histogram,
        max_streams: int = MAX_STREAMS,
        pool: WarmPool | None = None,
    ) -> None:
        settings = sender.settings
        self.session = session
        if pool is None:  # an empty pool is false
            pool = WarmPool(sender.rendezvous, settings.warm_connections)
        self.pool = pool
        self.addresses: dict[str, int] = {}
        self._sender = sender
        self._ports = settings.ports
        self._set_up = set_up
        self._max_streams = max_streams
        self._carrier = Carrier(session)
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._streams: set[asyncio.Task[None]] = set()
        self._setting_up: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger().bind(
            tunnel=settings.tunnel, correlation_id=settings.correlation_id
        )

    @property
    def ready(self) -> bool:
        """Whether a client that comes now can be expected to reach the device."""
        return bool(self._accepting) and (len(self.pool) > 0 or self._sender.evidence.ready)

    @property
    def why(self) -> str:
        """Why `ready` is as it is, in a sentence."""
        if not self._accepting:
            return "The forwarder takes no clients."
        if len(self.pool) > 0:
            return "A connection to the device's listener stands ready."
        return self._sender.evidence.why

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take clients while the block runs; streams that are open at its end are reset.

        Raises OSError when a port can not be listened on.
        """
        try:
            for port in self._ports:
                sock = tcp.listen(port.listen)
                self._sockets.append(sock)
                self.addresses[port.name] = sock.getsockname()[1]
            async with asyncio.TaskGroup() as tasks:
                background = (
                    tasks.create_task(self.pool.run(), name="warm-pool"),
                    tasks.create_task(self._sender.dialer.keep_alive(), name="keep-alive"),
                )
                for port, sock in zip(self._ports, self._sockets, strict=True):
                    accept = self._accept(port, sock, tasks)
                    self._accepting.append(tasks.create_task(accept, name=f"accept-{port.name}"))
                try:
                    yield
                finally:
                    for task in background:
                        task.cancel()
                    self.stop_accepting()
                    self.abort("the forwarder ended")
        finally:
            for sock in self._sockets:
                sock.close()

    def stop_accepting(self) -> None:
        """Take no further clients."""
        for task in self._accepting:
            task.cancel()
        self._accepting.clear()

    async def drained(self) -> None:
        """Return once no stream is left."""
        while self._streams:
            await asyncio.wait(self._streams)

    def abort(self, reason: str) -> None:
        """Reset all streams, those on their way included."""
        for task in self._setting_up:
            task.cancel()
        self._carrier.abort_all(reason)

    async def _accept(
        self, port: ListenPort, sock: socket.socket, tasks: asyncio.TaskGroup
    ) -> None:
        # Closed here, when nothing waits for it any more: its number may be another file's at once.
        with sock:
            while True:
                client = await self._next_client(sock)
                if len(self._streams) >= self._max_streams:
                    text = f"All {self._max_streams} streams are taken."
                    self._refuse(port, client, RefusedError(Reason.TOO_MANY_STREAMS, text))
                    continue
                task = tasks.create_task(self._serve(port, client), name=f"stream-{port.name}")
                self._streams.add(task)
                self._setting_up.add(task)
                task.add_done_callback(functools.partial(self._ended, client))

    def _ended(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._streams.discard(task)
        self._setting_up.discard(task)
        client.close()  # still open only if the task was cancelled before it began

    async def _next_client(self, sock: socket.socket) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return (await loop.sock_accept(sock))[0]
            except ConnectionAbortedError:  # it left while it waited
                continue
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                self._log.warning("accept.failed", message=str(error))
                await asyncio.sleep(SHORTAGE_SECONDS)

    async def _serve(self, port: ListenPort, client: socket.socket) -> None:
        with isolated(self._log):
            peer = tcp.peer_name(client)
            began = self.session.clock.monotonic()
            try:
                link, warm = await self._link_to(port)
            except TunnelError as error:
                self._refuse(port, client, error)
                return
            except BaseException:
                tcp.reset(client)
                raise
            self._setting_up -= {asyncio.current_task()}
            took = self.session.clock.monotonic() - began
            self._set_up.observe(took)
            log = self._log.bind(
                stream=next(self._numbers),
                rendezvous=link.tracking_id,  # the device's log has it, with a suffix of the relay's
                port=port.name,
                peer=peer,
                warm=warm,
                set_up_seconds=round(took, 4),
            )
            await self._carrier.carry(client, link, log)

    async def _link_to(self, port: ListenPort) -> tuple[Link, bool]:
        """Return a link on which the device has accepted the port, and whether it was a warm one."""
        try:
            async with asyncio.timeout(SET_UP_SECONDS):
                link = self.pool.take()
                if link is not None and await self._is_accepted(link, port):
                    return link, True
                link = await self._sender.rendezvous()
                await ask_for_port(link, port.name)
                return link, False
        except TimeoutError:
            text = f"There was no stream within {SET_UP_SECONDS:g} s."
            raise RefusedError(Reason.DIAL_TIMEOUT, text) from None

    async def _is_accepted(self, link: Link, port: ListenPort) -> bool:
        """Ask on a warm link; False when it turns out to be stale, so that a fresh one may be tried.

        It may have died unnoticed, or in the moment of its use. Another attempt is safe, since no byte of
        the client has been read yet: the worst that the target can see is a connection that is closed at
        once. Raises RefusedError or LinkLostError for answers that only a live listener gives.
        """
        try:
            await ask_for_port(link, port.name, within=WARM_REPLY_SECONDS)
        except (LinkLostError, RefusedError) as error:
            if error.reason in _NEVER_STALE:
                raise
            self._log.debug("warm.stale", port=port.name, reason=error.reason.value)
            return False
        return True

    def _refuse(self, port: ListenPort, client: socket.socket, error: TunnelError) -> None:
        peer = tcp.peer_name(client)
        tcp.reset(client)
        self.session.refusals[error.reason] += 1
        self._log.warning(
            "stream.refused",
            port=port.name,
            peer=peer,
            reason=error.reason.value,
            message=str(error),
        )
