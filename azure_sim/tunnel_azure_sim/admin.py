"""The simulation's own HTTP API, which Azure has nothing of: faults, what clients did, and the reset.

For tests that run in another process. Plain HTTP on the simulation's address, without any sign-in, and so
off unless asked for; nothing that it answers holds a key.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiohttp import web

from .actions import Target
from .errors import ConfigError
from .faults import Fault
from .journal import ArmCall, MethodCall
from .views import DeviceView, HybridConnectionView
from .wire import read_fault, to_json

_MAX_BODY = 64 * 1024


class Administered(Protocol):
    """What of a simulation is looked at and changed here."""

    def all_hybrid_connections(self) -> list[HybridConnectionView]:
        """Return those of all namespaces."""

    def all_devices(self) -> list[DeviceView]:
        """Return those of all hubs."""

    @property
    def method_calls(self) -> tuple[MethodCall, ...]:
        """The direct method calls, oldest first."""

    @property
    def arm_calls(self) -> tuple[ArmCall, ...]:
        """The requests to ARM, oldest first."""

    def arm_counts(self) -> Mapping[str, int]:
        """Return how many requests came to ARM since the start, by verb."""

    @property
    def faults_in_force(self) -> tuple[Fault, ...]:
        """What goes wrong on purpose."""

    async def inject(self, fault: Fault) -> None:
        """Put a fault in force."""

    async def heal(self) -> None:
        """Take all faults out."""

    def drop(
        self, target: Target, *, hybrid_connection: str | None = None, half_open: bool = False
    ) -> int:
        """Lose sockets; return how many."""

    async def reset(self) -> None:
        """Bring everything back to the start."""


_Answer = Callable[[Mapping[str, Any]], Awaitable[Any]]


@asynccontextmanager
async def serving(sim: Administered, *, address: str, port: int) -> AsyncIterator[int]:
    """Serve the API; yields the port that was bound."""
    app = web.Application(client_max_size=_MAX_BODY)
    for (method, path), answer in _routes(sim).items():
        app.router.add_route(method, path, _handler(answer))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        bound: int = runner.addresses[0][1]
        yield bound
    finally:
        await runner.cleanup()


def _routes(sim: Administered) -> dict[tuple[str, str], _Answer]:
    async def inject(body: Mapping[str, Any]) -> Any:
        await sim.inject(read_fault(body))
        return sim.faults_in_force

    async def heal(_: Mapping[str, Any]) -> Any:
        await sim.heal()
        return sim.faults_in_force

    async def drop(body: Mapping[str, Any]) -> Any:
        return {"dropped": sim.drop(**_drop_options(body))}

    async def reset(_: Mapping[str, Any]) -> Any:
        await sim.reset()
        return {}

    def show(read: Callable[[], Any]) -> _Answer:
        async def answer(_: Mapping[str, Any]) -> Any:
            return read()

        return answer

    return {
        ("GET", "/hybrid-connections"): show(sim.all_hybrid_connections),
        ("GET", "/devices"): show(sim.all_devices),
        ("GET", "/method-calls"): show(lambda: sim.method_calls),
        ("GET", "/arm-calls"): show(lambda: sim.arm_calls),
        ("GET", "/arm-counts"): show(sim.arm_counts),
        ("GET", "/faults"): show(lambda: sim.faults_in_force),
        ("POST", "/faults"): inject,
        ("DELETE", "/faults"): heal,
        ("POST", "/drop"): drop,
        ("POST", "/reset"): reset,
    }


def _handler(answer: _Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = to_json(await answer(await _body(request)))
            return web.json_response(body)
        except ConfigError as error:
            return web.json_response({"error": str(error)}, status=400)
        except OSError as error:
            # A plane's port is taken by somebody else meanwhile.
            return web.json_response({"error": error.strerror or str(error)}, status=409)

    return handle


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        text = await request.text()
        body = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ConfigError("The body is not a JSON object.")
    return body


def _drop_options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        name.replace("-", "").replace("_", "").lower(): value for name, value in body.items()
    }
    name, half_open = options.pop("hybridconnection", None), options.pop("halfopen", False)
    try:
        target = Target(options.pop("target", ""))
    except ValueError:
        raise ConfigError(f"'target' is one of {', '.join(Target)}.") from None
    if options or not isinstance(name, str | None):
        raise ConfigError("A drop has target, hybridConnection and halfOpen.")
    half_open = half_open in (True, "true", "yes", "1")
    return {"target": target, "hybrid_connection": name, "half_open": half_open}
