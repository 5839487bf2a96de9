"""Tiers, units, the throttle and the daily quota: the meter alone, then through the REST API."""

from dataclasses import replace

import pytest

from tunnel_azure_sim import AzureSim, HubConfig, SimConfig, Timings
from tunnel_azure_sim.errors import ConfigError
from tunnel_azure_sim.hub.errors import Code, HubError
from tunnel_azure_sim.hub.limits import TIERS, Meter

CALL = {"methodName": "Open", "payload": "x"}
METHODS = "/twins/mri-7/methods"


class Now:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def make_meter(clock, **options):
    return Meter(HubConfig("h", **options), clock)


def code_of(function, *arguments):
    with pytest.raises(HubError) as raised:
        function(*arguments)
    return raised.value.code


@pytest.mark.parametrize(("tier", "units", "calls"), [("S1", 1, 40), ("F1", 1, 40), ("S2", 2, 240)])
def test_throttle_is_metered_in_steps_of_4_kb(tier, units, calls):
    clock = Now()
    meter = make_meter(clock, tier=tier, units=units)
    for _ in range(calls):
        meter.charge_method(1)
    assert code_of(meter.charge_method, 1) is Code.ThrottlingException
    clock.now += 0.5
    for _ in range(calls // 4):
        meter.charge_method(4097)
    assert code_of(meter.charge_method, 1) is Code.ThrottlingException


def test_quota_counts_chunks_and_begins_anew_at_midnight():
    clock = Now()
    meter = make_meter(clock, daily_messages=5)
    meter.charge_method(6 * 1024)
    meter.count(1024)
    assert meter.messages_today == 3
    meter.count(0)
    meter.count(0, least=1)
    meter.charge_method(0)
    assert meter.messages_today == 5
    assert code_of(meter.charge_method, 0) is Code.IotHubQuotaExceeded
    assert code_of(meter.check_quota) is Code.IotHubQuotaExceeded
    clock.now += 86_400
    meter.charge_method(0)


def test_messages_of_the_free_tier_are_smaller():
    meter = make_meter(Now(), tier="F1")
    meter.count(1024)
    assert meter.messages_today == 2


@pytest.mark.parametrize("tier", [name for name in TIERS if name.startswith("B")])
def test_basic_tiers_have_no_methods(tier):
    meter = make_meter(Now(), tier=tier)
    assert code_of(meter.charge_method, 1) is Code.OperationNotAvailableInCurrentTier


@pytest.fixture
def limits():
    return {}


@pytest.fixture
async def sim(state_dir, clock, limits):
    config = SimConfig.for_tests(state_dir, timings=Timings(close=1.0), clock=clock)
    hub = HubConfig("demo-hub", ("mri-7",), port=0, **limits)
    async with AzureSim(replace(config, hubs=(hub,))) as running:
        yield running


@pytest.mark.parametrize("limits", [{"tier": "B1"}])
async def test_basic_hub_refuses_methods_twins_and_modules(rest):
    expected = (403010, "OperationNotAvailableInCurrentTier")
    assert await rest.error("POST", METHODS, json=CALL) == expected
    assert await rest.error("GET", "/twins/mri-7") == expected
    assert await rest.error("PUT", "/devices/mri-7/modules/m", json={}) == expected
    assert (await rest.call("GET", "/devices/mri-7"))[0] == 200


@pytest.mark.parametrize("limits", [{"daily_messages": 3}])
async def test_used_up_quota_refuses_methods_and_lists(mqtt, rest):
    expected = (403002, "IotHubQuotaExceeded")
    client = await mqtt.connected()
    # Telemetry counts; so does a call to a device that is not there to answer.
    topic = b"\x00\x1edevices/mri-7/messages/events/"
    client.send(0x32, topic + b"\x00\x01" + b"x" * 5000)
    assert await client.receive() == (0x40, b"\x00\x01")
    assert (await rest.error("POST", METHODS, json=CALL))[0] == 404103
    assert await rest.error("POST", METHODS, json=CALL) == expected
    assert await rest.error("GET", "/devices") == expected
    assert (await rest.call("GET", "/devices/mri-7"))[0] == 200


@pytest.mark.parametrize("limits", [{"tier": "S1"}])
async def test_too_many_calls_for_the_units_are_throttled(rest, clock):
    call = CALL | {"payload": "x" * 100_000}
    assert (await rest.error("POST", METHODS, json=call))[0] == 404103
    assert await rest.error("POST", METHODS, json=call) == (429001, "ThrottlingException")
    clock.forward(1)
    assert (await rest.error("POST", METHODS, json=call))[0] == 404103


@pytest.mark.parametrize("limits", [{"tier": "S4"}, {"units": 0}])
async def test_tiers_that_are_not_there(state_dir, limits):
    hub = HubConfig("demo-hub", port=0, **limits)
    config = replace(SimConfig.for_tests(state_dir), hubs=(hub,))
    with pytest.raises(ConfigError):
        await AzureSim(config).__aenter__()
