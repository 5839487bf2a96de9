"""The HTTP endpoints of a local forwarder, for the kubelet, Prometheus and people."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from . import http, tcp
from .http import Response
from .metrics import CONTENT_TYPE


class Subject(Protocol):
    """Whose health it is."""

    @property
    def ready(self) -> bool:
        """Whether the path to the device is proven."""

    @property
    def why(self) -> str:
        """Why it is ready or not, in a sentence."""


def serving(
    subject: Subject,
    *,
    port: int,
    metrics: Callable[[], bytes],
    status: Callable[[], Mapping[str, object]],
) -> AbstractAsyncContextManager[int]:
    """Answer while the block runs, on all interfaces; the block gets the port.

    /livez says that the event loop turns, /readyz that a client would reach the device.
    """

    def readyz() -> Response:
        return Response(f"{subject.why}\n".encode(), 200 if subject.ready else 503)

    routes = {
        "/livez": lambda: Response(b"The forwarder runs.\n"),
        "/readyz": readyz,
        "/metrics": lambda: Response(metrics(), content_type=CONTENT_TYPE),
        "/status": lambda: Response(json.dumps(status()).encode(), content_type="application/json"),
    }
    return http.serving(routes, tcp.listen(port))
