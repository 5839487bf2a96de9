"""The sender's side of a rendezvous: dial the hybrid connection, ask for a port by name."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from .clock import Clock
from .early import EarlyBytes
from .errors import DialError, Reason, RefusedError
from .evidence import Evidence
from .link import Link
from .protocol import preamble
from .protocol.errors import ProtocolError
from .protocol.preamble import Mode, PortRequest, Refusal, ReplyReader
from .protocol.secret import Secret
from .protocol.settings import ForwarderSettings
from .protocol.urls import connect_url, new_tracking_id
from .renewal import expiry
from .transport import Dialer

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_REFUSALS = {
    Refusal.UNSUPPORTED: (Reason.UNSUPPORTED, "does not know this version of the preamble"),
    Refusal.WANTS_DATAGRAM: (Reason.MODE_MISMATCH, "forwards datagrams under this port name"),
    Refusal.WANTS_STREAM: (Reason.MODE_MISMATCH, "forwards streams under this port name"),
}


@dataclass(slots=True, eq=False)
class Sender:
    """Makes rendezvous with a device's listener, a bounded number at a time, and keeps the evidence."""

    settings: ForwarderSettings
    token: Secret
    dialer: Dialer
    evidence: Evidence
    slots: asyncio.Semaphore
    new_id: Callable[[], str] = new_tracking_id
    clock: Clock = field(default_factory=Clock)

    async def rendezvous(self) -> Link:
        """Return a link that the device's listener has accepted. Raises DialError."""
        link = Link(self.new_id())
        url = connect_url(
            self.settings.endpoint, self.settings.hybrid_connection, tracking_id=link.tracking_id
        )
        try:
            async with self.slots:
                await self.dialer.dial(url, link, token=self.token)
        except DialError as error:
            self._tell_expired(error)
            if self.evidence.refuted(str(error)):
                self._log("path.refuted", reason=error.reason.value, message=str(error))
            raise
        if self.evidence.proven():
            self._log("path.proven")
        return link

    def _tell_expired(self, error: DialError) -> None:
        """Say so when a token that was not accepted has expired."""
        if error.reason is Reason.UNAUTHORIZED:
            expires_at = expiry(self.token)
            if expires_at is not None and expires_at <= self.clock.now().timestamp():
                error.reason = Reason.EXPIRED

    def _log(self, event: str, **facts: str) -> None:
        settings = self.settings
        log.info(event, tunnel=settings.tunnel, correlation_id=settings.correlation_id, **facts)


async def ask_for_port(
    link: Link,
    name: str,
    *,
    mode: Mode = Mode.STREAM,
    within: float = preamble.REPLY_SECONDS,
    early: EarlyBytes | None = None,
) -> None:
    """Send the preamble and wait until it is accepted; the link then carries the stream's bytes.

    The bytes of `early` travel behind it; the wait is then REPLY_SECONDS from their departure on, as there
    is no second attempt. Raises LinkLostError or RefusedError, and the link is then closed.
    """
    loop = asyncio.get_running_loop()
    try:
        for message in PortRequest(name, mode).to_messages():
            link.write(message)
        async with asyncio.timeout(within) as limit:
            with (
                contextlib.nullcontext()
                if early is None
                else early.following(
                    link.write, lambda: limit.reschedule(loop.time() + preamble.REPLY_SECONDS)
                )
            ):
                await _read_reply(link, name, mode)
    except TimeoutError:
        link.abort("no answer to the preamble")
        text = f"The device did not answer for port {name!r} in time."
        raise RefusedError(Reason.NO_REPLY, text) from None
    except BaseException:
        link.close()
        raise


async def _read_reply(link: Link, name: str, mode: Mode) -> None:
    reader = ReplyReader(mode)
    answer = None
    while answer is None:
        data = await link.read()
        if not data:
            raise RefusedError(
                Reason.UNKNOWN_PORT,
                f"The device closed without an answer: it does not forward port {name!r}.",
            )
        try:
            answer = reader.feed(data)
        except ProtocolError as error:
            raise RefusedError(Reason.UNSUPPORTED, str(error)) from None
    refusal, rest = answer
    if refusal is not None:
        reason, text = _REFUSALS[refusal]
        raise RefusedError(reason, f"The device {text} ({name!r}).")
    link.unread(rest)
