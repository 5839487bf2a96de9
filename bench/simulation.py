"""A simulated Azure in a process of its own, with one hybrid connection, for the measurements here."""

import asyncio
import contextlib
import json
import os
import resource
import ssl
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import RelayEndpoint

HYBRID_CONNECTION = "bench"
_START_SECONDS = 20.0
_HOUR = 3600
_FREE_PORTS = ("--identity-port", "--arm-port", "--relay-port", "--hub-port")


@dataclass(frozen=True, slots=True)
class Simulation:
    """A running simulation and a token for its hybrid connection."""

    pid: int
    ca_file: Path
    endpoint: RelayEndpoint
    token: Secret


@contextlib.asynccontextmanager
async def simulating(directory: Path, address: str) -> AsyncIterator[Simulation]:
    """Start the simulation on a loopback address."""
    ports = [word for option in _FREE_PORTS for word in (option, "0")]
    command = (
        "-m",
        "tunnel_azure_sim",
        "--address",
        address,
        "--state-dir",
        str(directory),
        *ports,
    )
    async with running(*command, directory=directory, name="simulation") as process:
        file = directory / "endpoints.json"
        await until_exists(file, process)
        content = json.loads(file.read_text())
        endpoint = RelayEndpoint.parse(content["relay"][0]["endpoint"])
        await _make_hybrid_connection(content)
        key = content["relay"][0]["rootConnectionString"].rpartition("SharedAccessKey=")[2]
        token = sas.sign(
            f"http://{endpoint.host}/",
            key=sas.relay_key(key),
            rule="RootManageSharedAccessKey",
            expires_at=int(time.time()) + _HOUR,
        )
        yield Simulation(process.pid, Path(content["caFile"]), endpoint, token)


@contextlib.asynccontextmanager
async def running(
    *command: str, directory: Path, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Python with these arguments; what it says goes to a file."""
    async with running_program(sys.executable, *command, directory=directory, name=name) as process:
        yield process


@contextlib.asynccontextmanager
async def running_program(
    program: str, *arguments: str, directory: Path, name: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program; what it says goes to a file."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, *arguments, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 10)
            if process.returncode is None:
                process.kill()
                await process.wait()


async def until_exists(file: Path, process: asyncio.subprocess.Process) -> None:
    """Return as soon as a process has written a file. Raises TimeoutError, or ChildProcessError."""
    async with asyncio.timeout(_START_SECONDS):
        while not file.exists():
            if process.returncode is not None:
                raise ChildProcessError(f"The process for {file.name} ended; is its address free?")
            await asyncio.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Return what a process has used, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    """Return how much memory a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def raise_file_limit() -> None:
    """Let this process have as many open files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _make_hybrid_connection(content: dict[str, Any]) -> None:
    identity, arm = content["identity"], content["arm"]
    context = ssl.create_default_context(cafile=content["caFile"])
    form = {
        "grant_type": "client_credentials",
        "client_id": identity["clientId"],
        "client_secret": identity["clientSecret"],
        "scope": "https://management.azure.com/.default",
    }
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        url = f"{identity['authorityHost']}/{identity['tenantId']}/oauth2/v2.0/token"
        async with session.post(url, data=form) as response:
            token = (await response.json())["access_token"]
        url = (
            f"{arm['baseUrl']}/subscriptions/{arm['subscriptionId']}/resourceGroups"
            f"/{arm['resourceGroup']}/providers/Microsoft.Relay/namespaces/demo"
            f"/hybridConnections/{HYBRID_CONNECTION}?api-version=2024-01-01"
        )
        headers = {"Authorization": f"Bearer {token}"}
        async with session.put(url, json={}, headers=headers) as response:
            response.raise_for_status()
