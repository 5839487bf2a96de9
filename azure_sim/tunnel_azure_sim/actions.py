"""What goes wrong at once: sockets that are lost, or left half open."""

from collections.abc import Iterable
from enum import StrEnum

from .faults import Faults
from .relay.model import HybridConnection, Namespace, Socket
from .relay.stream import Stream


class Target(StrEnum):
    """Which sockets of hybrid connections an action is for."""

    CONTROL = "control"
    """Listeners' control channels."""

    STREAM = "stream"
    """The oldest stream, both of its sides."""

    STREAMS = "streams"
    ALL = "all"


def sockets(
    namespaces: Iterable[Namespace], target: Target, hybrid_connection: str | None
) -> list[Socket]:
    """Return the sockets that are meant, of one hybrid connection or of all."""
    found = [one for namespace in namespaces for one in _some(namespace, hybrid_connection)]
    channels: list[Socket] = [socket for one in found for socket in one.listeners]
    streams: list[Socket] = [socket for one in found for socket in one.streams]
    match target:
        case Target.CONTROL:
            return channels
        case Target.STREAM:
            return streams[:1]
        case Target.STREAMS:
            return streams
        case Target.ALL:
            return channels + streams


def slow_down_live_streams(namespaces: Iterable[Namespace], faults: Faults) -> None:
    """Let latency and slow reading hold for the streams that there are already."""
    for namespace in namespaces:
        for one in namespace.hybrid_connections.values():
            for socket in one.streams:
                if isinstance(socket, Stream):
                    socket.slow_down(faults, one.name)


def _some(namespace: Namespace, name: str | None) -> list[HybridConnection]:
    if name is None:
        return list(namespace.hybrid_connections.values())
    found = namespace.get(name)
    return [] if found is None else [found]
