"""The name of a piece of work."""

from typing import NamedTuple


class Key(NamedTuple):
    """Which Tunnel."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
