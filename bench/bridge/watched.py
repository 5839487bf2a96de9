"""The forwarder's command as it is, and one thing besides: on SIGUSR1 it tells which tasks it has.

`python -m bridge.watched FILE serve ...`; the tasks' names and what they run are written to FILE as JSON.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from tunnel_forwarder import __main__ as command


def main() -> int:
    """Run the command with the loop's start wrapped."""
    file = Path(sys.argv[1])
    plain = uvloop.run

    def run(work: object, **options: object) -> object:
        async def watched() -> object:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, lambda: tell(file))
            return await work  # type: ignore[misc]

        return plain(watched(), **options)

    uvloop.run = run
    return command.main(sys.argv[2:])


def tell(file: Path) -> None:
    """Write down which tasks there are; the file appears at one blow."""
    names = sorted(f"{task.get_name()} {_what(task)}" for task in asyncio.all_tasks())
    new = file.with_suffix(".new")
    new.write_text(json.dumps(names))
    new.rename(file)


def _what(task: asyncio.Task[object]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


if __name__ == "__main__":
    sys.exit(main())
