"""Measurements, with blocking sockets and threads: what a client of a tunnel sees."""

import itertools
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

TIMEOUT = 60.0

HOSTS: dict[int, str] = {}
"""The loopback address of a port, where it is not the usual one."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured; less of it where each round trip takes long."""

    first_bytes: int = 40
    round_trips: int = 200
    seconds: float = 1.5
    parallel: int = 8


def connect(port: int, command: str) -> socket.socket:
    """Return a connection on which the target has been told what to do."""
    sock = socket.create_connection((HOSTS.get(port, "127.0.0.1"), port), timeout=TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(command.encode() + b"\n")
    return sock


def first_byte(port: int) -> float:
    """Return the seconds from the connection's start to the first byte of an answer."""
    began = time.perf_counter()
    with connect(port, "echo\nx") as sock:
        if sock.recv(1) == b"":
            raise ConnectionError("no answer")
        return time.perf_counter() - began


def round_trips(port: int, count: int) -> list[float]:
    """Return the seconds of each round trip of 64 bytes in one stream."""
    took = []
    with connect(port, "echo") as sock:
        for number in range(count + 5):
            began = time.perf_counter()
            sock.sendall(b"x" * 64)
            left = 64
            while left:
                left -= len(sock.recv(left)) or _lost()
            if number >= 5:
                took.append(time.perf_counter() - began)
    return took


def connections_per_second(port: int, seconds: float, workers: int) -> float:
    """Return how many connections with a question and an answer there are in a second."""
    end, done = time.perf_counter() + seconds, itertools.count()

    def work() -> None:
        while time.perf_counter() < end:
            first_byte(port)
            next(done)

    took = _in_threads(work, workers)
    return next(done) / took


def bytes_down(port: int, seconds: float, streams: int) -> float:
    """Return the bytes a second that clients receive."""
    end, totals, buffers = time.perf_counter() + seconds, [], threading.local()

    def work() -> None:
        buffers.space, total = bytearray(1 << 18), 0
        with connect(port, f"source {1 << 40}") as sock:
            while time.perf_counter() < end:
                total += sock.recv_into(buffers.space) or _lost()
        totals.append(total)

    took = _in_threads(work, streams)
    return sum(totals) / took


def bytes_up(port: int, seconds: float, streams: int) -> float:
    """Return the bytes a second that the target receives, as it confirms them at the end."""
    block, totals = b"\x5a" * (1 << 18), []
    rate = 0.0

    def work(size: int) -> None:
        with connect(port, f"sink {size}") as sock:
            for _ in range(size // len(block)):
                sock.sendall(block)
            if sock.recv(4) != b"done":
                _lost()
        totals.append(size)

    size = 4 << 20
    while True:  # twice as much each time, until it takes long enough
        totals.clear()
        took = _in_threads(lambda size=size: work(size), streams)
        rate = sum(totals) / took
        if took >= seconds / 2 or size >= 1 << 30:
            return rate
        size *= 4


def half_closes(port: int, count: int = 5) -> int:
    """Return in how many of `count` cases an answer arrives after the client has ended."""
    good = 0
    for number in range(count):
        text = b"y" * (1000 * (number + 1))
        try:
            with connect(port, "half") as sock:
                sock.sendall(text)
                sock.shutdown(socket.SHUT_WR)
                answer = b""
                while data := sock.recv(100):
                    answer += data
        except OSError:
            continue
        good += answer == b"%d" % len(text)
    return good


def _in_threads(work: Callable[[], None], count: int) -> float:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - began


def _lost() -> int:
    raise ConnectionError("the stream ended")
