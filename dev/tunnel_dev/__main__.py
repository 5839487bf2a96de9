"""What `make cluster`, `make down`, `make images`, `make promtool` and `make demo` run."""

import argparse
import os
import sys
from pathlib import Path

from . import cluster, promtool
from .console import say
from .errors import DevError

TREE = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run one command; a `DevError` is a sentence for the person, not a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tunnel_dev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "cluster", help="bring the development cluster up (CLUSTER says which kind)"
    )
    commands.add_parser("down", help="stop and remove everything that was started")
    commands.add_parser("images", help="build the images and say how large they are")
    commands.add_parser("promtool", help="get what checks the alerts")
    commands.add_parser("demo", help="bring everything up and open one tunnel, end to end")
    try:
        return _run(parser.parse_args().command)
    except DevError as error:
        print(error, file=sys.stderr)
        return 1


def _run(command: str) -> int:
    match command:
        case "cluster":
            cluster.up(TREE, flavour=os.environ.get("CLUSTER") or "auto")
            return 0
        case "promtool":
            promtool.ensure()
            return 0
        case "images":
            # Imported here, as the demo is below: both need more than a cluster does.
            from . import stage  # noqa: PLC0415

            for name, size in stage.build_images(TREE).items():
                say(f"{size:>10}  {name}")
            return 0
        case "down":
            cluster.down(TREE)
            return 0
        case _:
            # Imported here: the demo's own packages need not be installed to have a cluster.
            from . import demo  # noqa: PLC0415

            return demo.run(TREE)


if __name__ == "__main__":
    sys.exit(main())
