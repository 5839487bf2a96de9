"""What all tunnels lead to: a server that does what the first line says.

echo        sends back what comes
source N    sends N bytes, then ends
sink N      takes N bytes, then answers "done"
half        reads to the end, then answers how many bytes came
"""

import asyncio
import contextlib
import sys

import uvloop

BLOCK = b"\x5a" * (256 * 1024)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what the first line says."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
        command, _, count = (await reader.readline()).decode().strip().partition(" ")
        match command:
            case "echo":
                while data := await reader.read(1 << 16):
                    writer.write(data)
            case "source":
                left = int(count)
                while left > 0:
                    writer.write(BLOCK[: min(left, len(BLOCK))])
                    left -= len(BLOCK)
                    await writer.drain()
            case "sink":
                left = int(count)
                while left > 0 and (data := await reader.read(1 << 18)):
                    left -= len(data)
                writer.write(b"done")
            case "half":
                total = 0
                while data := await reader.read(1 << 16):
                    total += len(data)
                writer.write(b"%d" % total)
        await writer.drain()
        writer.write_eof()
        await reader.read()
    writer.close()


async def main(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 18, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
