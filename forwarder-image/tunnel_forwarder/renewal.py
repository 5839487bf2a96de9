"""A listener's token, replaced before it expires by whoever can make another one.

The service closes a control channel when its token expires; streams live on, but for a while nobody
could open another (documentation "Hybrid Connections protocol", renewToken).
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from .backoff import Ladder
from .clock import Clock
from .protocol import sas
from .protocol.errors import ProtocolError
from .protocol.secret import Secret

TokenSource = Callable[[], Awaitable[Secret]]

SHARE = 0.8
"""Of a token's remaining life, after which the next one is asked for."""

UNKNOWN_LIFE = 1800.0
"""Seconds, for a token that does not say in a way we read: Entra's live for an hour or more."""

LOOK_SECONDS = 60.0
"""The longest sleep between two looks at the clock, as the calendar may be set while we sleep."""

RETRY = (1.0, 2.0, 5.0, 10.0, 30.0)


async def keep_renewed(
    token: Secret,
    source: TokenSource,
    renew: Callable[[Secret], None],
    *,
    clock: Clock,
    log: structlog.stdlib.BoundLogger,
) -> None:
    """Hand each new token to `renew` in good time, until cancelled."""
    while True:
        await _sleep_until(clock, clock.now().timestamp() + SHARE * _life(token, clock))
        token = await _another(token, source, log)
        renew(token)
        log.info("token.renewed", seconds=round(_life(token, clock)))


async def _another(token: Secret, source: TokenSource, log: structlog.stdlib.BoundLogger) -> Secret:
    ladder = Ladder(RETRY)
    while True:
        try:
            new = await source()
        except Exception as error:  # noqa: BLE001 - whatever the owner's code may raise
            log.warning("token.unrenewed", message=f"{type(error).__name__}: {error}")
        else:
            if new != token:
                return new
        await asyncio.sleep(ladder.next_delay())


def expiry(token: Secret) -> float | None:
    """Return when a token expires, in seconds since 1970; None when it does not say."""
    try:
        return float(sas.parse(token.reveal()).expires_at)
    except ProtocolError:
        return None


def _life(token: Secret, clock: Clock) -> float:
    expires_at = expiry(token)
    if expires_at is None:
        return UNKNOWN_LIFE
    return max(0.0, expires_at - clock.now().timestamp())


async def _sleep_until(clock: Clock, moment: float) -> None:
    while (left := moment - clock.now().timestamp()) > 0:  # noqa: ASYNC110 - time is waited for
        await asyncio.sleep(min(left, LOOK_SECONDS))
