"""POST /{tenant}/oauth2/v2.0/token for the client-credentials grant with an assertion.

Documentation "Microsoft identity platform and the OAuth 2.0 client credentials flow", third case:
access token request with a federated credential.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from ..config import Clock
from .assertion import AssertionChecker
from .errors import TokenRequestError
from .tokens import ALL_AUDIENCES, Tokens

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SUFFIX = "/.default"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdentityService:
    """The token endpoint of one tenant with one application."""

    tenant_id: str
    client_id: str
    tokens: Tokens
    assertions: AssertionChecker
    token_seconds: float
    clock: Clock

    def handle(self, method: str, path: str, form: Mapping[str, str]) -> Answer:
        """Answer one request."""
        try:
            return self._handle(method, path, form)
        except TokenRequestError as refusal:
            _log.info("identity.refused", error=refusal.error, code=refusal.code)
            return self._refusal(refusal)

    def _handle(self, method: str, path: str, form: Mapping[str, str]) -> Answer:
        tenant, _, rest = path.strip("/").partition("/")
        if rest != "oauth2/v2.0/token" or method != "POST":
            raise TokenRequestError("invalid_request", 90023, "There is nothing here.", status=404)
        if tenant != self.tenant_id:
            raise TokenRequestError("invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials":
            raise TokenRequestError(
                "unsupported_grant_type", 70003, "Only client_credentials is served."
            )
        if form.get("client_id") != self.client_id:
            raise TokenRequestError("unauthorized_client", 700016, "The application is not known.")
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise TokenRequestError(
                "invalid_client", 7000218, "client_assertion must be a JWT.", status=401
            )
        audience = _audience(form.get("scope", ""))
        subject = self.assertions.check(form.get("client_assertion", ""))
        token = self.tokens.issue(audience, subject=self.client_id, seconds=self.token_seconds)
        _log.info("identity.token_issued", audience=audience, workload=subject)
        seconds = int(self.token_seconds)
        body = {
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": token,
        }
        return Answer(200, body)

    def _refusal(self, refusal: TokenRequestError) -> Answer:
        moment = datetime.fromtimestamp(self.clock(), UTC)
        body = {
            "error": refusal.error,
            "error_description": f"AADSTS{refusal.code}: {refusal.sentence}",
            "error_codes": [refusal.code],
            "timestamp": f"{moment:%Y-%m-%d %H:%M:%S}Z",
            "trace_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
        }
        return Answer(refusal.status, body)


def _audience(scope: str) -> str:
    """Return the audience that a scope asks for; Azure's own samples write one or two slashes."""
    audience = scope.removesuffix(_SUFFIX)
    if not scope.endswith(_SUFFIX) or audience.rstrip("/") not in ALL_AUDIENCES:
        raise TokenRequestError("invalid_scope", 500011, "The resource in 'scope' is not known.")
    return audience
