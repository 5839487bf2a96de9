"""What must hold of many tunnels at every moment of a long run, and once it is calm."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from support.operator_azure import HOST, mark_of
from support.week_world import FailingWorld
from tunnel_operator.api.base import format_time
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.core.closing import GIVE_UP_AFTER
from tunnel_operator.core.observed import Kind

TOLERANCE = timedelta(seconds=2)
"""How much longer than its lifetime anything may be there."""

ENDED = {Reason.EXPIRED, Reason.IDLE, Reason.SUSPENDED}


class _Token(NamedTuple):
    """What one end of a tunnel was given, and of which Tunnel."""

    connection: str
    text: str
    key: Key
    uid: str


class Invariants:
    """Looks at a world, and raises AssertionError about what does not hold there. `seen` counts for people.

    `is_able` tells whether the operator has been up, with all that it needs, for long enough to have caught up.
    `found_open` says how many tunnels were open at each calm moment.
    """

    def __init__(
        self, world: FailingWorld, seen: Counter[str], is_able: Callable[[], bool]
    ) -> None:
        self.world = world
        self.seen = seen
        self._is_able = is_able
        self.found_open: list[int] = []
        self._tokens: set[_Token] = set()
        self._given: dict[Key, object] = {}

    def look(self) -> None:
        """See that nothing is left over or outlives its time, whatever is going on."""
        self.world.end_listeners()
        for body in self.world.cluster.children.values():
            owner = body["metadata"]["ownerReferences"][0]["uid"]
            tunnel = self.world.cluster.tunnels.get(
                Key(body["metadata"]["namespace"], body["metadata"]["labels"]["tunnels.dev/tunnel"])
            )
            assert tunnel is not None, f"orphan: {body['kind']} {body['metadata']['name']}"
            assert tunnel["metadata"]["uid"] == owner
        by_uid = {b["metadata"]["uid"]: key for key, b in self.world.cluster.tunnels.items()}
        for name, connection in self.world.azure.connections.items():
            key = by_uid.get(mark_of(connection).uid)
            assert key is not None, f"orphan: hybrid connection {name}"
            self._look_at_end(self.world.tunnel(key), key)
        if self._is_able():
            self._look_at_tokens()

    def _look_at_end(self, tunnel: Tunnel, key: Key) -> None:
        end = tunnel.status.expires_at
        assert tunnel.has_finalizer, f"{key} is in Azure without a finalizer"
        if end is None or self.world.now <= end + TOLERANCE or not self._is_able():
            # Whatever holds the operator up: both ends stop by themselves at the deadline that they know.
            assert end is None or not self._reaches_past(key, end), f"{key} outlives {end}"
            return
        raise AssertionError(f"{key} outlives {end}: it is {self.world.now}")

    def _reaches_past(self, key: Key, end: datetime) -> bool:
        """Tell whether bytes could still flow after the end, but for an end that nobody was told of yet."""
        if self.world.now <= end + TOLERANCE:
            return False
        asked = self.world.azure.listening.get(key.name)
        secret, pod = self.world.child(key, Kind.SECRET), self.world.child(key, Kind.POD)
        if asked is None or secret is None or pod is None:
            return False
        told = json.loads(base64.b64decode(secret["data"]["settings.json"]))["expiresAt"]
        is_told = told <= format_time(end)
        return is_told and asked.expires_at > self.world.now and told > format_time(self.world.now)

    def look_when_calm(self) -> None:
        """See that everything is exactly as it should be, now that nothing keeps it from that."""
        self.look()
        self._look_at_all()
        self._look_at_tokens()

    def _look_at_all(self) -> None:
        wanted, refused = set(), set()
        for key in self.world.names():
            tunnel = self.world.tunnel(key)
            assert not tunnel.is_deleting, f"{key} is stuck"
            _, reason = self.world.ready(key)
            kinds = {k for k in (Kind.SECRET, Kind.POD, Kind.SERVICE) if self.world.child(key, k)}
            if reason in ENDED or not tunnel.has_finalizer:
                assert reason in ENDED | {Reason.TTL_TOO_LONG}, f"{key} is {reason}"
                assert not kinds, f"{key} is {reason} and has {kinds}"
                assert not tunnel.has_finalizer
                continue
            if reason == Reason.TTL_TOO_LONG:
                # It is left alone until its end, and so is what somebody takes away from it.
                refused.add(tunnel.status.hybrid_connection.name)
                continue
            assert reason == Reason.OPEN, f"{key} is {reason}"
            assert len(kinds) == 3, f"{key} is {reason} and has {kinds} only"
            [container] = self.world.child(key, Kind.POD)["spec"]["containers"]
            assert container["image"] == self.world.classes[0].spec.forwarder.image, f"{key} is old"
            wanted.add(tunnel.status.hybrid_connection.name)
        there = set(self.world.azure.connections)
        assert there - refused == wanted, f"in Azure: {there - refused}, wanted: {wanted}"
        self.found_open.append(len(wanted))

    def _look_at_tokens(self) -> None:
        """See that no token that was ever given out opens anything whose tunnel is over."""
        over = {token for token in self._tokens if self._is_over(token)}
        for token in over:
            assert not self.world.azure.rights(HOST, token.connection, token.text), (
                f"a token of {token.key} outlives it"
            )
        # What opens nothing now never does again: a hybrid connection that is made anew has other keys.
        self._tokens -= over

    def _is_over(self, token: "_Token") -> bool:
        """Tell whether the tunnel that a token was made for is gone, or has ended."""
        body = self.world.cluster.tunnels.get(token.key)
        if body is None or body["metadata"]["uid"] != token.uid:
            return True
        is_past = format_time(self.world.now) >= body["status"]["expiresAt"]
        return is_past or self.world.reason(token.key) in ENDED

    def sweep(self, gone: Tunnel) -> None:
        """Remove what a deletion left behind, which it may only after Azure was away for long."""
        connections, deleted_at = self.world.azure.connections, gone.metadata.deletion_timestamp
        uid = gone.metadata.uid
        for name in [n for n, c in connections.items() if mark_of(c).uid == uid]:
            end = max(deleted_at, gone.status.expires_at or deleted_at)
            assert self.world.now >= end + GIVE_UP_AFTER, f"orphan: hybrid connection {name}"
            self.seen["left to the sweeper"] += 1
            self.world.azure.remove(name)

    def keep_tokens(self, key: Key) -> None:
        """Remember what a tunnel's two ends were given, to see later what it still opens."""
        body = self.world.cluster.tunnels.get(key)
        if body is None:
            return
        asked, secret = self.world.azure.told(key.name), self.world.child(key, Kind.SECRET)
        listens = None if asked is None else (asked.hybrid_connection, asked.listen_token.reveal())
        given = (listens, None if secret is None else secret["metadata"]["resourceVersion"])
        if self._given.get(key) == given:
            return
        self._given[key] = given
        tokens = [] if listens is None else [listens]
        if secret is not None:
            files = {n: base64.b64decode(d).decode() for n, d in secret["data"].items()}
            name = json.loads(files["settings.json"])["relay"]["hybridConnection"]
            tokens.append((name, files["token"]))
        uid = body["metadata"]["uid"]
        new = {_Token(name, token, key, uid) for name, token in tokens} - self._tokens
        self._tokens |= new
        self.seen["tokens given out"] += len(new)
