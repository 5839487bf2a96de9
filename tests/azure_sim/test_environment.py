"""What a shell is told of a running simulation."""

import subprocess
import sys

import pytest

from tunnel_azure_sim.environment import read_environment
from tunnel_azure_sim.errors import ConfigError


async def test_exports_are_what_a_shell_reads(sim, state_dir):
    exports = read_environment(state_dir)
    names = ("AZURE_ARM_BASE_URL", "RELAY_CONNECTION_STRING", "IOTHUB_DEVICE_CONNECTION_STRING")
    script = exports + "".join(f'printf "%s\\n" "${name}";' for name in names)
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: ASYNC221
    assert output.splitlines() == [
        sim.endpoints.arm_base_url,
        sim.endpoints.relay[0].root_connection_string.reveal(),
        sim.endpoints.hubs[0].devices[0].connection_string.reveal(),
    ]
    assert "export RELAY_ENDPOINT_DEMO=" in exports
    assert "export IOTHUB_DEVICE_CONNECTION_STRING_DEMO_HUB_MRI_7=" in exports


def test_nothing_runs(tmp_path):
    with pytest.raises(ConfigError):
        read_environment(tmp_path)
    (tmp_path / "endpoints.json").write_text("{")
    with pytest.raises(ConfigError):
        read_environment(tmp_path)
    words = ["-m", "tunnel_azure_sim", "--print-environment", "--state-dir", str(tmp_path / "no")]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "No simulation runs" in ended.stderr
