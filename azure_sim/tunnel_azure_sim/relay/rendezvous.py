"""Senders that wait for a listener: each has an address that is good once, for 30 s."""

import asyncio
import secrets
from collections.abc import Callable
from urllib.parse import quote

from .front import Front
from .head import RelayRequest
from .model import HybridConnection

ASSUMED_NO_ACCEPT_STATUS = 504
"""What a sender gets when the listener does not accept in time; .NET reads 504 as a timeout."""


class Rendezvous:
    """One waiting sender."""

    def __init__(
        self, front: Front, request: RelayRequest, hybrid_connection: HybridConnection
    ) -> None:
        self.front = front
        self.request = request
        self.hybrid_connection = hybrid_connection
        # "If the ID was supplied by the sender client, it is the sender supplied value"; gateways append
        # a part of their own, here the one that can not be guessed: the address is the credential.
        prefix = request.parameters.get("id", secrets.token_hex(8))
        self.id = f"{prefix}_G{secrets.token_hex(16)}"
        self._timer: asyncio.TimerHandle | None = None
        self._left: Callable[[], None] | None = None

    def wait(self, seconds: float, left: Callable[[], None]) -> None:
        """Wait so long at most; `left` is called once, when the waiting is over, however it ended."""
        self._left = left
        self.front.on_lost = self.leave
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(
            seconds, self.refuse, ASSUMED_NO_ACCEPT_STATUS, "No listener accepted in time."
        )

    def address(self, host: str) -> str:
        """Return the address at which a listener that knows us by `host` meets this sender.

        The sender's path with its suffix, and its query but for the relay's own parameters, are in it.
        """
        query = f"sb-hc-action=accept&sb-hc-id={quote(self.id, safe='')}"
        if self.request.user_query:
            query = f"{query}&{self.request.user_query}"
        return f"wss://{host}{self.request.raw_path}?{query}"

    def refuse(self, status: int, sentence: str) -> None:
        """End the waiting with a status for the sender."""
        self.leave()
        self.front.refuse(status, sentence)

    def leave(self) -> None:
        """End the waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left is not None:
            left, self._left = self._left, None
            left()
