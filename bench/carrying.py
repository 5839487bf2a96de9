"""Bytes through something that carries a stream, and the processor time that this takes."""

import socket
import threading
import time
from collections.abc import Mapping

from simulation import cpu_seconds

GIB = 1 << 30
CHUNK = 256 * 1024


def carry(
    source: socket.socket, sink: socket.socket, size: int, pids: Mapping[str, int]
) -> dict[str, float]:
    """Carry so many bytes; return each process' CPU seconds for a GiB, and the rate in MiB/s."""
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    sending = threading.Thread(target=send, args=(source, size))
    sending.start()
    receive(sink, size)
    sending.join()
    seconds = time.monotonic() - began
    gib = size / GIB
    costs = {name: (cpu_seconds(pid) - before[name]) / gib for name, pid in pids.items()}
    return costs | {"rate": size / seconds / (1 << 20)}


def send(source: socket.socket, size: int) -> None:
    """Send so many bytes."""
    chunk = memoryview(bytes(CHUNK))
    while size:
        sent = source.send(chunk[: min(size, CHUNK)])
        size -= sent


def receive(sink: socket.socket, size: int) -> None:
    """Receive so many bytes."""
    buffer = bytearray(CHUNK)
    while size:
        read = sink.recv_into(buffer)
        if not read:
            raise ConnectionError(f"The stream ended {size} bytes too early.")
        size -= read
