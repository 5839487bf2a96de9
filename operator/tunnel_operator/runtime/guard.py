"""Keeps devices that keep failing from using up the direct methods of all others."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from tunnel_forwarder.protocol.method import CloseRequest, OpenAnswer

from ..api.base import format_time
from ..api.tunnel import Device
from ..api.tunnel_class import TunnelClassSpec
from ..core.actions import Ask
from ..core.breaker import ANSWERS, FAULTS, Breaker, State
from ..errors import Postponed, Retryable, TunnelError
from .ports import Clock, Devices

LOOK_AFTER = timedelta(seconds=10)
"""When the others ask again while one attempt is under way for all of them."""

FORGOTTEN_AFTER = timedelta(hours=1)
"""A breaker that nobody has asked for since is dropped: its tunnels are gone."""

log = structlog.get_logger(__name__)

Address = tuple[str, str]
"""The hub's host and the device's name there."""


class GuardedDevices:
    """Devices, each behind a breaker that all its tunnels share. Provides ports.Devices."""

    def __init__(self, devices: Devices, clock: Clock) -> None:
        self._devices = devices
        self._clock = clock
        self._breakers: dict[Address, Breaker] = {}
        self._seen: dict[Address, datetime] = {}

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        """Ask a device to listen, unless it keeps failing."""
        async with self._guarded(klass, device) as breaker:
            if breaker.failures:
                ask = replace(ask, fault=breaker.reason)
            return await self._devices.open(klass, device, ask)

    async def close(
        self, klass: TunnelClassSpec, device: Device, request: CloseRequest | None
    ) -> None:
        """Ask a device to listen no longer, unless it keeps failing."""
        async with self._guarded(klass, device):
            await self._devices.close(klass, device, request)

    def states(self) -> Mapping[State, int]:
        """Return how many devices that have failed last have their breaker in each state."""
        now = self._clock()
        # A copy at once: metrics are read in another thread.
        return Counter(breaker.state(now) for breaker in list(self._breakers.values()))

    @asynccontextmanager
    async def _guarded(self, klass: TunnelClassSpec, device: Device) -> AsyncIterator[Breaker]:
        address, now = (klass.iot_hub.host_name, str(device)), self._clock()
        breaker = self._breaker(address, now)
        if not breaker.may_ask(now):
            raise _postponed(breaker, now)
        is_probe = breaker.state(now) is State.HALF_OPEN
        self._keep(address, breaker.asked(now))
        try:
            yield breaker
        except TunnelError as error:
            if error.reason in FAULTS and not isinstance(error, Postponed):
                raise self._failed(address, error, is_probe=is_probe) from error
            if error.reason in ANSWERS:
                self._keep(address, Breaker())
            elif is_probe:
                self._keep(address, self._breaker(address, now).unsettled())
            raise
        except BaseException:
            if is_probe:
                self._keep(address, self._breaker(address, now).unsettled())
            raise
        self._keep(address, Breaker())

    def _failed(self, address: Address, error: TunnelError, *, is_probe: bool) -> TunnelError:
        """Record a fault; return what to say of it."""
        now = self._clock()
        before = self._breaker(address, now)
        after = before.failed(now, error.reason, error.message, is_probe=is_probe)
        self._keep(address, after)
        if after.until is None:
            return error
        if before.until is None:
            log.warning("breaker.opened", device=address[1], reason=error.reason)
        return Retryable(
            error.reason, _words(after, now), retry_after=max(after.until - now, timedelta(0))
        )

    def _breaker(self, address: Address, now: datetime) -> Breaker:
        self._seen[address] = now
        return self._breakers.get(address, Breaker())

    def _keep(self, address: Address, breaker: Breaker) -> None:
        if breaker.failures:
            self._breakers[address] = breaker
            self._forget(self._clock() - FORGOTTEN_AFTER)
            return
        known = self._breakers.pop(address, None)
        self._seen.pop(address, None)
        if known is not None and known.until is not None:
            log.info("breaker.closed", device=address[1])

    def _forget(self, before: datetime) -> None:
        for address in [known for known, seen in self._seen.items() if seen < before]:
            self._breakers.pop(address, None)
            del self._seen[address]


def _postponed(breaker: Breaker, now: datetime) -> Postponed:
    until = breaker.until
    wait = LOOK_AFTER if until is None or now >= until else until - now
    return Postponed(breaker.reason, _words(breaker, now), retry_after=wait)


def _words(breaker: Breaker, now: datetime) -> str:
    if breaker.until is None or now >= breaker.until:
        return f"{breaker.message} It keeps failing; one attempt for all its tunnels is under way."
    return (
        f"{breaker.message} It keeps failing, so its breaker is open: the next try is at "
        f"{format_time(breaker.until)}."
    )
