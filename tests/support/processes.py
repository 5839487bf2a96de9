"""Programs of this project, run as their own processes."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path


class Program:
    """One `python -m MODULE`, which can be stopped, killed and started again."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], log: Path
    ) -> None:
        self._argv = (sys.executable, "-m", module, *arguments)
        # Nothing of the caller's own cluster or cloud gets in.
        hidden = ("KUBE", "AZURE_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.environment = inherited | dict(environment)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def output(self) -> str:
        """What it printed since its first start."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.returncode

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, env=self.environment, stdout=log, stderr=log
            )

    def freeze(self) -> None:
        """Stop it in its tracks, as a paused machine would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def strike(self) -> None:
        """Kill it as by kill -9, without waiting for its end."""
        assert self._process is not None
        self._process.kill()

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it as by kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it as Kubernetes does; return its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(40):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise


def health_port(operator: Program) -> int:
    """Return the port that the operator has chosen for its probes and metrics; 0 before it has."""
    ports = [
        json.loads(line)["health_port"]
        for line in operator.output.splitlines()
        if '"event": "operator.starting"' in line
    ]
    return int(ports[-1]) if ports else 0
