"""The listener's side of a rendezvous: hear which port is wanted, open its target, answer.

The target is opened before the answer. azbridge answers first, so that its peer can not tell a refused
target from an empty answer. On the wire ours is the same: a sender waits for three bytes without a limit
of its own, and gets them, or a Close instead.
"""

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from . import tcp
from .errors import DialError, LinkLostError, Reason
from .link import Link
from .protocol import closing
from .protocol.control import Accept
from .protocol.errors import ProtocolError
from .protocol.preamble import Mode, PortRequest, Refusal, RequestReader, acceptance
from .protocol.urls import reject_url
from .stream import Carrier, isolated
from .transport import Dialer

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a port name leads."""

    host: str
    port: int


def find_target(name: str, targets: Mapping[str, Target]) -> Target | None:
    """Return what a port name leads to.

    As azbridge does (`RemoteForwardBridge.cs`): an exact match, or any integer when there is one target.
    """
    if len(targets) == 1 and _INTEGER.fullmatch(name):
        return next(iter(targets.values()))
    return targets.get(name)


@dataclass(slots=True, eq=False)
class Receiver:
    """Serves senders, each in a call of `serve`; `dials` bounds the rendezvous under way."""

    targets: Mapping[str, Target]
    dialer: Dialer
    dials: asyncio.Semaphore
    carrier: Carrier
    log: structlog.stdlib.BoundLogger
    target_timeout: float = 10.0

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
            target = await self._negotiate(link, log)
        except LinkLostError as error:
            log.debug("stream.none", message=str(error))
            target = None
        except BaseException:
            link.abort("the listener ended")
            raise
        if target is None:
            link.close()
        else:
            name, sock = target
            log = log.bind(port=name, target=tcp.peer_name(sock))
            await self.carrier.carry(sock, link, log)

    async def reject(self, accept: Accept) -> None:
        """Have a sender told at once that there is no room, as it would wait for half a minute."""
        url = reject_url(accept.address, status=503, description="Too many streams")
        try:
            link = await self.dialer.dial(url, Link())
        except DialError as error:  # 410 is the relay's acknowledgement
            self.log.warning("accept.rejected", rendezvous=accept.id, status=error.status)
        else:
            link.abort("rejected")

    async def _negotiate(
        self, link: Link, log: structlog.stdlib.BoundLogger
    ) -> tuple[str, socket.socket] | None:
        """Return the port's name and its open target, once accepted; None when there is no stream.

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
        if request is None:  # a probe, or a warm connection that was not needed
            return None
        log = log.bind(port=request.port_name)
        target = find_target(request.port_name, self.targets)
        if target is None:
            log.warning("stream.refused", reason=Reason.UNKNOWN_PORT.value)
            return None
        if request.mode is not Mode.STREAM:
            link.write(Refusal.WANTS_STREAM.value)
            log.warning("stream.refused", reason=Reason.MODE_MISMATCH.value)
            return None
        try:
            sock = await tcp.connect(target.host, target.port, within=self.target_timeout)
        except OSError as error:
            log.warning(
                "stream.refused",
                reason=Reason.TARGET_REFUSED.value,
                message=f"{target.host}:{target.port} can not be opened: {str(error) or 'timed out'}.",
            )
            link.abort(closing.TARGET_REFUSED)
            return None
        link.write(acceptance(Mode.STREAM))
        return request.port_name, sock


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
