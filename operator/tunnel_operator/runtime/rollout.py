"""Whose turn it is to have a working forwarder replaced. Lost at a restart, which lets a few more begin."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..api.keys import Key
from ..core.rollout import AT_ONCE, PATIENCE, Stage


@dataclass(slots=True)
class _Turn:
    group: str
    until: datetime


def _nobody(_: Key) -> None:
    """Wake nobody: a tunnel that waits looks again by itself, later."""


class Rollout:
    """Hands out turns, a few at a time for each group of tunnels: those of one class.

    A turn ends when the forwarder works again, or its device has kept it waiting for long. One that is broken
    keeps its turn: a class with a bad image takes a few tunnels down, and not all.
    """

    def __init__(self, wake: Callable[[Key], None] = _nobody) -> None:
        self._wake = wake
        self._turns: dict[Key, _Turn] = {}
        self._waiting: dict[Key, str] = {}

    @property
    def waiting(self) -> int:
        """How many tunnels wait for a turn."""
        return len(self._waiting)

    def has_turn(self, key: Key, group: str, now: datetime) -> bool:
        """Tell whether a tunnel's forwarder may be replaced now."""
        taken = [k for k, turn in self._turns.items() if turn.group == group and now < turn.until]
        return key in taken or len(taken) < AT_ONCE

    def follow(self, key: Key, group: str, stage: Stage | None, now: datetime) -> None:
        """Take where a tunnel is now; None when it is not open."""
        self._waiting.pop(key, None)
        turn = self._turns.get(key)
        match stage:
            case Stage.WAITS:
                self._waiting[key] = group
            case Stage.BEGINS:
                self._turns[key] = _Turn(group, now + PATIENCE)
            case Stage.BROKEN if turn is not None:
                turn.until = now + PATIENCE
            case Stage.UNDER_WAY if turn is not None and now < turn.until:
                pass
            case _:
                self._end(key)

    def forget(self, key: Key) -> None:
        """Take it that a tunnel is gone."""
        self._waiting.pop(key, None)
        self._end(key)

    def _end(self, key: Key) -> None:
        turn = self._turns.pop(key, None)
        if turn is None:
            return
        following = next((k for k, group in self._waiting.items() if group == turn.group), None)
        if following is not None:
            del self._waiting[following]
            self._wake(following)
