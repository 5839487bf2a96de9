"""A client's first bytes, sent right behind the preamble: its answer then takes one round trip, not two.

An azbridge listener reads its preamble in pieces of the right size from a stream (`RemoteForwardBridge.cs`
over relay-dotnet's `WebSocketStream`, whose reads never span two messages), so what follows waits there
for the target.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

from .pump import Chunk
from .tcp import READ_SIZE


class EarlyBytes:
    """At most one read of a bare socket; what comes after it is left to TCP until the device has answered.

    `sent` is how many bytes have travelled. Once there are any, the stream can not be tried on another
    link: nobody can tell whether the target has had them.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sent = 0
        self._socket = sock
        self._failure: OSError | None = None

    @contextlib.contextmanager
    def following(
        self, write: Callable[[Chunk], None], on_sent: Callable[[], None]
    ) -> Iterator[None]:
        """Pass the first bytes to `write` as they come while the block runs, then call `on_sent`."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError as error:  # the system tells it once only
                self._failure, data = error, b""
            loop.remove_reader(self._socket)
            if data:  # an orderly end is told again to whoever reads next
                self.sent = len(data)
                write(data)
                on_sent()

        if not self.sent and self._failure is None:
            loop.add_reader(self._socket, read)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)

    def raise_failure(self) -> None:
        """Raise the OSError that reading met, if it did: the client has reset its connection."""
        if self._failure is not None:
            raise self._failure
