"""Delay between the parts, by toxiproxy: the kernel here has no netem.

A delayed leg is a proxy that holds each byte back in both directions. A TCP handshake is between
neighbours and is not delayed: who dials anew is flattered by one round trip for each leg.
"""

import json
import urllib.request
from pathlib import Path

from .processes import Programs, free_port, wait_for_port


class Legs:
    """The delayed legs of one run; `milliseconds` None has none, 0 has proxies that do not delay."""

    def __init__(self, program: Path, folder: Path, milliseconds: int | None) -> None:
        self.milliseconds = milliseconds
        self._programs = Programs(folder)
        self._port = free_port()
        if milliseconds is not None:
            self._programs.start("toxiproxy", [program, "-port", str(self._port)])
            wait_for_port(self._port)

    def to(
        self, port: int, host: str = "127.0.0.1", *, listen: tuple[str, int] | None = None
    ) -> int:
        """Return the port at which `port` is reached over a leg of its own."""
        if self.milliseconds is None:
            return port
        at, here = listen or (host, free_port(host))
        name = f"to-{port}-at-{at}-{here}"
        self._ask("proxies", {"name": name, "listen": f"{at}:{here}", "upstream": f"{host}:{port}"})
        if self.milliseconds:
            for stream in ("upstream", "downstream"):
                self._ask(
                    f"proxies/{name}/toxics",
                    {
                        "type": "latency",
                        "stream": stream,
                        "attributes": {"latency": self.milliseconds},
                    },
                )
        return here

    def stop(self) -> None:
        """Take them down."""
        self._programs.stop()

    def _ask(self, path: str, body: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/{path}", json.dumps(body).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=5).read()  # noqa: S310
