"""The way of a client by azbridge's own sequence: dial, wait for the device, ask, wait, and only then its bytes."""

import asyncio
import ssl
import sys
from pathlib import Path

import uvloop

from support.azbridge import Sender


async def main(port: int, base: str, ca_file: str, token_file: str) -> None:
    """Take clients for the port name `bench` for ever."""
    tls = ssl.create_default_context(cafile=ca_file)
    sender = Sender(base, tls, Path(token_file).read_text())
    async with sender.forwarding("bench", port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
