"""What goes wrong around the operator, one row each: how it begins, and how it ends."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from support.processes import Program
from support.wire import State, Wire
from tunnel_azure_sim import AzureSim
from tunnel_azure_sim.faults import ArmFailure, Fault, LostMethodAnswer, Outage, OutageMode, Plane
from tunnel_dev.apiserver import ApiServer

ALWAYS = 1_000_000
TOKEN_SECONDS = 20
"""How long an access token is good for: short, so that the operator soon needs a new one."""

RETRY_AFTER = 5
SILENCE = 45.0
"""Longer than the operator waits for any answer; what it had given up is carried out when the silence ends."""

FLAP = 4.0
CUT_EVERY = 1.0


@dataclass(frozen=True)
class Surroundings:
    """All that the operator depends on."""

    server: ApiServer
    azure: AzureSim
    device: Program
    to_api: Wire


Trouble = Callable[[Surroundings, float], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Row:
    """A fault, and within which time after its end everything is as it should be."""

    name: str
    trouble: Trouble
    bound: float = 40.0
    """Seconds; a step that failed waits for half a minute at most before it is tried again."""

    lasts: float = 20.0
    lasts_long: float | None = None
    is_edited_before: bool = False
    """Whether nobody can edit anything while it lasts."""

    keeps_streams: bool = True
    """Whether open tunnels stay Ready all the time."""


def _in_azure(*faults: Fault, first: float = 0.0) -> Trouble:
    """Put faults in force, `first` seconds before anything is edited."""

    @asynccontextmanager
    async def trouble(around: Surroundings, seconds: float) -> AsyncIterator[None]:
        for fault in faults:
            await around.azure.inject(fault)
        await asyncio.sleep(first)
        yield
        await asyncio.sleep(seconds)
        await around.azure.heal()

    return trouble


def _on_the_wire(state: State) -> Trouble:
    @asynccontextmanager
    async def trouble(around: Surroundings, seconds: float) -> AsyncIterator[None]:
        await around.to_api.be(state)
        yield
        await asyncio.sleep(seconds)
        await around.to_api.be(State.WHOLE)

    return trouble


@asynccontextmanager
async def _cut(around: Surroundings, seconds: float) -> AsyncIterator[None]:
    around.to_api.cut()
    yield
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        around.to_api.cut()
        await asyncio.sleep(CUT_EVERY)


@asynccontextmanager
async def _silence(around: Surroundings, _: float) -> AsyncIterator[None]:
    around.to_api.silence()
    yield


@asynccontextmanager
async def _slow_answers(around: Surroundings, seconds: float) -> AsyncIterator[None]:
    around.to_api.delay = 0.5
    yield
    await asyncio.sleep(seconds)
    around.to_api.delay = 0


@asynccontextmanager
async def _restart(around: Surroundings, _: float) -> AsyncIterator[None]:
    yield
    # Not in a thread: the server would end with the thread that started it.
    around.server.restart()


@asynccontextmanager
async def _frozen_etcd(around: Surroundings, seconds: float) -> AsyncIterator[None]:
    etcd = around.server.etcd.leader()
    assert etcd is not None
    yield
    os.kill(etcd.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(etcd.pid, signal.SIGCONT)


@asynccontextmanager
async def _flapping(around: Surroundings, seconds: float) -> AsyncIterator[None]:
    await around.device.kill()
    yield
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await around.device.start()
        with contextlib.suppress(TimeoutError):
            await around.azure.until(
                lambda: around.azure.device("mri-7").accepts_methods, timeout=FLAP
            )
        await asyncio.sleep(FLAP / 2)
        await around.device.kill()
    await around.device.start()


ROWS = (
    Row("ARM refuses", _in_azure(Outage(Plane.ARM)), lasts_long=300),
    Row("ARM answers 503", _in_azure(Outage(Plane.ARM, OutageMode.ANSWER_503)), lasts_long=300),
    Row(
        "ARM answers 429",
        _in_azure(ArmFailure(429, times=ALWAYS, retry_after=RETRY_AFTER)),
        lasts_long=300,
    ),
    Row(
        "ARM is silent",
        _in_azure(Outage(Plane.ARM, OutageMode.SILENT)),
        lasts=SILENCE,
        lasts_long=300,
    ),
    Row("IoT Hub answers 503", _in_azure(Outage(Plane.HUB, OutageMode.ANSWER_503))),
    Row("IoT Hub is silent", _in_azure(Outage(Plane.HUB, OutageMode.SILENT)), lasts=SILENCE),
    Row("IoT Hub loses answers (504101)", _in_azure(LostMethodAnswer(times=ALWAYS))),
    Row("device flaps", _flapping, bound=75, keeps_streams=False),
    Row("token endpoint refuses", _in_azure(Outage(Plane.IDENTITY), first=TOKEN_SECONDS)),
    Row(
        "token endpoint answers 503",
        _in_azure(Outage(Plane.IDENTITY, OutageMode.ANSWER_503), first=TOKEN_SECONDS),
    ),
    Row(
        "token endpoint is silent",
        _in_azure(Outage(Plane.IDENTITY, OutageMode.SILENT), first=TOKEN_SECONDS),
        lasts=SILENCE,
    ),
    Row("API server restarted", _restart, is_edited_before=True),
    Row("API server refuses", _on_the_wire(State.REFUSING)),
    Row("API server resets", _on_the_wire(State.RESETTING)),
    Row("API server is a black hole", _on_the_wire(State.SWALLOWING)),
    Row("API server is slow", _slow_answers),
    Row("watches cut", _cut),
    Row("watches silent", _silence, bound=75),
    Row("etcd stands still", _frozen_etcd, is_edited_before=True),
)
