"""The remote forwarder: a listener on a hybrid connection, and connections to its own targets."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog

from .clock import Clock
from .control import Listener
from .lifetime import EndReason, Lifetime
from .protocol import control
from .protocol.secret import Secret
from .protocol.urls import RelayEndpoint, listen_url, new_tracking_id
from .receiver import Receiver
from .renewal import TokenSource, keep_renewed
from .session import Session
from .stream import Carrier
from .targets import Target
from .transport import Dialer, tls_context

LOOK_SECONDS = 5.0
"""The longest sleep between two looks at the clock, as the calendar may be set while we sleep."""


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """How much a remote forwarder takes on at once, and how long it waits (seconds).

    `streams` counts the rendezvous that wait for a preamble, too; `mux_streams` those of one socket.
    """

    streams: int = 256
    dials: int = 32
    dial_timeout: float = 20.0
    target_timeout: float = 10.0
    mux_streams: int = 512


class RemoteForwarder:
    """Listens while the `async with` block runs, and at most until `expires_at`.

    `token_source` makes another token before one expires; without it, `renew` is the owner's business.
    """

    def __init__(  # noqa: PLR0913 - the facts of one hybrid connection, by name
        self,
        *,
        endpoint: RelayEndpoint,
        hybrid_connection: str,
        token: Secret,
        targets: Mapping[str, Target],
        expires_at: datetime | None = None,
        mux: bool = True,
        token_source: TokenSource | None = None,
        tls: ssl.SSLContext | None = None,
        limits: RemoteLimits | None = None,
        clock: Clock | None = None,
        log: structlog.stdlib.BoundLogger | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.hybrid_connection = hybrid_connection
        self.expires_at = expires_at
        self.session = Session(clock or Clock(), at_device=True)
        self.end_reason: EndReason | None = None
        self._limits = limits or RemoteLimits()
        self._log: structlog.stdlib.BoundLogger = log or structlog.get_logger()
        self._token_source = token_source
        self._dialer = Dialer(tls or tls_context(), timeout=self._limits.dial_timeout)
        self._carrier = Carrier(self.session)
        self._receiver = Receiver(
            dict(targets),
            self._dialer,
            dials=asyncio.Semaphore(self._limits.dials),
            carrier=self._carrier,
            log=self._log,
            target_timeout=self._limits.target_timeout,
            mux_streams=self._limits.mux_streams if mux else 0,
        )
        self._listener = Listener(self._url, token, self._dialer, self._take, log=self._log)
        self._group: asyncio.TaskGroup | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._warned_of_http = False

    async def __aenter__(self) -> Self:
        self._runner = asyncio.create_task(self.run(), name=f"remote-{self.hybrid_connection}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._runner is not None:
            await self._runner

    @property
    def listening(self) -> bool:
        """Whether the control channel is open."""
        return self._listener.listening.is_set()

    @property
    def trouble(self) -> str:
        """Why it was not listening when it last was not, in a sentence."""
        return self._listener.trouble

    async def wait_listening(self) -> None:
        """Return once the control channel is open."""
        await self._listener.listening.wait()

    async def wait_ended(self) -> None:
        """Return once it has ended, by itself or by `stop`."""
        await self._ended.wait()

    async def run(self) -> None:
        """Listen until the deadline or `stop`; `async with` does this in a task of its own."""
        try:
            async with asyncio.TaskGroup() as self._group:
                background = [
                    self._group.create_task(self._listener.run(), name="control-channel"),
                    self._group.create_task(self._dialer.keep_alive(), name="keep-alive"),
                ]
                if self._token_source is not None:
                    renewal = self._keep_renewed(self._token_source)
                    background.append(self._group.create_task(renewal, name="renewal"))
                try:
                    self.end_reason = await self._end()
                finally:
                    self._stopping = True
                    for task in (*background, *self._senders):
                        task.cancel()
            self._log.info("remote.ended", reason=self.end_reason.value)
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Stop listening and reset all streams."""
        self._stopping = True
        self._changed.set()

    def renew(self, token: Secret) -> None:
        """Use a new token; the control channel stays open."""
        self._listener.renew(token)

    def update(self, *, targets: Mapping[str, Target], expires_at: datetime | None) -> None:
        """Use these targets for streams to come, and a new deadline; no stream is dropped."""
        self._receiver.targets = dict(targets)
        self.expires_at = expires_at
        self._changed.set()

    async def _keep_renewed(self, source: TokenSource) -> None:
        await keep_renewed(
            self._listener.token, source, self.renew, clock=self.session.clock, log=self._log
        )

    def _url(self) -> str:
        return listen_url(self.endpoint, self.hybrid_connection, tracking_id=new_tracking_id())

    async def _end(self) -> EndReason:
        clock = self.session.clock
        while not self._stopping:
            left = LOOK_SECONDS
            if self.expires_at is not None:
                lifetime = Lifetime(self.expires_at)
                reason = lifetime.end(clock.now(), 0.0)
                if reason is not None:
                    return reason
                left = min(left, lifetime.seconds_left(clock.now(), 0.0))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
        return EndReason.DRAINED

    def _take(self, message: control.ControlMessage) -> None:
        match message:
            case control.Accept():
                self._meet(message)
            case control.Request() if not self._warned_of_http:
                self._warned_of_http = True
                self._log.warning("http.unserved", message="HTTP over the relay is not served.")
            case _:
                pass

    def _meet(self, accept: control.Accept) -> None:
        if self._group is None or self._stopping:
            return
        limits, taken = self._limits, len(self._senders)
        if not accept.address.startswith("wss://") or taken >= limits.streams + limits.dials:
            # Not to be answered, or no room even to say so: the relay lets the sender down for us.
            self._log.warning("accept.ignored", rendezvous=accept.id, streams=taken)
            return
        meet = self._receiver.serve if taken < limits.streams else self._receiver.reject
        task = self._group.create_task(meet(accept), name=f"sender-{accept.id}")
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)
