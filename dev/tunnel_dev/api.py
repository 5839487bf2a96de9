"""Ask an API server one thing over HTTPS: just enough to wait for it."""

import http.client
import json
import ssl
from typing import Any

from .pki import ADMIN, Pki

TIMEOUT_S = 2


class Api:
    """An API server as its administrator."""

    def __init__(self, address: str, port: int, pki: Pki) -> None:
        self._address = address
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(pki.ca))
        self._tls.load_cert_chain(pki.certificate(ADMIN.file), pki.key(ADMIN.file))

    def is_ready(self) -> bool:
        """Whether it serves with its RBAC rules in place, which the first 200 of `readyz` says."""
        return self._get("/readyz")[0] == http.client.OK

    def get(self, path: str) -> Any:
        """Return the object at a path; None while there is none, or no answer."""
        status, body = self._get(path)
        return json.loads(body) if status == http.client.OK else None

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._address, self._port, timeout=TIMEOUT_S, context=self._tls
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
