"""One `cluster` or `down` at a time on a machine: both move the same links and namespaces."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .console import say


@contextmanager
def exclusive(folder: Path, *, what: str) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it however its holder ends.

    The lock is on the folder itself, so that no lock file has to be removed, and what is started
    meanwhile does not inherit it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another command that is {what} ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
