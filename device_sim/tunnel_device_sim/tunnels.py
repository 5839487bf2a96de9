"""The device's tunnels: opened, renewed and closed on the operator's word, and ended at their deadline.

The device has the last word: it opens nothing that is not on its own list, and it stops by itself when
nobody can be reached that would tell it to.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from tunnel_forwarder.clock import Clock
from tunnel_forwarder.protocol.method import (
    CloseRequest,
    Forward,
    ForwardAnswer,
    OpenAnswer,
    OpenRequest,
)
from tunnel_forwarder.protocol.mux import FEATURE
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.stream import isolated
from tunnel_forwarder.targets import Network, Target

from . import AGENT
from .config import AllowList

LISTEN_SECONDS = 8.0
"""How long an open waits for the control channel; a direct method waits 30 s for its answer."""

PROBE_SECONDS = 1.0
STOP_SECONDS = 4.0

FEATURES = frozenset({FEATURE})
"""What this device speaks beyond version 1, when it is asked for."""

_NETWORKS = frozenset(network.value for network in Network)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the device answers to a direct method."""

    status: int
    payload: Mapping[str, Any] | None = None

    @classmethod
    def refusal(cls, status: int, sentence: str) -> "Answer":
        """Return an answer that says why not."""
        return cls(status, {"error": sentence})


@dataclass(slots=True, eq=False)
class Tunnel:
    """A remote forwarder and the token that it was last given."""

    uid: str
    forwarder: RemoteForwarder
    token: Secret

    def is_on(self, request: OpenRequest) -> bool:
        """Tell whether it listens where the request wants it."""
        return (self.forwarder.endpoint, self.forwarder.hybrid_connection) == (
            request.endpoint,
            request.hybrid_connection,
        )


@dataclass(slots=True)
class Tunnels:
    """All tunnels of the device while `running`. Opening and closing are idempotent."""

    allow: AllowList
    tls: ssl.SSLContext
    max_tunnels: int = 8
    listen_within: float = LISTEN_SECONDS
    clock: Clock = field(default_factory=Clock)
    _open: dict[str, Tunnel] = field(default_factory=dict)
    _group: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._open)

    def has(self, uid: str) -> bool:
        """Tell whether there is such a tunnel."""
        return uid in self._open

    def __getitem__(self, uid: str) -> RemoteForwarder:
        return self._open[uid].forwarder

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Tunnels"]:
        """Keep tunnels while the block runs, and stop them at its end."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield self
            finally:
                for tunnel in self._open.values():
                    tunnel.forwarder.stop()

    async def open(self, request: OpenRequest) -> Answer:
        """Listen as the request says, or go on listening with its deadline, token and forwards."""
        allowed = [self.allow.permits(forward) for forward in request.forwards]
        if not all(allowed):
            return Answer(403, _answer(request, allowed).to_payload())
        if any(forward.protocol not in _NETWORKS for forward in request.forwards):
            return Answer.refusal(400, f"This device forwards {', '.join(sorted(_NETWORKS))} only.")
        if request.expires_at <= self.clock.now():
            return Answer.refusal(400, "The deadline has passed already.")
        await self._close_others(request)
        tunnel = self._open.get(request.uid)
        if tunnel is None:
            if len(self._open) >= self.max_tunnels:
                return Answer.refusal(429, f"All {self.max_tunnels} tunnels are taken.")
            tunnel = self.start(
                request.uid,
                RemoteForwarder(
                    endpoint=request.endpoint,
                    hybrid_connection=request.hybrid_connection,
                    token=request.listen_token,
                    targets=_targets(request),
                    expires_at=request.expires_at,
                    tls=self.tls,
                    clock=self.clock,
                    log=log.bind(
                        tunnel=request.tunnel,
                        uid=request.uid,
                        correlation_id=request.correlation_id,
                    ),
                ),
                request.listen_token,
            )
        else:
            tunnel.forwarder.update(targets=_targets(request), expires_at=request.expires_at)
            if tunnel.token != request.listen_token:
                tunnel.token = request.listen_token
                tunnel.forwarder.renew(request.listen_token)
        return await self._answer_when_listening(tunnel, request)

    async def close(self, request: CloseRequest) -> Answer:
        """Stop listening; a tunnel that is not there counts as closed."""
        await self.stop(request.uid)
        return Answer(200, {"version": 1, "agent": AGENT, "listening": False})

    def start(self, uid: str, forwarder: RemoteForwarder, token: Secret) -> Tunnel:
        """Keep a forwarder, which runs from now on."""
        if self._group is None:
            raise RuntimeError("The tunnels are not running.")
        tunnel = self._open[uid] = Tunnel(uid, forwarder, token)
        self._group.create_task(self._run(tunnel), name=f"tunnel-{uid}")
        return tunnel

    async def stop(self, uid: str) -> None:
        """Stop a forwarder and return once it has, or after a while."""
        tunnel = self._open.pop(uid, None)
        if tunnel is not None:
            tunnel.forwarder.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await tunnel.forwarder.wait_ended()

    async def _run(self, tunnel: Tunnel) -> None:
        try:
            with isolated(log):
                await tunnel.forwarder.run()
        finally:
            if self._open.get(tunnel.uid) is tunnel:
                del self._open[tunnel.uid]

    async def _close_others(self, request: OpenRequest) -> None:
        """Stop what contradicts the request: two listeners of ours would share its senders at random."""
        for uid, tunnel in tuple(self._open.items()):
            if (uid == request.uid) != tunnel.is_on(request):
                await self.stop(uid)

    async def _answer_when_listening(self, tunnel: Tunnel, request: OpenRequest) -> Answer:
        allowed = [True] * len(request.forwards)
        try:
            async with asyncio.timeout(self.listen_within):
                await tunnel.forwarder.wait_listening()
        except TimeoutError:
            sentence = f"Not listening yet; still trying. {tunnel.forwarder.trouble}"
            payload = _answer(request, allowed).to_payload()
            return Answer(503, payload | {"error": sentence})
        reachable = await asyncio.gather(*map(_is_reachable, request.forwards))
        return Answer(200, _answer(request, allowed, reachable, listening=True).to_payload())


def _targets(request: OpenRequest) -> dict[str, Target]:
    return {forward.port_name: _target(forward) for forward in request.forwards}


def _target(forward: Forward) -> Target:
    return Target(forward.host, forward.port, Network(forward.protocol))


def _answer(
    request: OpenRequest,
    allowed: list[bool],
    reachable: list[bool | None] | None = None,
    *,
    listening: bool = False,
) -> OpenAnswer:
    reached = reachable or [None] * len(request.forwards)
    return OpenAnswer(
        agent=AGENT,
        listening=listening,
        forwards=tuple(
            ForwardAnswer(forward.port_name, ok, reach)
            for forward, ok, reach in zip(request.forwards, allowed, reached, strict=True)
        ),
        features=tuple(feature for feature in request.features if feature in FEATURES),
    )


async def _is_reachable(forward: Forward) -> bool | None:
    """Tell whether something answers there; with UDP nobody knows before it is asked something."""
    target = _target(forward)
    if target.network is Network.UDP:
        return None
    try:
        sock = await target.connect(within=PROBE_SECONDS)
    except OSError:
        return False
    sock.close()
    return True
