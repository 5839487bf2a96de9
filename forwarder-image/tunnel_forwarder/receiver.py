"""The listener's side of a rendezvous: hear which port is wanted, open its target, answer.

The target is opened before the answer. azbridge answers first, so that its peer can not tell a refused
target from an empty answer. On the wire ours is the same: a sender waits for three bytes without a limit
of its own, and gets them, or a Close instead.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from . import tcp
from .errors import DialError, LinkLostError, Reason
from .link import Link
from .multiplex import MuxSession, MuxStream
from .protocol import closing
from .protocol.control import Accept
from .protocol.errors import ProtocolError
from .protocol.mux import MUX_PORT_NAME
from .protocol.mux_events import RefusalCode
from .protocol.preamble import Mode, PortRequest, Refusal, RequestReader, acceptance
from .protocol.urls import reject_url
from .pump import End
from .stream import Carrier, isolated
from .targets import Target, find_target
from .transport import Dialer

_REFUSALS = {
    Reason.UNKNOWN_PORT: RefusalCode.UNKNOWN_PORT,
    Reason.MODE_MISMATCH: RefusalCode.MODE_MISMATCH,
    Reason.TARGET_REFUSED: RefusalCode.TARGET_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a port that was asked for is not given, in a sentence for the log and the peer."""

    reason: Reason
    text: str


@dataclass(slots=True, eq=False)
class Receiver:
    """Serves senders, each in a call of `serve`; `dials` bounds the rendezvous under way.

    `mux_streams` bounds the streams of one socket that is shared; 0 does not know that mode.
    """

    targets: Mapping[str, Target]
    dialer: Dialer
    dials: asyncio.Semaphore
    carrier: Carrier
    log: structlog.stdlib.BoundLogger
    target_timeout: float = 10.0
    mux_streams: int = 0
    _sessions: set[MuxSession] = field(default_factory=set)

    async def serve(self, accept: Accept) -> None:
        """Meet a sender and carry its stream until that is over."""
        log = self.log.bind(rendezvous=accept.id)
        with isolated(log):
            try:
                async with self.dials:
                    link = await self.dialer.dial(accept.address, Link())
            except DialError as error:
                log.warning("accept.failed", reason=error.reason.value, message=str(error))
            else:
                await self._serve(link, log)

    async def _serve(self, link: Link, log: structlog.stdlib.BoundLogger) -> None:
        try:
            request = await _heard(link, log)
            if request is None:
                link.close()
            elif request.port_name == MUX_PORT_NAME and self.mux_streams:
                link.write(acceptance(Mode.STREAM))
                await self._serve_many(link, log)
            else:
                await self._serve_one(link, request, log.bind(port=request.port_name))
        except LinkLostError as error:
            log.debug("stream.none", message=str(error))
            link.close()
        except BaseException:
            link.abort("the listener ended")
            raise

    async def _serve_one(
        self, link: Link, request: PortRequest, log: structlog.stdlib.BoundLogger
    ) -> None:
        answer = await self._find(request)
        if isinstance(answer, Refused):
            log.warning("stream.refused", reason=answer.reason.value, message=answer.text)
            if answer.reason is Reason.TARGET_REFUSED:
                link.abort(closing.TARGET_REFUSED)
                return
            if answer.reason is Reason.MODE_MISMATCH:
                asked_for_stream = request.mode is Mode.STREAM
                link.write(
                    (Refusal.WANTS_DATAGRAM if asked_for_stream else Refusal.WANTS_STREAM).value
                )
            link.close()
            return
        link.write(acceptance(request.mode))
        await self._carry(answer, request, link, log)

    async def _serve_many(self, link: Link, log: structlog.stdlib.BoundLogger) -> None:
        """Serve the streams of one socket until it is no more."""
        async with asyncio.TaskGroup() as tasks:

            def begin(stream: MuxStream, request: PortRequest) -> None:
                tasks.create_task(self._serve_stream(stream, request, log))

            session = MuxSession(link, max_streams=self.mux_streams, on_open=begin)
            self._sessions.add(session)
            log.info("mux.opened")
            session.start()
            try:
                await session.ended.wait()
            finally:
                self._sessions.discard(session)
                session.close()
        log.info("mux.closed")

    async def _serve_stream(
        self, stream: MuxStream, request: PortRequest, log: structlog.stdlib.BoundLogger
    ) -> None:
        log = log.bind(port=request.port_name, mux_stream=stream.number)
        with isolated(log):
            answer = await self._find(request)
            if isinstance(answer, Refused):
                log.warning("stream.refused", reason=answer.reason.value, message=answer.text)
                stream.refuse(_REFUSALS[answer.reason], answer.text)
                return
            stream.accept()
            await self._carry(answer, request, stream, log)

    async def _carry(
        self,
        sock: socket.socket,
        request: PortRequest,
        far: End,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        log = log.bind(target=tcp.peer_name(sock))
        if request.mode is Mode.DATAGRAM:
            await self.carrier.carry_datagrams(sock, far, log)
        else:
            await self.carrier.carry(sock, far, log)

    async def _find(self, request: PortRequest) -> socket.socket | Refused:
        """Return a connection to what the port's name leads to."""
        target = find_target(request.port_name, self.targets)
        if target is None:
            return Refused(Reason.UNKNOWN_PORT, "No such port is forwarded.")
        if target.mode is not request.mode:
            return Refused(
                Reason.MODE_MISMATCH,
                f"The port forwards {target.mode.name.lower()}s, not {request.mode.name.lower()}s.",
            )
        try:
            return await target.connect(within=self.target_timeout)
        except OSError as error:
            text = f"{target} can not be opened: {str(error) or 'timed out'}."
            return Refused(Reason.TARGET_REFUSED, text)

    async def reject(self, accept: Accept) -> None:
        """Have a sender told at once that there is no room, as it would wait for half a minute."""
        url = reject_url(accept.address, status=503, description="Too many streams")
        try:
            link = await self.dialer.dial(url, Link())
        except DialError as error:  # 410 is the relay's acknowledgement
            self.log.warning("accept.rejected", rendezvous=accept.id, status=error.status)
        else:
            link.abort("rejected")


async def _heard(link: Link, log: structlog.stdlib.BoundLogger) -> PortRequest | None:
    """Return what a sender asks for; None when it leaves without asking, or can not be understood.

    There is no time limit before the preamble: the sender may keep the rendezvous for later.
    """
    link.watch_path(watch=True)
    try:
        request = await _read_request(link)
    except ProtocolError as error:
        link.write(Refusal.UNSUPPORTED.value)
        log.warning("stream.refused", reason=Reason.UNSUPPORTED.value, message=str(error))
        return None
    link.watch_path(watch=False)
    return request


async def _read_request(link: Link) -> PortRequest | None:
    """Return the preamble, or None when the sender leaves without one. What follows it stays unread."""
    reader = RequestReader()
    while data := await link.read():
        answer = reader.feed(data)
        if answer is not None:
            request, rest = answer
            link.unread(rest)
            return request
    return None
