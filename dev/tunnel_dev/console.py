"""What a person sees while the cluster comes up: what is being done, and how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(sentence: str) -> None:
    """Print at once: the next step may take minutes."""
    print(sentence, flush=True)


@contextmanager
def step(sentence: str, *, estimate: str = "") -> Iterator[None]:
    """Announce a long step with its estimate, and say how long it took once it is done."""
    say(f"{sentence} (about {estimate}) ..." if estimate else f"{sentence} ...")
    started = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")
