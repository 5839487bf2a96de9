import asyncio
from datetime import timedelta

import pytest

from support.tunnels import NOON, a_class
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Device
from tunnel_operator.core.actions import Ask
from tunnel_operator.core.breaker import FIRST_WAIT, THRESHOLD, State
from tunnel_operator.errors import Postponed, Retryable, Terminal, TunnelError
from tunnel_operator.runtime.guard import GuardedDevices

CLASS = a_class().spec
MRI, CT = Device(id="mri-7"), Device(id="ct-1")
ASK = Ask("imaging/mri-7", None)


class Hub:
    """Devices that fail as they are told to."""

    def __init__(self):
        self.errors = {}
        self.calls = []
        self.held = asyncio.Event()
        self.held.set()

    async def open(self, _klass, device, _request):
        self.calls.append(device.id)
        await self.held.wait()
        if device.id in self.errors:
            raise self.errors[device.id]

    async def close(self, klass, device, request):
        await self.open(klass, device, request)


class Clock:
    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hub():
    return Hub()


@pytest.fixture
def devices(hub, clock):
    return GuardedDevices(hub, clock)


async def failing(devices, device=MRI):
    with pytest.raises(TunnelError) as raised:
        await devices.open(CLASS, device, ASK)
    return raised.value


async def opened(devices, hub):
    hub.errors["mri-7"] = Retryable(Reason.DEVICE_SILENT, "Device 'mri-7' did not answer.")
    for _ in range(THRESHOLD):
        error = await failing(devices)
    return error


async def test_a_device_that_keeps_failing_is_left_alone_and_others_are_not(devices, hub):
    error = await opened(devices, hub)
    assert error.retry_after == FIRST_WAIT
    assert error.reason is Reason.DEVICE_SILENT
    postponed = await failing(devices)
    assert isinstance(postponed, Postponed)
    assert (
        postponed.message
        == error.message
        == (
            "Device 'mri-7' did not answer. It keeps failing, so its breaker is open: the next try is "
            "at 2026-03-01T12:00:15Z."
        )
    )
    assert len(hub.calls) == THRESHOLD
    await devices.open(CLASS, CT, ASK)
    assert devices.states() == {State.OPEN: 1}
    with pytest.raises(Postponed):
        await devices.close(CLASS, MRI, None)


async def test_one_attempt_tells_for_all_tunnels(devices, hub, clock):
    await opened(devices, hub)
    clock.now += FIRST_WAIT
    hub.held.clear()
    probe = asyncio.create_task(devices.open(CLASS, MRI, ASK))
    await asyncio.sleep(0)
    assert "one attempt for all its tunnels is under way" in (await failing(devices)).message
    del hub.errors["mri-7"]
    hub.held.set()
    await probe
    await devices.open(CLASS, MRI, ASK)
    assert devices.states() == {}


async def test_an_attempt_that_is_called_off_lets_the_next_one_through(devices, hub, clock):
    await opened(devices, hub)
    clock.now += FIRST_WAIT
    hub.held.clear()
    probe = asyncio.create_task(devices.open(CLASS, MRI, ASK))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    hub.held.set()
    assert (await failing(devices)).retry_after == 2 * FIRST_WAIT


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.UNAVAILABLE])
async def test_trouble_of_the_hub_says_nothing_of_the_device(devices, hub, reason):
    hub.errors["mri-7"] = Retryable(reason, "busy")
    for _ in range(2 * THRESHOLD):
        assert not isinstance(await failing(devices), Postponed)
    assert devices.states() == {}


async def test_a_refusal_is_an_answer(devices, hub, clock):
    await opened(devices, hub)
    clock.now += FIRST_WAIT
    hub.errors["mri-7"] = Terminal(Reason.DEVICE_REFUSED, "no")
    await failing(devices)
    assert devices.states() == {}


async def test_what_nobody_asks_for_any_more_is_forgotten(devices, hub, clock):
    await opened(devices, hub)
    clock.now += timedelta(hours=2)
    hub.errors["ct-1"] = Retryable(Reason.DEVICE_OFFLINE, "offline")
    await failing(devices, CT)
    assert devices.states() == {State.CLOSED: 1}


async def test_who_asks_is_told_what_was_wrong_last(devices, hub):
    told = []

    async def open_(_klass, _device, ask):
        told.append(ask.fault)
        raise Retryable(Reason.DEVICE_OFFLINE, "offline")

    hub.open = open_
    for _ in range(2):
        with pytest.raises(Retryable):
            await devices.open(CLASS, MRI, Ask("imaging/mri-7", None, Reason.DEVICE_SILENT))
    assert told == [Reason.DEVICE_SILENT, Reason.DEVICE_OFFLINE]


async def test_a_call_that_was_not_made_says_nothing_of_the_device(devices, hub):
    hub.errors["mri-7"] = Postponed(Reason.DEVICE_SILENT, "waiting")
    for _ in range(2 * THRESHOLD):
        assert (await failing(devices)).message == "waiting"
    assert devices.states() == {}
