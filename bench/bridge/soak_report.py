"""What a soak has found: figures, and whether they are what they have to be."""

import platform
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .soak_faults import Faults
from .soak_streams import Streams

MIB_GROWN = 4.0
"""From the first rest, the warm-up, to the last: what counts as flat."""


class Held(Protocol):
    """What a process has open."""

    sockets: int
    tasks: tuple[str, ...]


@dataclass(slots=True)
class Memory:
    """The resident memory of each process, in MiB: now, at most, and in each rest."""

    began: float = field(default_factory=time.monotonic)
    now: float = 0.0
    sizes: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    rests: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, now: float, sizes: Mapping[str, float]) -> None:
        """Take a sample of every process."""
        self.now, self.sizes = now, dict(sizes)
        for name, size in sizes.items():
            self.most[name] = max(size, self.most.get(name, 0.0))

    def rest(self, sizes: Mapping[str, float]) -> None:
        """Take a sample while there is no stream."""
        for name, size in sizes.items():
            self.rests[name].append(size)

    def grown(self, name: str) -> float:
        """Return by how much a process has grown from the first rest to the last."""
        return self.rests[name][-1] - self.rests[name][0]


def line(memory: Memory, streams: Streams, faults: Faults) -> str:
    """Return the state in one line."""
    sizes = ", ".join(f"{name} {size:.0f}" for name, size in memory.sizes.items())
    return (
        f"{memory.now - memory.began:.0f} s; MiB: {sizes}; {dict(streams.counts)}; "
        f"{sum(faults.counts.values())} faults; {len(streams.wrong)} wrong"
    )


@dataclass(slots=True)
class Report:
    """The whole result."""

    minutes: float
    seed: int
    streams: Streams
    faults: Faults
    memory: Memory
    before: Mapping[str, Held]
    left: Mapping[str, str]

    @property
    def failures(self) -> list[str]:
        """What must not have happened, in sentences."""
        found = list(self.streams.wrong)
        found += [f"{name}: left over: {what}" for name, what in self.left.items() if what]
        for name in self.before:
            if (grown := self.memory.grown(name)) > MIB_GROWN:
                found.append(f"{name}: has grown by {grown:.1f} MiB")
        return found

    def text(self) -> str:
        """Return it as a page of Markdown."""
        verdict = "It FAILED." if self.failures else "All of it held."
        when = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}"
        rows = [
            "# The bridge with faults, over time",
            "",
            f"`make soak`, {when}: {self.minutes:g} minutes, seed {self.seed}. {verdict}",
            "",
            "| | |",
            "|---|---|",
            f"| bytes that came out wrong, or were missing at an orderly end | {len(self.streams.wrong)} streams |",
            f"| bytes carried | {self.streams.bytes / (1 << 20):.0f} MiB |",
            *(f"| streams, {name} | {n} |" for name, n in sorted(self.streams.counts.items())),
            *(f"| fault: {name} | {n} |" for name, n in sorted(self.faults.counts.items())),
            "",
            "| process | sockets and tasks before | left over in any rest | MiB in each rest | at most |",
            "|---|---|---|---|---|",
            *(self._row(name) for name in self.before),
            *("", *(f"- WRONG: {sentence}" for sentence in self.failures[:50])),
        ]
        return "\n".join(rows).rstrip() + "\n"

    def _row(self, name: str) -> str:
        held, memory = self.before[name], self.memory
        rests = ", ".join(f"{size:.1f}" for size in memory.rests[name])
        return (
            f"| {name} | {held.sockets}, {len(held.tasks)} | {self.left.get(name) or 'nothing'} | "
            f"{rests} | {memory.most[name]:.1f} |"
        )
