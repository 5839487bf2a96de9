"""The local forwarder: TCP clients in, the device's listener out."""

import asyncio
import contextlib
import errno
import functools
import itertools
import socket
from collections.abc import AsyncIterator

import structlog

from . import tcp, udp
from .early import EarlyBytes
from .errors import LinkLostError, Reason, RefusedError, TunnelError
from .keeper import MuxKeeper
from .link import Link
from .metrics import Histogram
from .protocol.datagram import IDLE_SECONDS
from .protocol.preamble import PortRequest
from .protocol.settings import ListenPort
from .pump import End
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

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        sender: Sender,
        session: Session,
        *,
        set_up: Histogram,
        max_streams: int = MAX_STREAMS,
        pool: WarmPool | None = None,
        udp_idle: float = IDLE_SECONDS,
    ) -> None:
        settings = sender.settings
        self.session = session
        if pool is None:  # an empty pool is false
            pool = WarmPool(sender.rendezvous, settings.warm_connections, settings.warm_most)
        self.pool = pool
        self.mux = MuxKeeper(sender.rendezvous, pool, max_streams) if settings.mux else None
        self.addresses: dict[str, int] = {}
        self._sender = sender
        self._ports = settings.ports
        self._set_up = set_up
        self._max_streams = max_streams
        self._udp_idle = udp_idle
        self._udp: list[asyncio.DatagramTransport] = []
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
        return self._taking and (self._stands_ready or self._sender.evidence.ready)

    @property
    def _taking(self) -> bool:
        return bool(self._accepting or self._udp)

    @property
    def _stands_ready(self) -> bool:
        return len(self.pool) > 0 or (self.mux is not None and self.mux.session is not None)

    @property
    def why(self) -> str:
        """Why `ready` is as it is, in a sentence."""
        if not self._taking:
            return "The forwarder takes no clients."
        if self._stands_ready:
            return "A connection to the device's listener stands ready."
        return self._sender.evidence.why

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take clients while the block runs; streams that are open at its end are reset.

        Raises OSError when a port can not be listened on.
        """
        try:
            for port in self._ports:
                sock = udp.bind(port.listen) if port.is_udp else tcp.listen(port.listen)
                self._sockets.append(sock)
                self.addresses[port.name] = sock.getsockname()[1]
            async with asyncio.TaskGroup() as tasks:
                background = (
                    tasks.create_task((self.mux or self.pool).run(), name="warm"),
                    tasks.create_task(self._sender.dialer.keep_alive(), name="keep-alive"),
                )
                for port, sock in zip(self._ports, self._sockets, strict=True):
                    if port.is_udp:
                        await self._receive(port, sock, tasks)
                        continue
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
        for transport in self._udp:
            transport.close()
        self._udp.clear()

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
                    self._note_refusal(port, tcp.peer_name(client), self._no_room())
                    tcp.reset(client)
                    continue
                task = tasks.create_task(self._serve(port, client), name=f"stream-{port.name}")
                self._streams.add(task)
                self._setting_up.add(task)
                task.add_done_callback(functools.partial(self._ended, client))

    def _ended(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        self._discard(task)
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

    def _discard(self, task: asyncio.Task[None]) -> None:
        self._streams.discard(task)
        self._setting_up.discard(task)

    async def _receive(
        self, port: ListenPort, sock: socket.socket, tasks: asyncio.TaskGroup
    ) -> None:
        """Take datagrams; each source gets a stream of its own."""

        def begin(end: udp.DatagramEnd, peer: str) -> bool:
            if len(self._streams) >= self._max_streams:
                self._note_refusal(port, peer, self._no_room())
                return False
            work = self._serve_datagrams(port, end, peer, protocol)
            task = tasks.create_task(work, name=f"datagrams-{port.name}")
            self._streams.add(task)
            self._setting_up.add(task)
            task.add_done_callback(self._discard)
            return True

        protocol = udp.UdpPort(begin, idle=self._udp_idle)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        self._udp.append(transport)

    async def _serve(self, port: ListenPort, client: socket.socket) -> None:
        with isolated(self._log):
            peer, bare, early = tcp.peer_name(client), True, EarlyBytes(client)
            try:
                async with self._stream_to(port, peer, early) as (far, accepted, log):
                    bare = False
                    await self._carrier.carry(client, far, log, accepted=accepted, early=early)
            except TunnelError as error:
                self._note_refusal(port, peer, error)
            finally:
                if bare:
                    tcp.reset(client)

    async def _serve_datagrams(
        self, port: ListenPort, end: udp.DatagramEnd, peer: str, source: udp.UdpPort
    ) -> None:
        with isolated(self._log):
            try:
                async with self._stream_to(port, peer) as (far, accepted, log):
                    await self._carrier.join(end, far, log, attach=end.begin, accepted=accepted)
            except TunnelError as error:
                self._note_refusal(port, peer, error)
            finally:
                source.forget(end)

    @contextlib.asynccontextmanager
    async def _stream_to(
        self, port: ListenPort, peer: str, early: EarlyBytes | None = None
    ) -> AsyncIterator[tuple[End, asyncio.Future[None] | None, structlog.stdlib.BoundLogger]]:
        """Give the far end of a new stream, what will tell that it is accepted if it is not, and a log."""
        clock = self.session.clock
        began, task = clock.monotonic(), asyncio.current_task()
        log = self._log.bind(stream=next(self._numbers), port=port.name, peer=peer)

        def note(*_: object) -> None:
            self._setting_up.discard(task)
            self._set_up.observe(clock.monotonic() - began)

        shared = self.mux.session if self.mux is not None else None
        if shared is not None and not shared.mux.full:
            stream = shared.open(_request(port))
            stream.accepted.add_done_callback(lambda answer: note() if _is_good(answer) else None)
            log = log.bind(rendezvous=shared.link.tracking_id, mux_stream=stream.number)
            try:
                yield stream, stream.accepted, log
            except RefusedError as error:
                if error.reason is Reason.NO_REPLY:
                    shared.retire()  # it may be half open, which nobody else would notice
                raise
            return
        link, warm = await self._link_to(port, early)
        note()
        # The device's log has the rendezvous too, with a suffix of the relay's.
        took = round(clock.monotonic() - began, 4)
        yield link, None, log.bind(rendezvous=link.tracking_id, warm=warm, set_up_seconds=took)

    async def _link_to(self, port: ListenPort, early: EarlyBytes | None) -> tuple[Link, bool]:
        """Return a link on which the device has accepted the port, and whether it was a warm one."""
        try:
            async with asyncio.timeout(SET_UP_SECONDS):
                link = self.pool.take()
                if link is not None and await self._is_accepted(link, port, early):
                    return link, True
                link = await self._sender.rendezvous()
                await ask_for_port(link, port.name, mode=port.mode, early=early)
                return link, False
        except TimeoutError:
            text = f"There was no stream within {SET_UP_SECONDS:g} s."
            raise RefusedError(Reason.DIAL_TIMEOUT, text) from None

    async def _is_accepted(self, link: Link, port: ListenPort, early: EarlyBytes | None) -> bool:
        """Ask on a warm link; False when it turns out to be stale, so that a fresh one may be tried.

        It may have died unnoticed, or in the moment of its use. Another attempt is safe as long as no byte
        of the client has travelled: the worst that the target can see is a connection that is closed at
        once. Raises RefusedError or LinkLostError when one has, and for answers that only a live listener
        gives.
        """
        wait = WARM_REPLY_SECONDS
        try:
            await ask_for_port(link, port.name, mode=port.mode, within=wait, early=early)
        except (LinkLostError, RefusedError) as error:
            if error.reason is Reason.NO_REPLY:
                self.pool.distrust()
            if error.reason in _NEVER_STALE or (early is not None and early.sent):
                raise
            self._log.debug("warm.stale", port=port.name, reason=error.reason.value)
            return False
        return True

    def _no_room(self) -> RefusedError:
        text = f"All {self._max_streams} streams are taken."
        return RefusedError(Reason.TOO_MANY_STREAMS, text)

    def _note_refusal(self, port: ListenPort, peer: str, error: TunnelError) -> None:
        self.session.refusals[error.reason] += 1
        self._log.warning(
            "stream.refused",
            port=port.name,
            peer=peer,
            reason=error.reason.value,
            message=str(error),
        )


def _request(port: ListenPort) -> PortRequest:
    return PortRequest(port.name, port.mode)


def _is_good(answer: asyncio.Future[None]) -> bool:
    return not answer.cancelled() and answer.exception() is None
