"""The load test of the simulated relay, scaled down; `bench/load.py` alone is the real one."""

import asyncio
import re
import sys
from pathlib import Path

LOAD = Path(__file__).parents[2] / "bench/load.py"


async def test_no_stream_is_lost():
    words = ["--idle", "150", "--rate", "20", "--seconds", "3", "--address", "127.0.0.36"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(LOAD), *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 50)
    text = output.decode()
    print(text)  # noqa: T201 - the figures are what this is for
    assert process.returncode == 0, text
    assert re.search(r"lost +0$", text, re.MULTILINE)
