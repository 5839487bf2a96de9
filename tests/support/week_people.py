"""What people do with their tunnels in a long run: they want them open, most of them for hours or days."""

import random
from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any

from support.tunnels import class_body, tunnel_body
from support.week_invariants import ENDED
from support.week_passage import Passage
from tunnel_operator.api.base import parse_duration
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel_class import TunnelClass

TTLS = {"30s": 4, "5m": 4, "30m": 4, "2h": 18, "6h": 4, "12h": 46, "48h": 20}
"""Lifetimes, and how often they are chosen. Long ones keep enough tunnels open for there to be much to look at."""

USUAL_MAX_TTL = "72h"
MAX_TTLS = {"12h": 1, "24h": 2, USUAL_MAX_TTL: 27}
"""The longest lifetimes that the class allows, likewise. A short one refuses most of what is wished for, and is
the next edit's to mend.
"""

AT_FIRST = 0.3
"""The share of the Tunnels that are there from the beginning."""

BRING_BACK = 0.5
DELETE = 0.15
EDIT_CLASS = 0.02
"""The shares of all edits. The rest change a Tunnel that is there in any way."""


class People:
    """Edit Tunnels and their class. `seen` counts what they did."""

    def __init__(
        self, passage: Passage, names: list[str], chance: random.Random, seen: Counter[str]
    ) -> None:
        self._passage = passage
        self._world = passage.world
        self._keys = [Key("imaging", name) for name in names]
        self._chance = chance
        self._seen = seen
        self._uids = count(1)
        self._offer(USUAL_MAX_TTL)

    async def begin(self) -> None:
        """Create the first Tunnels."""
        for key in self._chance.sample(self._keys, round(AT_FIRST * len(self._keys))):
            self._create(key)
            await self._passage.work_on(key)

    async def edit(self) -> None:
        """Do one thing, if the API server takes it."""
        if self._world.is_api_away:
            return
        roll = self._chance.random()
        there = [key for key in self._keys if key in self._world.cluster.tunnels]
        if roll < EDIT_CLASS:
            await self._edit_class()
            return
        key: Key | None
        if roll < EDIT_CLASS + BRING_BACK or not there:
            key = self._bring_back()
        elif roll < EDIT_CLASS + BRING_BACK + DELETE:
            key = self._chance.choice(there)
            self._seen["deleted"] += 1
            self._world.delete(key)
        else:
            key = self._chance.choice(there)
            self._change(key)
        if key is not None:
            await self._passage.work_on(key)

    def _bring_back(self) -> Key | None:
        """Do to a tunnel that is not open what opens it. Return None when all are open, or about to be."""
        shut = [key for key in self._keys if self._is_shut(key)]
        if not shut:
            return None
        key = self._chance.choice(shut)
        if key in self._world.cluster.tunnels:
            self._mend(key)
        else:
            self._create(key)
        return key

    def _create(self, key: Key) -> None:
        self._seen["created"] += 1
        uid = f"{next(self._uids):08d}-uid"
        self._world.apply(tunnel_body(key.name, uid=uid, ttl=self._ttl()))

    def _mend(self, key: Key) -> None:
        """Change all that keeps a tunnel from being opened."""
        spec, reason = self._world.cluster.tunnels[key]["spec"], self._world.reason(key)
        change: dict[str, Any] = {}
        if spec.get("suspend"):
            change["suspend"] = False
        if reason in (Reason.EXPIRED, Reason.IDLE):
            change["renewals"] = spec.get("renewals", 0) + 1
        if not self._is_allowed(spec["ttl"]):
            change["ttl"] = self._chance.choice([ttl for ttl in TTLS if self._is_allowed(ttl)])
        self._seen["brought back by " + " and ".join(change)] += 1
        self._world.apply(tunnel_body(key.name, **{**spec, **change}))

    def _is_shut(self, key: Key) -> bool:
        """Tell whether a tunnel stays as it is, and is not open, until somebody does something about it."""
        body = self._world.cluster.tunnels.get(key)
        if body is None:
            return True
        is_deleting = "deletionTimestamp" in body["metadata"]
        return not is_deleting and self._world.reason(key) in ENDED | {Reason.TTL_TOO_LONG}

    def _is_allowed(self, ttl: str) -> bool:
        wanted = parse_duration(ttl)
        assert isinstance(wanted, timedelta)
        return wanted <= self._world.classes[0].spec.limits.max_ttl

    def _change(self, key: Key) -> None:
        spec = self._world.cluster.tunnels[key]["spec"]
        change = self._chance.choice(
            (
                {"ttl": self._ttl()},
                {"suspend": not spec.get("suspend", False)},
                {"renewals": spec.get("renewals", 0) + 1},
                {"ports": [{"name": "ssh", "port": self._chance.choice((22, 2222))}]},
                {},
            )
        )
        self._seen["changed " + (next(iter(change), "nothing"))] += 1
        self._world.apply(tunnel_body(key.name, **{**spec, **change}))

    async def _edit_class(self) -> None:
        self._seen["class changed"] += 1
        usual = parse_duration(USUAL_MAX_TTL)
        is_usual = self._world.classes[0].spec.limits.max_ttl == usual
        self._offer(self._weighed(MAX_TTLS) if is_usual else USUAL_MAX_TTL)
        for key in self._world.names():
            await self._passage.work_on(key)

    def _offer(self, max_ttl: str) -> None:
        """Let the class be another one."""
        before = self._world.classes[0].metadata.generation
        limits = {"maxTTL": max_ttl, "defaultTTL": "30m"}
        body = class_body(limits=limits, forwarder={"image": f"f:{self._chance.randrange(3)}"})
        body["metadata"]["generation"] = before + 1
        self._world.classes[:] = [TunnelClass.from_dict(body)]
        self._world.cache.put_class(self._world.classes[0])

    def _ttl(self) -> str:
        return self._weighed(TTLS)

    def _weighed(self, choices: dict[str, int]) -> str:
        return self._chance.choices(list(choices), weights=list(choices.values()))[0]
