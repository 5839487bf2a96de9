"""A listener's control channel, kept open for as long as it is wanted."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from picows import WSFrame, WSMsgType, WSTransport

from .backoff import Ladder
from .errors import DialError
from .link import Ending
from .protocol import closing, control
from .protocol.errors import ProtocolError
from .protocol.secret import Secret
from .transport import Dialer, WebSocket

MAX_MESSAGE = 256 * 1024
"""Bytes. Headers above 32 kB do not come in a message (documentation "Hybrid Connections protocol")."""

STABLE_SECONDS = 10.0
"""A channel that stood for less counts as one more failure: a relay that accepts and hangs up at once
must not be dialled in a tight loop."""


class ControlChannel(WebSocket):
    """A WebSocket that hands over whole text messages; binary ones (HTTP bodies) are dropped."""

    def __init__(self, on_text: Callable[[bytes], None]) -> None:
        super().__init__()
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._on_text = on_text
        self._message = bytearray()
        self._kind = WSMsgType.TEXT

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Put messages together and pass them on (called by picows)."""
        if frame.msg_type == WSMsgType.CLOSE:
            self._end(Ending(*closing.parse(frame.get_payload_as_bytes())))
            self.disconnect(within=1.0)
            return
        if frame.msg_type not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            return
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._kind = frame.msg_type
            self._message.clear()
        if self._kind == WSMsgType.BINARY:
            return
        self._message += frame.get_payload_as_memoryview()
        if len(self._message) > MAX_MESSAGE:
            self._end(Ending(closing.ABRUPT, "a control message was too long"))
            transport.disconnect(graceful=False)
        elif frame.fin:
            text = bytes(self._message)
            self._message.clear()
            self._on_text(text)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note that the channel is no more (called by picows)."""
        super().on_ws_disconnected(transport)
        self._end(Ending(closing.ABRUPT))

    def send_text(self, text: str) -> None:
        """Send a message."""
        if self._transport is not None and self.connected:
            self._transport.send(WSMsgType.TEXT, text.encode())

    def close(self) -> None:
        """Close in order."""
        self.send_close()
        self.disconnect(within=1.0)

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)


@dataclass(slots=True, eq=False)
class Listener:
    """Dials a hybrid connection as its listener, again and again, until `run` is cancelled.

    A 404 is retried as well: relay-dotnet gives up for good then, and is deaf when the hybrid connection
    is made again.
    """

    url: Callable[[], str]
    token: Secret
    dialer: Dialer
    on_message: Callable[[control.ControlMessage], None]
    log: structlog.stdlib.BoundLogger
    ladder: Ladder = field(default_factory=Ladder)
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: str = "The control channel has not been opened yet."
    _channel: ControlChannel | None = None
    _renewed: asyncio.Event = field(default_factory=asyncio.Event)

    def renew(self, token: Secret) -> None:
        """Use this token from now on; an open channel hands it in and stays open."""
        self.token = token
        self._renewed.set()
        if self._channel is not None:
            self._channel.send_text(control.RenewToken(token).to_json())

    async def run(self) -> None:
        """Keep the channel open until cancelled, then close it."""
        loop = asyncio.get_running_loop()
        while True:
            channel = ControlChannel(self._take)
            self._renewed.clear()
            try:
                await self.dialer.dial(self.url(), channel, token=self.token)
            except DialError as error:
                self.trouble = str(error)
                self.log.warning(
                    "control.dial_failed", reason=error.reason.value, message=str(error)
                )
            else:
                opened = loop.time()
                await self._stand(channel)
                if loop.time() - opened >= STABLE_SECONDS:
                    self.ladder.reset()
            await self._pause(self.ladder.next_delay())

    async def _stand(self, channel: ControlChannel) -> None:
        channel.watch_path(watch=True)
        self._channel = channel
        self.listening.set()
        self.log.info("control.opened")
        try:
            ending = await channel.ended
        finally:
            self._channel = None
            self.listening.clear()
            channel.close()
        self.trouble = f"The control channel ended: {ending}."
        self.log.warning("control.ended", message=str(ending))

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, but not once a new token is there to be tried."""
        try:
            async with asyncio.timeout(seconds):
                await self._renewed.wait()
        except TimeoutError:
            return

    def _take(self, text: bytes) -> None:
        try:
            message = control.parse(text)
        except ProtocolError as error:
            self.log.warning("control.unreadable", message=str(error))
            return
        if message is not None:
            self.on_message(message)
