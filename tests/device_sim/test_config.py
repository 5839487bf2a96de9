import pytest

from tunnel_device_sim.__main__ import _parser, main, make_config
from tunnel_device_sim.config import AllowList, SampleMode, parse_pairs
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import Forward
from tunnel_forwarder.protocol.urls import RelayEndpoint

DEVICE = "HostName=hub.azure-devices.net;DeviceId=mri-7;SharedAccessKey=a2V5=="
SAMPLE = {
    "AZRELAY_CONN_STRING": "Endpoint=sb://ns1.servicebus.windows.net/;SharedAccessKeyName=SendListen;"
    "SharedAccessKey=c2VjcmV0=",
    "SERVICE_PORT": "8090",
}


def config(*arguments, **environment):
    return make_config(_parser().parse_args(arguments), environment)


def test_the_connection_string_comes_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "connection-string"
    file.write_text(f"{DEVICE}\n")
    from_file = config("--connection-string-file", str(file))
    from_environment = config(IOTHUB_DEVICE_CONNECTION_STRING=DEVICE)
    assert from_file == from_environment
    assert from_file.device_id == "mri-7"
    assert "a2V5" not in repr(from_file)


def test_values_may_hold_equals_signs():
    assert parse_pairs(DEVICE)["SharedAccessKey"] == "a2V5=="


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ([], {}),
        (["--connection-string-file", "/nowhere"], {}),
        (["--allow", "localhost"], {"IOTHUB_DEVICE_CONNECTION_STRING": DEVICE}),
        (["--allow", "localhost:0"], {"IOTHUB_DEVICE_CONNECTION_STRING": DEVICE}),
        ([], {"IOTHUB_DEVICE_CONNECTION_STRING": "HostName=h;SharedAccessKey=secret"}),
        ([], {"IOTHUB_DEVICE_CONNECTION_STRING": "secret"}),
        ([], {"IOTHUB_DEVICE_CONNECTION_STRING": "HostName=h;DeviceId=d;SharedAccessKey=secret"}),
        (
            [],
            {"IOTHUB_DEVICE_CONNECTION_STRING": DEVICE, "AZRELAY_CONN_STRING": "Endpoint=sb://h/"},
        ),
        ([], {"IOTHUB_DEVICE_CONNECTION_STRING": DEVICE} | SAMPLE | {"SERVICE_PORT": "http"}),
    ],
)
def test_settings_that_can_not_be_used_exit_with_2(arguments, environment, monkeypatch, capsys):
    for name in ("IOTHUB_DEVICE_CONNECTION_STRING", *SAMPLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("tunnel_device_sim: ")
    assert "secret" not in complaint


def test_the_samples_variables_are_read():
    mode = SampleMode.from_environment(SAMPLE)
    assert mode.endpoint == RelayEndpoint("ns1.servicebus.windows.net")
    assert (mode.rule, mode.service_port, mode.service_protocol) == ("SendListen", 8090, "http")
    assert "c2VjcmV0" not in repr(mode)
    assert SampleMode.from_environment({}) is None


def test_only_what_is_on_the_list_is_permitted():
    allow = AllowList.parse(["LocalHost:8080", "[::1]:22"])
    assert allow.permits(Forward("web", "localhost", 8080))
    assert allow.permits(Forward("ssh", "::1", 22))
    assert not allow.permits(Forward("web", "127.0.0.1", 8080))
    assert not allow.permits(Forward("web", "localhost", 8081))
    assert not AllowList.parse([]).permits(Forward("web", "localhost", 8080))


def test_a_bad_entry_is_quoted():
    with pytest.raises(ProtocolError, match="nonsense"):
        AllowList.parse(["nonsense"])
