"""The local forwarder as a process: its settings, its lifetime, and the message that it leaves."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from . import health, settings_dir
from .evidence import Evidence
from .lifetime import EndReason, Lifetime
from .local import MAX_STREAMS, LocalForwarder
from .metrics import Gauges, Histogram, exposition
from .protocol.errors import ProtocolError
from .protocol.method import format_time
from .protocol.settings import ForwarderSettings
from .sender import Sender
from .session import Session
from .settings_dir import WATCH_SECONDS, Mounted
from .transport import Dialer, tls_context

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_SECONDS = 5.0
"""The longest sleep between two looks at the clock, as the calendar may be set while we sleep."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command line of `serve`."""

    settings_dir: Path
    health_port: int
    termination_log: Path
    grace: float = 25.0
    max_streams: int = MAX_STREAMS
    max_dials: int = 32
    dial_timeout: float = 20.0
    watch_every: float = WATCH_SECONDS


@dataclass(slots=True, eq=False)
class Serving:
    """One local forwarder from its start to its end."""

    options: ServeOptions
    mounted: Mounted
    session: Session
    sender: Sender = field(init=False)
    forwarder: LocalForwarder = field(init=False)
    _set_up: Histogram = field(default_factory=Histogram)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _terminate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.sender = Sender(
            self.mounted.settings,
            self.mounted.token,
            Dialer(tls_context(self.mounted.authorities), timeout=self.options.dial_timeout),
            Evidence(),
            slots=asyncio.Semaphore(self.options.max_dials),
        )
        self.forwarder = LocalForwarder(
            self.sender,
            self.session,
            set_up=self._set_up,
            max_streams=self.options.max_streams,
        )

    @property
    def settings(self) -> ForwarderSettings:
        """The settings in force."""
        return self.mounted.settings

    @property
    def _lifetime(self) -> Lifetime:
        return Lifetime(self.settings.expires_at, self.settings.idle_seconds)

    def _seconds_to_deadline(self) -> float:
        return Lifetime(self.settings.expires_at).seconds_left(self.session.clock.now(), 0.0)

    async def run(self) -> EndReason:
        """Forward until the deadline, idleness or SIGTERM; return which it was.

        Raises OSError when a port is taken.
        """
        with self._on_sigterm():
            async with (
                self.forwarder.running(),
                health.serving(
                    self.forwarder,
                    port=self.options.health_port,
                    metrics=self.metrics,
                    status=self.status,
                ) as port,
                self._watching(),
            ):
                log.info("forwarder.started", health_port=port, ports=self.forwarder.addresses)
                reason = await self._end()
                self.forwarder.stop_accepting()
                if reason is EndReason.DRAINED:
                    await self._drain()
                self.forwarder.abort(reason.value.lower())
                await self.forwarder.drained()
        return reason

    def metrics(self) -> bytes:
        """Return what /metrics shows."""
        gauges = Gauges(
            warm_connections=len(self.forwarder.pool),
            ready=self.forwarder.ready,
            deadline_seconds=self._seconds_to_deadline(),
        )
        return exposition(self.session, self._set_up, gauges)

    def status(self) -> dict[str, object]:
        """Return what /status shows."""
        return {
            "tunnel": self.settings.tunnel,
            "correlationId": self.settings.correlation_id,
            "ready": self.forwarder.ready,
            "why": self.forwarder.why,
            "expiresAt": format_time(self.settings.expires_at),
            "idleSeconds": self.settings.idle_seconds,
            "idleFor": round(self.session.idle_for, 1),
            "warmConnections": len(self.forwarder.pool),
            "streams": len(self.session.open),
            **self.session.totals(),
            "refusals": {k.value: n for k, n in self.session.refusals.items()},
        }

    async def _end(self) -> EndReason:
        while not self._terminate.is_set():
            now, idle_for = self.session.clock.now(), self.session.idle_for
            reason = self._lifetime.end(now, idle_for)
            if reason is not None:
                return reason
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                left = self._lifetime.seconds_left(now, idle_for)
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._changed.wait()
        return EndReason.DRAINED

    async def _drain(self) -> None:
        log.info("forwarder.draining", streams=len(self.session.open))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.grace):
                await self.forwarder.drained()

    @contextlib.contextmanager
    def _on_sigterm(self) -> Iterator[None]:
        def terminate() -> None:
            self._terminate.set()
            self._changed.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name="watch-settings")
            try:
                yield
            finally:
                watch.cancel()

    async def _watch(self) -> None:
        complaint, seen = None, self.mounted
        while True:
            await asyncio.sleep(self.options.watch_every)
            try:
                mounted = settings_dir.read(self.options.settings_dir)
            except ProtocolError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("settings.unusable", message=complaint)
                continue
            complaint = None
            if mounted != seen:
                seen = mounted
                self._take_up(mounted)

    def _take_up(self, mounted: Mounted) -> None:
        old, new = self.settings, mounted.settings
        taken = replace(old, expires_at=new.expires_at, idle_seconds=new.idle_seconds)
        if taken != new or mounted.authorities != self.mounted.authorities:
            log.warning(
                "settings.ignored",
                message="Only the deadline, the idle time and the token can change while it runs.",
            )
        self.mounted = replace(mounted, settings=taken)
        self.sender.token = mounted.token
        log.info(
            "settings.taken_up",
            expires_at=format_time(taken.expires_at),
            idle_seconds=taken.idle_seconds,
        )
        self._changed.set()
