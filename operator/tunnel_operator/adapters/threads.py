"""Threads for calls that block: never more than there were calls at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Each call gets a thread that is idle, or else a new one; whoever calls bounds how many.

    A pool of several threads makes new ones, up to its bound, where one has ended its work but has not yet
    said that it is idle. Each has a client and a connection, so that they would cost memory for nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._all: list[ThreadPoolExecutor] = []
        self._idle: list[ThreadPoolExecutor] = []

    def __len__(self) -> int:
        return len(self._all)

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call. It goes on in its thread even if the future is cancelled, which is not to be done."""
        if not self._idle:
            made = ThreadPoolExecutor(1, thread_name_prefix=f"{self._name}-{len(self._all)}")
            self._all.append(made)
            self._idle.append(made)
        # The one that was busy last, whose connection is the freshest.
        thread = self._idle.pop()
        future = asyncio.get_running_loop().run_in_executor(thread, call)
        future.add_done_callback(lambda _: self._idle.append(thread))
        return future

    def close(self) -> None:
        """Wait for no call that is under way."""
        for thread in self._all:
            thread.shutdown(wait=False, cancel_futures=True)
