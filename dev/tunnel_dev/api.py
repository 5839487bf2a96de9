"""One request to an API server over HTTPS: enough to wait for it, and for what is not worth a kubectl."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from .errors import DevError
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

    def apply(self, path: str, body: Mapping[str, Any]) -> None:
        """Make the object at a path as the body says, by server-side apply. Raises DevError."""
        where = f"{path}?fieldManager=edge-tunnels&force=true"
        status, answer = self._request("PATCH", where, json.dumps(body))
        if status not in (http.client.OK, http.client.CREATED):
            raise DevError(f"The API server answered {status} to {path}: {answer.decode()}")

    def _get(self, path: str) -> tuple[int, bytes]:
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._address, self._port, timeout=TIMEOUT_S, context=self._tls
        )
        try:
            headers = {} if body is None else {"Content-Type": "application/apply-patch+yaml"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
