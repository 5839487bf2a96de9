"""What goes wrong in a soak, by the simulated Azure's admin API, in an order that a seed fixes.

Two hands at once: one loses sockets, the other changes how the relay behaves for a while and heals it.
"""

import asyncio
import random
from collections import Counter

import aiohttp

Fault = dict[str, object]


class Faults:
    """Makes trouble until cancelled; `heal` ends it."""

    def __init__(self, admin: str, seed: int, http: aiohttp.ClientSession) -> None:
        self.counts: Counter[str] = Counter()
        self._admin = admin
        self._http = http
        self._drops = random.Random(f"{seed} drops")  # noqa: S311 - no secret
        self._conditions = random.Random(f"{seed} conditions")  # noqa: S311 - no secret

    async def lose(self) -> None:
        """Drop sockets again and again."""
        chance = self._drops
        while True:
            await asyncio.sleep(chance.uniform(1.0, 10.0))
            target = chance.choices(("stream", "streams", "control", "all"), (6, 2, 2, 1))[0]
            self.counts[f"drop of {target}"] += 1
            await self._ask("POST", "drop", {"target": target})

    async def disturb(self) -> None:
        """Change how the relay behaves, one fault at a time."""
        chance = self._conditions
        while True:
            await asyncio.sleep(chance.uniform(2.0, 8.0))
            name = chance.choice(
                ("data latency", "latency", "lost accept", "slow", "outage", "503", "half open")
            )
            self.counts[name] += 1
            if name == "half open":
                await self._half_open(chance)
                continue
            await self._ask("POST", "faults", _fault(name, chance))
            await asyncio.sleep(chance.uniform(1.0, 4.0 if name in ("outage", "503") else 12.0))
            await self.heal()

    async def _half_open(self, chance: random.Random) -> None:
        """Leave sockets half open; what a network would find out in minutes is cut after seconds."""
        target = chance.choice(("stream", "streams", "control", "all"))
        await self._ask("POST", "drop", {"target": target, "halfOpen": True})
        await asyncio.sleep(chance.uniform(3.0, 12.0))
        await self.cut()

    async def cut(self) -> None:
        """Lose every socket that there is."""
        await self._ask("POST", "drop", {"target": "all"})

    async def heal(self) -> None:
        """Take all faults out."""
        await self._ask("DELETE", "faults", {})

    async def _ask(self, method: str, path: str, body: Fault) -> None:
        async with self._http.request(method, f"{self._admin}/{path}", json=body) as answer:
            answer.raise_for_status()


def _fault(name: str, chance: random.Random) -> Fault:
    match name:
        case "data latency":
            return {"kind": "latency", "plane": "relay-data", "seconds": chance.uniform(0, 0.05),
                    "jitter": chance.uniform(0, 0.1)}  # fmt: skip
        case "latency":
            return {
                "kind": "latency",
                "plane": "relay",
                "seconds": chance.uniform(0, 0.3),
                "jitter": 1,
            }
        case "lost accept":
            return {"kind": "lost-accept", "times": chance.randrange(1, 4)}
        case "slow":
            return {"kind": "slow-reader", "bytesPerSecond": chance.randrange(300_000, 3_000_000)}
        case _:
            return {
                "kind": "outage",
                "plane": "relay",
                "mode": "503" if name == "503" else "refuse",
            }
