"""A managed identity, by the endpoint that App Service has.

Documentation "How to use managed identities for App Service", REST endpoint reference: GET with
`X-IDENTITY-HEADER`, which keeps requests out that a workload was tricked into.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

from ..config import Clock
from .tokens import ALL_AUDIENCES, Tokens

PATH = "/msi/token"
API_VERSION = "2019-08-01"

ASSUMED_MANAGED_IDENTITY_ERRORS = {"header": 401, "version": 400, "identity": 400, "resource": 500}
"""The statuses; the body is `statusCode` and `message`, which is what MSAL reads. 500 for an unknown
resource is from MSAL's source ("empirically"), the others are guesses."""

_NAMES = ("client_id", "mi_res_id", "object_id", "principal_id")


@dataclass
class ManagedIdentityError(Exception):
    """A request is refused."""

    kind: str
    sentence: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return ASSUMED_MANAGED_IDENTITY_ERRORS[self.kind]


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """One system-assigned identity, which is the same principal as the tenant's application."""

    client_id: str
    header: Secret
    tokens: Tokens
    token_seconds: float
    clock: Clock

    def token(self, query: Mapping[str, str], header: str | None) -> dict[str, Any]:
        """Return the body of a token. Raises ManagedIdentityError."""
        if not hmac.compare_digest((header or "").encode(), self.header.reveal().encode()):
            raise ManagedIdentityError("header", "X-IDENTITY-HEADER is missing or wrong.")
        if query.get("api-version") != API_VERSION:
            raise ManagedIdentityError("version", f"The api-version must be {API_VERSION}.")
        if any(name in query and query[name] != self.client_id for name in _NAMES):
            raise ManagedIdentityError(
                "identity",
                "No User Assigned or Delegated Managed Identity found for specified "
                "ClientId/ResourceId/PrincipalId.",
            )
        resource = query.get("resource", "")
        if resource.rstrip("/") not in ALL_AUDIENCES:
            raise ManagedIdentityError("resource", "The resource is not known in the tenant.")
        token = self.tokens.issue(resource, subject=self.client_id, seconds=self.token_seconds)
        return {
            "access_token": token,
            "expires_on": str(int(self.clock()) + int(self.token_seconds)),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": self.client_id,
        }
