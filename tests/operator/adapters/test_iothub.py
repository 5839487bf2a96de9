"""The operator's way to devices, over a hub whose calls block as those of the SDK do."""

import asyncio
import base64
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from msrest.exceptions import HttpOperationError

from support.tunnels import NOON, a_class
from tunnel_operator.adapters.budget import Budget
from tunnel_operator.adapters.calls import Terms
from tunnel_operator.adapters.iothub import (
    MOST_CONNECT_SECONDS,
    MOST_RESPONSE_SECONDS,
    HubDevices,
)
from tunnel_operator.adapters.lanes import Lanes
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Device
from tunnel_operator.core.actions import Ask
from tunnel_operator.errors import Postponed, Retryable, Terminal
from tunnel_operator.runtime.guard import GuardedDevices
from tunnel_operator.runtime.leadership import Leadership, NotLeadingError

CLASS = a_class().spec
WITH_SECRET = a_class(
    iotHub={"hostName": "clinic.azure-devices.net", "connectionStringSecretRef": {"name": "hub"}}
).spec
CONNECTION_STRING = "HostName=h;SharedAccessKeyName=service;SharedAccessKey="
WORKERS = 64
SILENT = [f"silent-{number}" for number in range(200)]


class Hub:
    """A hub with devices that answer, and such whose calls go on until they are said not to have answered."""

    def __init__(self):
        self.asked = Counter()
        self.methods = []
        self.under_way = 0
        self.clients = 0
        self.given_up = threading.Event()
        self.lock = threading.Lock()
        self.connected_with = []
        self.refusals = []

    def connect(self, _host, connection_string):
        self.clients += 1
        self.connected_with.append(connection_string)
        config = SimpleNamespace(connection=SimpleNamespace(timeout=100))
        return SimpleNamespace(
            protocol=SimpleNamespace(config=config), invoke_device_method=self.invoke
        )

    def invoke(self, device, method):
        with self.lock:
            self.asked[device] += 1
            self.methods.append(method)
            self.under_way += 1
        if self.refusals:
            self.under_way -= 1
            raise self.refusals.pop()
        if device.startswith("silent"):
            self.given_up.wait(30)
        with self.lock:
            self.under_way -= 1
        if device.startswith("silent"):
            raise refused(504, "GatewayTimeout")
        return SimpleNamespace(status=200, payload=None)

    async def until_under_way(self, number):
        async with asyncio.timeout(10):
            while self.under_way != number:  # noqa: ASYNC110
                await asyncio.sleep(0)


def refused(status, name, headers=()):
    error = HttpOperationError.__new__(HttpOperationError)
    Exception.__init__(error, name)
    error.response = SimpleNamespace(
        status_code=status, headers={"iothub-errorcode": name, **dict(headers)}, text=""
    )
    return error


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.given_up.set()


class Secrets:
    """The operator's own Secrets, of which there is one."""

    text = b""

    async def secret_value(self, _namespace, _name, _key):
        return base64.b64encode(self.text)


@pytest.fixture
def secrets():
    return Secrets()


@pytest.fixture
def leadership():
    held = Leadership(lambda: 0.0)
    held.grant(1.0)
    return held


@pytest.fixture
def devices(hub, secrets, leadership):
    def make_terms():
        budget = Budget("IoT Hub", rate=1000, burst=1000, monotonic=lambda: 0.0)
        return Terms(budget, lambda *_: None, leadership.require)

    lanes = Lanes(WORKERS * 3 // 4, lambda: 0.0)
    made = HubDevices(hub.connect, secrets, "tunnels-system", make_terms, lanes)
    yield GuardedDevices(made, lambda: NOON)
    hub.given_up.set()
    made.close_threads()


def ask(name, fault=None):
    async def make():
        return None

    return Ask(f"imaging/{name}", make, fault)


async def opened(devices, name, fault=None):
    return await devices.open(CLASS, Device(id=name), ask(name, fault))


def open_all(devices, names):
    return [asyncio.create_task(opened(devices, name)) for name in names]


async def faults(calls):
    return [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)]


async def test_silent_devices_take_nothing_from_the_others(devices, hub):
    # Nothing is known of them at first.
    calls = open_all(devices, SILENT)
    await hub.until_under_way(16)
    hub.given_up.set()
    found = Counter(await faults(calls))
    assert found == {Retryable: 16, Postponed: len(SILENT) - 16}
    while sum(hub.asked[name] > 0 for name in SILENT) < len(SILENT):
        await faults(open_all(devices, SILENT))
    # From now on it is known that they are silent.
    hub.given_up.clear()
    calls = open_all(devices, SILENT)
    await hub.until_under_way(16)
    async with asyncio.timeout(5):
        await opened(devices, "healthy")
        await devices.close(CLASS, Device(id="expiring"), None)
        waiting = await faults(t for t in calls if t.done())
    assert set(waiting) == {Postponed}
    assert sum(not call.done() for call in calls) == 16
    hub.given_up.set()
    assert Counter(await faults(calls)) == {Retryable: 16, Postponed: len(SILENT) - 16}


async def test_what_an_earlier_process_knew_of_silent_devices_holds(devices, hub):
    known = Reason.DEVICE_SILENT
    calls = [asyncio.create_task(opened(devices, name, known)) for name in SILENT]
    await hub.until_under_way(16)
    async with asyncio.timeout(5):
        await opened(devices, "healthy")
    hub.given_up.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert {error.reason for error in errors} == {known}
    assert str(errors[-1]).startswith(
        "Device 'silent-199' did not listen when it was last asked. It is asked again when it is its turn "
        "among such devices, 183 ahead"
    )


async def test_closings_of_silent_devices_leave_workers_and_calls_to_others(devices, hub):
    calls = [asyncio.create_task(devices.close(CLASS, Device(id=name), None)) for name in SILENT]
    await hub.until_under_way(16)
    async with asyncio.timeout(5):
        await opened(devices, "healthy")
    assert sum(not call.done() for call in calls) == 16
    hub.given_up.set()
    await faults(calls)
    method = hub.methods[0]
    assert (method.connect_timeout_in_seconds, method.response_timeout_in_seconds) == (0, 10)


async def test_calls_one_after_the_other_share_a_thread_and_its_client(devices, hub):
    for number in range(20):
        await opened(devices, f"healthy-{number}")
    assert hub.clients == 1
    await asyncio.gather(*(opened(devices, f"healthy-{number}") for number in range(5)))
    assert hub.clients <= 5


@pytest.mark.parametrize("text", [
    b"",
    b"garbage",
    b"\xff\xfe",
    b"HostName=h;SharedAccessKeyName=service",
    b"HostName=h;DeviceId=d;SharedAccessKey=AAAA",
    b"HostName=h;SharedAccessKeyName=;SharedAccessKey=AAAA",
    b"HostName=h;HostName=h;SharedAccessKeyName=service;SharedAccessKey=AAAA",
    b"HostName=h;SharedAccessKeyName=service;SharedAccessKey=not*base64!",
    "HostName=h;SharedAccessKeyName=service;SharedAccessKey=schlüssel".encode(),
    b"Endpoint=sb://h.servicebus.windows.net/;SharedAccessKeyName=service;SharedAccessKey=AAAA",
])  # fmt: skip
async def test_what_is_no_connection_string_is_said_without_quoting_it(devices, secrets, hub, text):
    secrets.text = text
    with pytest.raises(Terminal) as raised:
        await devices.open(WITH_SECRET, Device(id="mri-7"), ask("mri-7"))
    assert raised.value.reason is Reason.UNAUTHORIZED
    assert raised.value.message == (
        "The Secret 'hub', key 'connectionString', in the operator's namespace 'tunnels-system' holds no IoT "
        "Hub connection string: copy that of the policy 'service' there as it is, "
        "HostName=…;SharedAccessKeyName=…;SharedAccessKey=…."
    )
    assert raised.value.__cause__ is None
    assert hub.asked.total() == 0
    # The slots are free again.
    secrets.text = CONNECTION_STRING.encode() + b"AAAA\n"
    for _ in range(20):
        await devices.open(WITH_SECRET, Device(id="mri-7"), ask("mri-7"))


async def test_a_connection_string_that_was_rotated_is_used_from_the_next_call_on(
    devices, secrets, hub
):
    for key in ("AAAA", "AAAA", "BBBB", "BBBB"):
        secrets.text = f"{CONNECTION_STRING}{key}".encode()
        await devices.open(WITH_SECRET, Device(id="mri-7"), ask("mri-7"))
    assert hub.connected_with == [f"{CONNECTION_STRING}AAAA", f"{CONNECTION_STRING}BBBB"]


async def test_who_lost_the_lead_while_the_request_was_made_asks_nobody(devices, hub, leadership):
    async def make():
        leadership.revoke()

    with pytest.raises(NotLeadingError):
        await devices.open(CLASS, Device(id="mri-7"), Ask("imaging/mri-7", make))
    with pytest.raises(NotLeadingError):
        await devices.close(CLASS, Device(id="mri-7"), None)
    assert hub.asked.total() == 0


async def test_a_hub_that_asks_to_be_spared_is_not_asked_for_other_devices_either(devices, hub):
    wait = {"Retry-After": "40"}
    hub.refusals = [refused(429, "ThrottlingException", wait)]
    with pytest.raises(Retryable) as raised:
        await opened(devices, "mri-7")
    assert raised.value.retry_after.total_seconds() == 40
    with pytest.raises(Postponed, match="IoT Hub's budget, 0 ahead, about 40 s"):
        await opened(devices, "ct-1")
    with pytest.raises(Postponed):
        await devices.close(CLASS, Device(id="ct-2"), None)
    assert hub.asked == {"mri-7": 1}
    # Another hub has said nothing of the kind.
    another = a_class(iotHub={"hostName": "another.azure-devices.net"}).spec
    await devices.open(another, Device(id="ct-1"), ask("ct-1"))


async def test_a_device_that_has_too_much_to_do_holds_nobody_up(devices, hub):
    hub.refusals = [refused(403, "DeviceMaximumInflightMethodExceeded", {"Retry-After": "40"})]
    with pytest.raises(Retryable):
        await opened(devices, "mri-7")
    await opened(devices, "ct-1")


async def test_no_class_may_have_a_call_outlast_a_pass(devices, hub):
    asked = {"responseTimeoutSeconds": 300, "connectTimeoutSeconds": 300}
    klass = a_class(iotHub={"hostName": "clinic.azure-devices.net", **asked}).spec
    await devices.open(klass, Device(id="mri-7"), ask("mri-7", Reason.DEVICE_OFFLINE))
    [method] = hub.methods
    assert method.response_timeout_in_seconds == MOST_RESPONSE_SECONDS
    assert method.connect_timeout_in_seconds == MOST_CONNECT_SECONDS


async def test_a_device_is_waited_for_once_it_is_known_to_be_offline(devices, hub):
    hub.refusals = [refused(404, "DeviceNotOnline")]
    with pytest.raises(Retryable) as raised:
        await opened(devices, "mri-7")
    assert raised.value.reason is Reason.DEVICE_OFFLINE
    for _ in range(2):
        await opened(devices, "mri-7")
    waits = [method.connect_timeout_in_seconds for method in hub.methods]
    assert waits == [0, CLASS.iot_hub.connect_timeout_seconds, 0]
