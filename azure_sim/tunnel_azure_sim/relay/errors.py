"""How the data plane refuses."""

from dataclasses import dataclass


@dataclass
class Refused(Exception):  # noqa: N818 - not an error of ours: an answer
    """An upgrade is answered with an HTTP status instead of 101; the sentence quotes no secret."""

    status: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.status}: {self.sentence}"
