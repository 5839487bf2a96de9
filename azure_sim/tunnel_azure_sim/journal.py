"""What clients asked the simulation to do, for tests and for whoever debugs; and a way to wait for it."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .config import Clock

KEPT = 10_000
"""Older calls are forgotten, so that a long demo does not fill the memory."""

_RETRY_SECONDS = 0.02
_HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class ArmCall:
    """One request to ARM: what, to which kind of resource, and how it was answered."""

    method: str
    kind: str
    path: str
    status: int
    at: datetime


@dataclass(frozen=True, slots=True)
class MethodCall:
    """One direct method call as the hub got it. Tokens in `payload` are replaced by "(hidden)".

    `status` is the device's answer; None while it is awaited, and when the hub itself answered with
    the error `error` (a code such as 404103).
    """

    hub: str
    device: str
    module: str | None
    method: str
    payload: Any
    at: datetime
    status: int | None = None
    error: int | None = None


class Journal:
    """Records calls, and wakes those who wait for something to become true."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self.arm_calls: deque[ArmCall] = deque(maxlen=KEPT)
        self.method_calls: deque[MethodCall] = deque(maxlen=KEPT)
        self._arm_counts: Counter[str] = Counter()

    def now(self) -> datetime:
        """Return the simulation's time."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def record_arm(self, call: ArmCall) -> None:
        """Add a call to ARM."""
        self.arm_calls.append(call)
        self._arm_counts[call.method] += 1
        self.changed()

    def record_method(self, call: MethodCall) -> None:
        """Add a direct method call."""
        self.method_calls.append(call)
        self.changed()

    def replace_method(self, old: MethodCall, new: MethodCall) -> None:
        """Put a call's outcome in place of the call, unless it is forgotten already."""
        for index in range(len(self.method_calls) - 1, -1, -1):
            if self.method_calls[index] is old:
                self.method_calls[index] = new
                break
        self.changed()

    def arm_counts(self) -> Mapping[str, int]:
        """Return how many requests came to ARM, by verb, those that are forgotten among them."""
        return Counter(self._arm_counts)

    def forget(self) -> None:
        """Begin anew."""
        self.arm_calls.clear()
        self._arm_counts.clear()
        self.method_calls.clear()
        self.changed()

    def changed(self) -> None:
        """Wake those in `until`; called after each change that a test may wait for."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool], *, timeout: float) -> None:  # noqa: ASYNC109 - the deadline is the point
        """Return as soon as the condition holds. Raises TimeoutError when it does not in time.

        A condition may look at more than the simulation, so it is tried again and again without a change.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _RETRY_SECONDS)


def without_tokens(value: Any) -> Any:
    """Return a copy of a JSON value in which no token or key can be read."""
    match value:
        case dict():
            return {
                name: _HIDDEN if _is_secret_name(name) else without_tokens(part)
                for name, part in value.items()
            }
        case list():
            return [without_tokens(part) for part in value]
        case str() if "SharedAccess" in value:
            return _HIDDEN
        case _:
            return value


def _is_secret_name(name: str) -> bool:
    return name.lower().endswith(("token", "key", "secret", "password", "connectionstring"))
