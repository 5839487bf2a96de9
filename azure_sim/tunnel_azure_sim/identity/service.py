"""The identity plane: the token endpoint, the tenant's public documents, a managed identity. No HTTP here.

Documentation "Microsoft identity platform and the OAuth 2.0 client credentials flow".
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from ..config import Clock
from .client import ClientChecker, required
from .discovery import discover
from .errors import TokenRequestError
from .managed import PATH as MANAGED_PATH
from .managed import ManagedIdentity, ManagedIdentityError
from .tokens import ALL_AUDIENCES, Tokens

_TOKEN_PATH = "oauth2/v2.0/token"  # noqa: S105 - a path
_SUFFIX = "/.default"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `base` is how the client dialled us, such as `https://127.0.0.1:8440`."""

    method: str
    path: str
    base: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    """Looked up in any case."""

    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdentityService:
    """One tenant with one application."""

    tokens: Tokens
    clients: ClientChecker
    managed: ManagedIdentity
    token_seconds: float
    clock: Clock

    def handle(self, request: Request) -> Answer:
        """Answer one request."""
        try:
            if request.path == MANAGED_PATH and request.method == "GET":
                header = request.headers.get("X-IDENTITY-HEADER")
                return Answer(200, self.managed.token(request.query, header))
            return self._tenant(request)
        except ManagedIdentityError as refusal:
            _log.info("identity.refused", reason=refusal.sentence)
            body = {"statusCode": refusal.status, "message": refusal.sentence}
            return Answer(refusal.status, body)
        except TokenRequestError as refusal:
            _log.info("identity.refused", error=refusal.error, code=refusal.code)
            return self._refusal(refusal)

    def _tenant(self, request: Request) -> Answer:
        tenant, _, rest = request.path.strip("/").partition("/")
        is_ours = tenant == self.tokens.tenant_id
        if request.method == "GET" and is_ours:
            document = discover(rest, base=request.base, tokens=self.tokens)
            if document is not None:
                return Answer(200, document)
        if rest != _TOKEN_PATH or request.method != "POST":
            raise TokenRequestError("invalid_request", 90023, "There is nothing here.", status=404)
        if not is_ours:
            raise TokenRequestError("invalid_request", 90002, f"Tenant '{tenant}' not found.")
        return self._token(request)

    def _token(self, request: Request) -> Answer:
        if required(request.form, "grant_type") != "client_credentials":
            raise TokenRequestError(
                "unsupported_grant_type", 70003, "Only client_credentials is served."
            )
        subject = self.clients.check(request.form, request.headers.get("Authorization"))
        audience = _audience(required(request.form, "scope"))
        token = self.tokens.issue(
            audience, subject=self.clients.client_id, seconds=self.token_seconds
        )
        _log.info("identity.token_issued", audience=audience, subject=subject)
        seconds = int(self.token_seconds)
        body = {
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": token,
        }
        return Answer(200, body)

    def _refusal(self, refusal: TokenRequestError) -> Answer:
        """Return a refusal in Entra's form (same documentation, error response example)."""
        moment = datetime.fromtimestamp(self.clock(), UTC)
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = f"{moment:%Y-%m-%d %H:%M:%S}Z"
        body = {
            "error": refusal.error,
            "error_description": (
                f"AADSTS{refusal.code}: {refusal.sentence} Trace ID: {trace} "
                f"Correlation ID: {correlation} Timestamp: {stamp}"
            ),
            "error_codes": [refusal.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
        }
        return Answer(refusal.status, body)


def _audience(scope: str) -> str:
    """Return the audience that a scope asks for; Azure's own samples write one or two slashes."""
    audience = scope.removesuffix(_SUFFIX)
    if not scope.endswith(_SUFFIX):
        raise TokenRequestError(
            "invalid_scope", 1002012, "The scope of client credentials ends with '/.default'."
        )
    if audience.rstrip("/") not in ALL_AUDIENCES:
        raise TokenRequestError("invalid_scope", 500011, "The resource in 'scope' is not known.")
    return audience
