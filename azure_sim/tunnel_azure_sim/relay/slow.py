"""What comes in on a stream's socket, late or slowly, when a test wants it so."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from picows import WSFrame, WSMsgType


@dataclass(frozen=True, slots=True)
class HeldFrame:
    """A copy of a frame, with as much of a frame's manners as a stream's side needs."""

    msg_type: WSMsgType
    fin: bool
    rsv1: bool
    rsv2: bool
    rsv3: bool
    payload: bytes = field(repr=False)
    close_code: int
    close_message: bytes | None

    @classmethod
    def of(cls, frame: WSFrame) -> "HeldFrame":
        """Copy a frame, which is good only while it is being taken."""
        is_close = frame.msg_type == WSMsgType.CLOSE
        return cls(
            frame.msg_type,
            frame.fin,
            frame.rsv1,
            frame.rsv2,
            frame.rsv3,
            frame.get_payload_as_bytes(),
            int(frame.get_close_code()) if is_close else 0,  # type: ignore[call-overload]
            frame.get_close_message() if is_close else None,
        )

    @property
    def payload_size(self) -> int:
        """How many bytes the payload has."""
        return len(self.payload)

    def get_payload_as_bytes(self) -> bytes:
        """Return the payload."""
        return self.payload

    def get_payload_as_memoryview(self) -> memoryview:
        """Return the payload."""
        return memoryview(self.payload)

    def get_close_code(self) -> int:
        """Return a Close frame's code, 0 when it has none."""
        return self.close_code

    def get_close_message(self) -> bytes | None:
        """Return a Close frame's reason."""
        return self.close_message


class SlowPath:
    """Holds frames until they are due; the order stays. With a rate, reading pauses in between."""

    MAX_HELD = 1024 * 1024
    """Bytes; beyond, reading pauses until there is room again."""

    def __init__(
        self,
        take: Callable[[HeldFrame], None],
        *,
        delay: Callable[[], float],
        reading: Callable[[], None],
    ) -> None:
        self._take = take
        self._delay = delay
        self.rate: int | None = None
        """Bytes read each second; None for as many as there are."""

        self._reading = reading
        """Called when whether to read may have changed; asks `holds_reading`."""

        self._held: deque[tuple[float, HeldFrame | Callable[[], None]]] = deque()
        self._size = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def holds_reading(self) -> bool:
        """Whether the socket is not to be read for the moment."""
        return self._size > self.MAX_HELD or self._free_at > self._loop.time()

    def hold(self, frame: WSFrame) -> None:
        """Take a frame later."""
        held = HeldFrame.of(frame)
        self._size += held.payload_size
        self._add(held)
        if self.rate is not None:
            now = self._loop.time()
            self._free_at = max(self._free_at, now) + held.payload_size / self.rate
            self._loop.call_at(self._free_at, self._reading)
        self._reading()

    def then(self, call: Callable[[], None]) -> None:
        """Call when everything that came before has been taken."""
        if self._held:
            self._add(call)
        else:
            call()

    def _add(self, what: HeldFrame | Callable[[], None]) -> None:
        due = self._loop.time() + self._delay()
        self._held.append((max(due, self._held[-1][0] if self._held else 0.0), what))
        self._wait()

    def _wait(self) -> None:
        if self._timer is None and self._held:
            self._timer = self._loop.call_at(self._held[0][0], self._release)

    def _release(self) -> None:
        self._timer = None
        _, what = self._held.popleft()
        if isinstance(what, HeldFrame):
            self._size -= what.payload_size
            self._take(what)
            self._reading()
        else:
            what()
        self._wait()
