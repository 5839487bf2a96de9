"""Where port names lead: TCP, UDP and Unix sockets near the listener."""

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from . import tcp
from .protocol.preamble import Mode

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")


class Network(StrEnum):
    """How a target is reached; the values are those of a forward's `protocol`."""

    TCP = "tcp"
    UDP = "udp"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a port name leads. A Unix socket's path is its `host`; its port means nothing."""

    host: str
    port: int
    network: Network = Network.TCP

    @property
    def mode(self) -> Mode:
        """What is carried to it."""
        return Mode.DATAGRAM if self.network is Network.UDP else Mode.STREAM

    def __str__(self) -> str:
        if self.network is Network.UNIX:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("/udp" if self.network is Network.UDP else "")

    async def connect(self, *, within: float) -> socket.socket:
        """Return a connected socket. Raises OSError."""
        match self.network:
            case Network.TCP:
                return await tcp.connect(self.host, self.port, within=within)
            case Network.UDP:
                return await tcp.connect(
                    self.host, self.port, within=within, kind=socket.SOCK_DGRAM
                )
            case Network.UNIX:
                return await _connect_unix(self.host, within=within)


def find_target(name: str, targets: Mapping[str, Target]) -> Target | None:
    """Return what a port name leads to.

    As azbridge does (`RemoteForwardBridge.cs`): an exact match, or any integer when there is one target.
    """
    if len(targets) == 1 and _INTEGER.fullmatch(name):
        return next(iter(targets.values()))
    return targets.get(name)


async def _connect_unix(path: str, *, within: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(within):
            await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock
