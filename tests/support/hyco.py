"""Azure Relay's own Node clients: installed once, outside the tree, and run as processes."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "contract" / "node"
_FILES = ("package.json", "package-lock.json", ".npmrc")


def install() -> Path:
    """Return the folder of the installed packages; skip only where there is no Node at all."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"hyco-ws and hyco-https need {' and '.join(missing)}, which is not on PATH")
    content = b"".join((FOLDER / name).read_bytes() for name in _FILES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-tunnels"
    target = cache / f"hyco-{hashlib.sha256(content).hexdigest()[:16]}"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache))
        for name in _FILES:
            shutil.copy(FOLDER / name, made)
        # No script of any package is needed, and so none is run.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=made, check=True, capture_output=True, timeout=180)
        with contextlib.suppress(FileExistsError, OSError):
            made.rename(target)  # Another run may have been faster.
    return target / "node_modules"


class NodeScript:
    """One of the scripts, and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, object]] = []

    async def event(self, name: str, *, within: float = 20.0) -> dict[str, object]:
        """Return the next event of a name; an end without it fails."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within):
            while line := await self.process.stdout.readline():
                event = json.loads(line)
                self.events.append(event)
                if event["event"] == name:
                    return event
        raise AssertionError(f"ended without {name!r}: {self.events}")


@contextlib.asynccontextmanager
async def script(
    modules: Path, name: str, *, ca_file: Path, **environment: str
) -> AsyncIterator[NodeScript]:
    """Run a script while inside."""
    own = {"NODE_PATH": str(modules), "NODE_EXTRA_CA_CERTS": str(ca_file), "NODE_NO_WARNINGS": "1"}
    process = await asyncio.create_subprocess_exec(
        "node",
        str(FOLDER / name),
        env={"PATH": os.environ["PATH"]} | own | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield NodeScript(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
