"""A device as the Azure sample has it: it ignores what it is told, listens by its own connection string on
the hybrid connection of its name, and serves one port under the name `test`."""

import pytest

from support.kubectl import KubectlError, eventually

PORT = [{"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"}]


@pytest.fixture
def class_options():
    return {"hybridConnectionNaming": "Device", "portName": "test"}


@pytest.fixture
def device_environment(azure):
    return {
        "AZRELAY_CONN_STRING": azure.endpoints.relay[0].root_connection_string.reveal(),
        "SERVICE_PROTOCOL": "http",
        "SERVICE_PORT": "8080",
    }


async def test_the_samples_device_is_met_unchanged(stage):
    await stage.open(ports=PORT)
    [connection] = stage.azure.hybrid_connections().values()
    assert (connection.name, connection.listeners) == ("mri-7", 1)
    assert [rule.rpartition("-")[0] for rule in connection.rules] == ["tunnel-send"]
    [call] = stage.azure.method_calls
    assert call.method == "CreateConnection"
    assert not call.payload
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    assert stage.azure.method_calls[-1].method == "DeleteConnection"


async def test_more_than_one_port_is_refused_with_a_sentence(stage, tunnel_class):
    # The policy takes a moment to heed a new class; what it lets pass, the operator refuses.
    name = tunnel_class["metadata"]["name"]
    sentence = f"Devices of TunnelClass '{name}' serve one port; spec.ports has 2."
    await eventually(lambda: sentence in refusal(stage))


def refusal(stage):
    try:
        stage.apply()
    except KubectlError as error:
        return str(error)
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace)
    return ""
