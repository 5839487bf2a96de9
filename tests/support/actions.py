"""The operator's actions as they come to the servers, and a death for it after any one of them."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

Result = TypeVar("Result")

PATIENCE = 0.5
"""Seconds without a further request after which the operator counts as done with what it last heard."""


class Moment(StrEnum):
    """When the operator dies: before it hears how its action went, or when it goes on to the next."""

    UNHEARD = "unheard"
    HEARD = "heard"


@dataclass
class Actions:
    """All actions of one process, one at a time: so the one after which it dies is the same each time."""

    kill: Callable[[], None]
    done: list[str] = field(default_factory=list)
    _at: int | None = None
    _moment: Moment = Moment.UNHEARD
    _is_doomed: bool = False
    _dead: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def die_after(self, number: int, moment: Moment) -> None:
        """Let the process die after this many actions from now on, counted from 1."""
        self.done.clear()
        self._at, self._moment = number, moment

    def live(self) -> None:
        """Let the next process live."""
        self._at, self._is_doomed = None, False
        self._dead = asyncio.Event()

    @property
    def is_dead(self) -> bool:
        """Whether the process has been killed since the last `live`."""
        return self._dead.is_set()

    @contextlib.asynccontextmanager
    async def heard(self, name: str | None) -> AsyncIterator[None]:
        """Stand between a request and its answer; `name` is None for one that changes nothing.

        What is sent on inside never comes from a dead process, and its answer never gets to one.
        """
        if name is None:
            self._die_if_doomed()
            yield
            self._drop_if_dead()
            return
        async with self._turn:
            self._die_if_doomed()
            yield
            self.done.append(name)
            if len(self.done) == self._at:
                self._reach()
        self._drop_if_dead()

    def _reach(self) -> None:
        if self._moment is Moment.UNHEARD:
            self._die()
            return
        self._is_doomed = True
        asyncio.get_running_loop().call_later(PATIENCE, self._die_quietly)

    def _die_quietly(self) -> None:
        if self._is_doomed and not self.is_dead:
            self._die()

    def _die_if_doomed(self) -> None:
        if self._is_doomed and not self.is_dead:
            self._die()
        self._drop_if_dead()

    def _drop_if_dead(self) -> None:
        if self.is_dead:
            raise ConnectionResetError("the process is dead")

    def _die(self) -> None:
        self._dead.set()
        self.kill()


async def once(check: Callable[[], Awaitable[Result]], *, within: float, what: str) -> Result:
    """Return what a coroutine function returns as soon as it is true; fail after the deadline."""
    result = await check()
    deadline = asyncio.get_running_loop().time() + within
    while not result:
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.05)
        result = await check()
    return result


def kubernetes_action(method: str, path: str, _body: bytes) -> str | None:
    """Name a write to the API server; the lead and reads are no actions."""
    if method == "GET" or "/leases" in path:
        return None
    parts = re.sub(r".*/namespaces/[^/]+/", "", path).split("/")
    resource = "/".join((parts[0], *parts[2:]))
    return f"{method} {resource}"


def arm_action(method: str, path: str, _body: bytes) -> str | None:
    """Name a call to Azure Resource Manager that is more than a look."""
    if method == "GET":
        return None
    parts = path.split("/hybridConnections/", 1)[1].split("/")
    return f"{method} {'/'.join(('hybridConnections', *parts[1::2]))}"


def hub_action(method: str, path: str, body: bytes) -> str | None:
    """Name a direct method."""
    if method != "POST" or not path.endswith("/methods"):
        return None
    return str(json.loads(body)["methodName"])
