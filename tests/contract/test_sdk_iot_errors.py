"""Each error of IoT Hub that azure-iot-hub can be given, unmodified, and what the operator makes of it."""

import asyncio
import base64
import json
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from azure.iot.hub import IoTHubRegistryManager

from support.iot import call, closing, device_client, error_of, serve
from support.proxy import ConnectProxy
from support.waiting import until
from tunnel_azure_sim import AzureSim, HubConfig, HubFailure, SimConfig, Timings
from tunnel_azure_sim.hub.errors import Code
from tunnel_operator.adapters.budget import Budget
from tunnel_operator.adapters.calls import Terms
from tunnel_operator.adapters.hub_client import make_hub_client
from tunnel_operator.adapters.iothub import HubDevices
from tunnel_operator.adapters.lanes import Lanes
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Device
from tunnel_operator.api.tunnel_class import IoTHub, TunnelClassSpec
from tunnel_operator.core.actions import Ask
from tunnel_operator.errors import Retryable, Terminal


async def test_wrong_policy_key_is_refused(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    text = sim.endpoints.hubs[0].connection_string.reveal()
    wrong = text.partition("SharedAccessKey=")[0] + "SharedAccessKey=d3Jvbmcga2V5IQ=="
    manager = IoTHubRegistryManager.from_connection_string(wrong)
    with manager.protocol:
        assert (await error_of(call(manager)))[:2] == (401, "IotHubUnauthorizedAccess")


@pytest.fixture
async def silent(sim):
    """Return the open calls of a device that answers nothing."""
    client = device_client(sim)

    async def say_nothing(_request):
        pass

    await serve(client, say_nothing)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    yield sim._hub(None).existing("mri-7").calls
    if not sim.device("mri-7").connected:
        # Ended from outside: the SDK raises when it learns that in the middle of its own shutdown.
        await until(lambda: not client.connected)
    await client.shutdown()


async def test_loss_in_mid_call(sim, manager, silent):
    calling = asyncio.create_task(error_of(call(manager, response=300)))
    await sim.until(lambda: len(silent) == 1)
    sim._hub(None).existing("mri-7").session.abort()
    assert (await calling)[:2] == (404, "DeviceConnectionClosedRemotely")


async def test_eviction_in_mid_call(sim, manager, silent):
    calling = asyncio.create_task(error_of(call(manager, response=300)))
    await sim.until(lambda: len(silent) == 1)
    second = device_client(sim)
    await second.connect()
    assert (await calling)[:2] == (400, "ConnectionForcefullyClosedOnNewConnection")
    await second.shutdown()


async def test_too_many_calls_in_flight(manager, silent):
    for number in range(50):
        silent[str(number)] = asyncio.get_running_loop().create_future()
    error = await error_of(call(manager))
    silent.clear()  # Nobody waits for these.
    assert error[:2] == (403, "DeviceMaximumInflightMethodExceeded")


@pytest.mark.parametrize(("limits", "expected"), [
    ({"tier": "B1"}, (403, "OperationNotAvailableInCurrentTier")),
    ({"daily_messages": 0}, (403, "IotHubQuotaExceeded")),
    ({"tier": "S1"}, (429, "ThrottlingException")),
])  # fmt: skip
async def test_limits_of_the_hub(azure_state, monkeypatch, limits, expected):
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    config = replace(config, hubs=(HubConfig("demo-hub", ("mri-7",), port=0, **limits),))
    async with AzureSim(config) as sim:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
        with closing(sim.endpoints.hubs[0].connection_string) as manager:
            # urllib3 repeats nothing by itself here: the answer is the first one.
            manager.protocol.config.retry_policy.retries = 0
            if expected[0] == 429:
                assert (await error_of(call(manager, payload="x" * 100_000)))[0] == 404
            assert (await error_of(call(manager, payload="x" * 100_000)))[:2] == expected


class HubSecret:
    """The hub's connection string, as the operator's own Secret."""

    def __init__(self, text):
        self.text = text

    async def secret_value(self, _namespace, _name, _key):
        return base64.b64encode(self.text.encode())


@pytest.fixture
def operator_devices(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    """Return how the operator opens a device: its own adapter, over the SDK."""
    hub = IoTHub.model_validate(
        {
            "hostName": sim.endpoints.hubs[0].host_name,
            "connectionStringSecretRef": {"name": "hub", "key": "connectionString"},
        }
    )
    secrets = HubSecret(sim.endpoints.hubs[0].connection_string.reveal())
    devices = HubDevices(
        partial(make_hub_client, None),
        secrets,
        "tunnels-system",
        lambda: Terms(
            Budget("iothub", rate=100, burst=100, monotonic=time.monotonic),
            lambda *_: None,
            lambda: None,
        ),
        Lanes(3, time.monotonic),
    )
    klass = TunnelClassSpec.model_construct(iot_hub=hub)

    async def nothing() -> None:
        """Send no payload, as to a stock device."""

    yield lambda: devices.open(klass, Device(id="mri-7"), Ask("imaging/mri-7", nothing))
    devices.close_threads()


UNAVAILABLE, THROTTLED = Reason.UNAVAILABLE, Reason.THROTTLED


@pytest.mark.parametrize(("code", "reason"), [
    (Code.ThrottlingException, THROTTLED),
    (Code.ThrottleBacklogLimitExceeded, THROTTLED),
    (Code.ThrottlingBacklogTimeout, THROTTLED),
    (Code.ThrottlingMaxActiveJobCountExceeded, THROTTLED),
    (Code.DeviceThrottlingLimitExceeded, THROTTLED),
    (Code.ServerError, UNAVAILABLE),
    (Code.GenericTimeout, UNAVAILABLE),
    (Code.ServiceUnavailable, UNAVAILABLE),
    (Code.PartitionNotFound, UNAVAILABLE),
])  # fmt: skip
@pytest.mark.usefixtures("device")
async def test_errors_of_the_service_itself(sim, manager, operator_devices, code, reason):
    manager.protocol.config.retry_policy.retries = 0
    await sim.inject(HubFailure(code, "methods", times=2, retry_after=7))
    status, name, text = await error_of(call(manager))
    assert (status, name) == (code // 1000, code.name)
    assert json.loads(json.loads(text)["Message"])["errorCode"] == code
    with pytest.raises(Retryable) as raised:
        await operator_devices()
    assert raised.value.reason is reason
    assert raised.value.retry_after == timedelta(seconds=7)
    assert sim.method_calls == ()
    # The fault is used up: the next call reaches the device.
    assert (await call(manager)).status == 202


@pytest.mark.usefixtures("device")
async def test_the_operators_calls_share_a_connection(sim, operator_devices, monkeypatch):
    async with ConnectProxy().running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        for _ in range(2):
            with pytest.raises(Terminal, match="answered 202"):
                await operator_devices()
    assert proxy.asked == [f"CONNECT {sim.endpoints.hubs[0].host_name}"]
