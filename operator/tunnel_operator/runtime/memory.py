"""What one process remembers of its attempts. Losing it costs an early repetition and nothing else."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ..api.keys import Key
from ..api.reasons import Reason
from ..core import backoff
from ..core.looks import Look
from ..core.observed import DeviceAnswer, Failure, HybridConnection, Kind, Step
from ..errors import Postponed, Terminal, TunnelError

POSTPONED_SPREAD = timedelta(seconds=2)

Revision = tuple[Any, ...]
"""What a failure is about: the generations of the Tunnel and of its class."""


@dataclass(frozen=True, slots=True)
class _Hold:
    """Writes in a row of a child that did not stay as it was written, and when to write it again."""

    writes: int
    until: datetime


@dataclass(slots=True)
class _Entry:
    revision: Revision
    failures: dict[Step, Failure] = field(default_factory=dict)
    held: dict[Kind, _Hold] = field(default_factory=dict)
    unsettled: int = 0
    answer: DeviceAnswer | None = None
    is_device_closed: bool = False
    leased_at: datetime | None = None
    announced: datetime | None = None
    look: Look | None = None


class Memory:
    """Failures in a row for each step of each tunnel, and devices' newest answers.

    `jitter` returns a number from 0 up to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._entries: dict[Key, _Entry] = {}

    def failures(self, key: Key, revision: Revision) -> Mapping[Step, Failure]:
        """Return the failures; those of an earlier revision are forgotten, so that a mend acts at once."""
        entry = self._entries.setdefault(key, _Entry(revision))
        if entry.revision != revision:
            entry.revision = revision
            entry.failures.clear()
            entry.held.clear()
        return dict(entry.failures)

    def failure(self, key: Key, step: Step) -> Failure | None:
        """Return the newest failure of one step, whatever it was about."""
        entry = self._entries.get(key)
        return None if entry is None else entry.failures.get(step)

    def fail(self, key: Key, step: Step, error: TunnelError, now: datetime) -> Failure:
        """Record a failed attempt and when to try again."""
        entry = self._entries.setdefault(key, _Entry(()))
        before = entry.failures.get(step)
        attempts = 0 if before is None else before.attempts
        is_terminal, wait = isinstance(error, Terminal), backoff.TERMINAL
        if isinstance(error, Postponed):
            # Not all at once, when what they wait for has come.
            wait = POSTPONED_SPREAD * self._jitter()
            wait += error.retry_after or timedelta(0)
        else:
            attempts += 1
            wait = wait if is_terminal else backoff.delay(attempts, self._jitter())
        failure = Failure(
            reason=error.reason,
            message=error.message,
            attempts=attempts,
            retry_at=now + max(wait, error.retry_after or wait),
            is_terminal=is_terminal,
        )
        entry.failures[step] = failure
        return failure

    def settle(self, key: Key, steps: Iterable[Step]) -> bool:
        """Forget the failures of some steps; return whether there were any."""
        entry = self._entries.get(key)
        known = [] if entry is None else [step for step in steps if step in entry.failures]
        for step in known:
            self.succeed(key, step)
        return bool(known)

    def succeed(self, key: Key, step: Step) -> None:
        """Forget a step's failures."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.failures.pop(step, None)

    def held(self, key: Key) -> Mapping[Kind, datetime]:
        """Return which children did not stay as they were written, and when to write them again."""
        entry = self._entries.get(key)
        held = {} if entry is None else entry.held
        return {kind: hold.until for kind, hold in held.items()}

    def hold(self, key: Key, kind: Kind, now: datetime) -> datetime:
        """Record that a child is not as it was just written; return when to write it again."""
        held = self._entries.setdefault(key, _Entry(())).held
        writes = held[kind].writes + 1 if kind in held else 1
        held[kind] = _Hold(writes, now + backoff.delay(writes, self._jitter(), backoff.TERMINAL))
        return held[kind].until

    def release(self, key: Key, kind: Kind) -> None:
        """Record that a child is as it was written."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.held.pop(kind, None)

    def unsettled(self, key: Key, now: datetime) -> datetime:
        """Record that a pass found no end; return when to begin another."""
        entry = self._entries.setdefault(key, _Entry(()))
        entry.unsettled += 1
        return now + backoff.delay(entry.unsettled, self._jitter(), backoff.TERMINAL)

    def settled(self, key: Key) -> None:
        """Record that a pass left nothing to do."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.unsettled = 0

    def answer(self, key: Key) -> DeviceAnswer | None:
        """Return the device's newest answer in this process."""
        entry = self._entries.get(key)
        return None if entry is None else entry.answer

    def keep_answer(self, key: Key, answer: DeviceAnswer | None) -> None:
        """Record what the device agreed to, or that it holds no longer."""
        entry = self._entries.setdefault(key, _Entry(()))
        entry.answer = answer
        entry.is_device_closed = False

    def is_device_closed(self, key: Key) -> bool:
        """Tell whether the device was told to close, and nothing else since."""
        entry = self._entries.get(key)
        return entry is not None and entry.is_device_closed

    def keep_closed(self, key: Key) -> None:
        """Record that the device was told to close: what it agreed to holds no longer, and it does not listen."""
        self.keep_answer(key, None)
        entry = self._entries[key]
        entry.is_device_closed = True
        if entry.look is not None and isinstance(entry.look.found, HybridConnection):
            found = replace(entry.look.found, listener_count=0)
            entry.look = replace(entry.look, found=found)

    def leased_at(self, key: Key) -> datetime | None:
        """Return when the forwarder's token was last made in this process."""
        entry = self._entries.get(key)
        return None if entry is None else entry.leased_at

    def keep_lease(self, key: Key, at: datetime) -> None:
        """Record when the forwarder's token was made, or that its key is not the same any more."""
        self._entries.setdefault(key, _Entry(())).leased_at = at

    def look(self, key: Key) -> Look | None:
        """Return what was last found in Azure, unless something was done there since."""
        entry = self._entries.get(key)
        return None if entry is None else entry.look

    def keep_look(self, key: Key, look: Look | None) -> None:
        """Record what was found in Azure, or that it is not known any more."""
        self._entries.setdefault(key, _Entry(())).look = look

    @contextmanager
    def changing(self, key: Key) -> Iterator[None]:
        """Forget what was found in Azure, since what a call that fails leaves behind is not known.

        A call that was put off has not been made. To ask anew for its turn would use the turn up.
        """
        look = self.look(key)
        self.keep_look(key, None)
        try:
            yield
        except Postponed:
            self.keep_look(key, look)
            raise

    @contextmanager
    def trusting_the_look(self, key: Key) -> Iterator[None]:
        """Forget what was found in Azure when a rule is missing there that a key is asked for."""
        try:
            yield
        except TunnelError as error:
            if error.reason is Reason.NOT_FOUND:
                self.keep_look(key, None)
            raise

    def announced(self, key: Key) -> datetime | None:
        """Return which end of the tunnel has been announced."""
        entry = self._entries.get(key)
        return None if entry is None else entry.announced

    def keep_announced(self, key: Key, end: datetime | None) -> None:
        """Record that a tunnel's end has been announced."""
        self._entries.setdefault(key, _Entry(())).announced = end

    def forget(self, key: Key) -> None:
        """Forget a tunnel that is gone."""
        self._entries.pop(key, None)
