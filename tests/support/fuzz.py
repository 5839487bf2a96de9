"""Many cases of malformed input: how they are counted, and what may come back from a peer."""

import functools
import inspect
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

DEADLINE = 5.0
"""Seconds after which a peer that neither answers nor closes counts as hanging."""

PATIENCE = 0.01
"""Seconds that an answer may take before our side ends, which is soon, since most cases get none."""

# aiohttp takes a request line without a version, and answers it as one of HTTP/0.9.
_HEAD = re.compile(rb"HTTP/(?:1\.[01]|0\.9) ([1-5][0-9]{2}) ")
_INSIDE = (b"Traceback", b'.py"', b"Error: ", b"raise ")


@dataclass
class Figures:
    """How much was tried. The memory is this process's, simulation and all."""

    cases: int = 0
    seconds: float = 0.0
    rss_before: int = 0
    rss_after: int = 0
    files: set[str] = field(default_factory=set)


FIGURES = Figures()


def fuzz(number: int, **strategies: SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Run a test for so many cases, and count them."""

    def decorate(test: Callable[..., None]) -> Any:
        FIGURES.files.add(Path(inspect.getfile(test)).name)

        @functools.wraps(test)
        def counted(*arguments: Any, **values: Any) -> None:
            FIGURES.cases += 1
            began = time.perf_counter()
            try:
                test(*arguments, **values)
            finally:
                FIGURES.seconds += time.perf_counter() - began

        # What a slow machine takes longer for is no finding; a peer that hangs has its own deadline.
        quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
        return settings(
            max_examples=number, deadline=None, database=None, suppress_health_check=quiet
        )(given(**strategies)(counted))

    return decorate


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("there is no VmRSS")


class Peer:
    """A TLS connection that sends anything, and reads until the other side ends."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self._raw = socket.create_connection(address, timeout=DEADLINE)
        try:
            self._tls = context.wrap_socket(self._raw, server_hostname=address[0])
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tls.close()

    def send(self, data: bytes) -> None:
        """Send; a peer that has closed already is no failure."""
        try:
            self._tls.sendall(data)
        except (ConnectionError, ssl.SSLError):
            return

    def read_head(self) -> bytes:
        """Return what came up to and with the first empty line."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += self.read(1)
        return data

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        data = b""
        while len(data) < size:
            part = self._tls.recv(size - len(data))
            assert part, data
            data += part
        return data

    def finish(self, *, patience: float = PATIENCE) -> bytes:
        """Return what comes for a while, and then, having ended our side, until the other one ends."""
        received = bytearray()
        self._tls.settimeout(patience)
        is_ended = False
        while True:
            try:
                part = self._tls.recv(65536)
            except TimeoutError:
                assert not is_ended, f"it hangs, after {bytes(received[:200])!r}"
                # TCP's end alone: unwrap() would wait for the peer's.
                socket.socket.shutdown(self._tls, socket.SHUT_WR)
                self._tls.settimeout(DEADLINE)
                is_ended = True
            except (OSError, ssl.SSLError):
                return bytes(received)
            else:
                if not part:
                    return bytes(received)
                received += part
                assert len(received) < 1 << 20, "the answer is without end"


def check_http(answer: bytes) -> int | None:
    """Return the status of an HTTP answer, None when there is none; it must show nothing of the inside."""
    if not answer:
        return None
    head = _HEAD.match(answer)
    assert head, answer[:200]
    status = int(head.group(1))
    assert status != 500, answer[:500]
    check_shows_nothing(answer)
    return status


def check_shows_nothing(answer: bytes) -> None:
    """Fail when an answer has what only a traceback has."""
    for word in _INSIDE:
        assert word not in answer, answer[:500]
