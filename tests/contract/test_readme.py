"""The examples of azure_sim/README.md, taken from there and run as they are written."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest

from support.azure import Azure
from tunnel_azure_sim import AzureSim, SimConfig
from tunnel_azure_sim.environment import read_environment
from tunnel_forwarder.protocol.urls import TOKEN_HEADER

README = Path(__file__).parents[2] / "azure_sim" / "README.md"
START = "python -m tunnel_azure_sim --state-dir state --device mri-7"


def example(language, word):
    """Return the block of a language that has a word in it."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE
    )
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.fixture
def environment(sim, node_modules):
    """Return what the exports make of a shell's environment."""
    exports = read_environment(sim.endpoints.ca_file.parent)
    shown = subprocess.run(
        ["sh", "-c", exports + "env -0"], capture_output=True, text=True, check=True, env={}
    )
    pairs = dict(line.partition("=")[::2] for line in shown.stdout.split("\0") if line)
    return pairs | {"PATH": os.environ["PATH"], "NODE_PATH": str(node_modules)}


@pytest.fixture
async def run(environment):
    """Return a function that runs a program until the test ends."""
    running = []

    async def start(*words):
        process = await asyncio.create_subprocess_exec(
            *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def output(process):
    """Return what a program that ends well has said."""
    said, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return said.decode().strip()


async def test_python_examples_one_after_the_other(sim, run):
    script = "\n".join(example("python", word) for word in (
        "azure-mgmt-relay, azure-identity:", "azure-iot-device:", "azure-iot-hub:",
    )) + "device.shutdown()"  # fmt: skip
    assert await output(await run(sys.executable, "-c", script)) == "{'heard': {'port': 80}}"
    assert sim.hybrid_connections().keys() == {"hc"}
    assert sim.method_calls[-1].status == 200


async def test_a_page_by_hyco_https_and_curl(sim, run):
    await Azure(sim).make_hybrid_connection("hc")
    await run("node", "-e", example("js", "hyco-https:"))
    await sim.until(lambda: sim.listeners("hc") == 1, timeout=20)
    page = await run("sh", "-c", example("sh", "a relayed web page"))
    assert await output(page) == "hello from /hc/index.html"


async def test_a_listener_by_hyco_ws(sim, run):
    azure = Azure(sim)
    await azure.make_hybrid_connection("hc")
    await run("node", "-e", example("js", "hyco-ws:"))
    await sim.until(lambda: sim.listeners("hc") == 1, timeout=20)
    url = f"https://{azure.endpoint.host}:{azure.endpoint.port}/$hc/hc?sb-hc-action=connect"
    headers = {TOKEN_HEADER: azure.token("hc").reveal()}
    tls = ssl.create_default_context(cadata=azure.authorities)
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, headers=headers, ssl=tls) as socket,
    ):
        await socket.send_str("anybody there?")
        assert (await socket.receive(timeout=10)).data == "anybody there?"


def test_the_shell_starts_it_and_learns_of_it(azure_state, tmp_path):
    address = SimConfig.for_tests(azure_state).address
    lines = example("sh", "--print-environment")
    assert START in lines
    shutil.copytree(azure_state, tmp_path / "state", dirs_exist_ok=True)
    # An address of the test's own, since others may run it on this machine too; and the wait that the
    # comment speaks of.
    started, asked = lines.replace(START, f"{START} --address {address}").splitlines()
    ready = "until [ -e state/endpoints.json ]; do sleep 0.1; kill -0 $! || exit 1; done"
    script = f'{started}\n{ready}\n{asked}\necho "$RELAY_ENDPOINT"\nkill $!\nwait $!\n'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True,
        check=False, timeout=40,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert f"sb://{address}:8442/" in ended.stdout


def test_what_a_test_is_shown_is_there():
    block = example("python", "async with AzureSim")
    compile(f"async def shown(tmp_path):\n{textwrap.indent(block, '    ')}", str(README), "exec")
    named = set(re.findall(r"\bsim\.(\w+)", block))
    assert named
    # What is set at the start is no attribute of the class.
    assert {name for name in named if not hasattr(AzureSim, name)} <= {"endpoints"}
