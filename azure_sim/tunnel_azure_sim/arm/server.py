"""ARM over HTTPS: the bearer token, the api-version, the journal."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web

from ..faults import Faults
from ..identity.errors import TokenError
from ..identity.tokens import MANAGEMENT_AUDIENCES, Tokens
from ..journal import ArmCall, Journal
from ..web import Handler
from .errors import ArmError, bad_request
from .resource import Resource, parse_path
from .service import Answer, ArmService, Request
from .throttle import ASSUMED_THROTTLED_CODE, Throttle, operation

MAX_BODY = 64 * 1024

API_VERSIONS = frozenset({"2017-04-01", "2021-11-01", "2024-01-01", "2026-01-01"})
"""Those that releases of azure-mgmt-relay ask for; all are answered alike."""

_FAILURES = {
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServerBusy",
    504: "GatewayTimeout",
}
"""The codes beside a status that a fault asks for."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """What is decided about a request before the service sees it."""

    tokens: Tokens
    faults: Faults
    throttle: Throttle | None
    """None: requests are not limited."""

    def check(self, request: web.Request, kind: str) -> None:
        """Let a request in. Raises ArmError."""
        failure = self.faults.fails_arm(request.method, kind)
        if failure is not None:
            code = _FAILURES.get(failure.status, "InternalServerError")
            sentence = "The request failed because a test wants it so."
            raise ArmError(failure.status, code, sentence, failure.retry_after)
        _check_token(request, self.tokens)
        seconds = None if self.throttle is None else self.throttle.take(operation(request.method))
        if seconds is not None:
            raise ArmError(
                429,
                ASSUMED_THROTTLED_CODE,
                f"The subscription's limit of requests is exceeded. Try again after {seconds} seconds.",
                seconds,
            )

    def headers(self, request: web.Request) -> dict[str, str]:
        """Return the headers that every answer has."""
        if self.throttle is None:
            return {}
        kind = operation(request.method)
        name = f"x-ms-ratelimit-remaining-subscription-{kind}"
        return {name: str(self.throttle.remaining(kind))}


def make_handler(service: ArmService, gate: Gate, journal: Journal) -> Handler:
    """Return the handler for all requests of this plane."""

    async def handle(request: web.Request) -> web.Response:
        kind = "unknown"
        try:
            resource = parse_path(request.rel_url.raw_path)
            kind = resource.kind
            gate.check(request, kind)
            answer = service.handle(await _read(request, resource), journal.now())
        except ArmError as error:
            answer = Answer(error.status, error.body(), error.headers)
        _log.info("arm.call", method=request.method, kind=str(kind), status=answer.status)
        journal.record_arm(
            ArmCall(request.method, str(kind), request.path, answer.status, journal.now())
        )
        return _respond(answer, gate.headers(request))

    return handle


def _check_token(request: web.Request, tokens: Tokens) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ArmError(
            401,
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        )
    try:
        tokens.verify(token, MANAGEMENT_AUDIENCES)
    except TokenError as error:
        raise ArmError(401, "InvalidAuthenticationToken", str(error)) from None


async def _read(request: web.Request, resource: Resource) -> Request:
    version = request.query.get("api-version")
    if version is None:
        raise ArmError(
            400, "MissingApiVersionParameter", "The api-version query parameter is required."
        )
    if version not in API_VERSIONS:
        raise ArmError(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider was found for the API version '{version}'.",
        )
    skip = request.query.get("$skip", "0")
    if not skip.isdecimal():
        raise bad_request("'$skip' is a number.")
    page_url = f"https://{request.host}{request.rel_url.raw_path}?api-version={quote(version)}"
    return Request(request.method, resource, await _body(request), int(skip), page_url)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        text = await request.text()
        body = json.loads(text) if text else {}
    except web.HTTPRequestEntityTooLarge:
        raise ArmError(413, "RequestEntityTooLarge", "The request's body is too large.") from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ArmError(400, "InvalidRequestContent", "The request's body is not a JSON object.")
    return body


def _respond(answer: Answer, common: Mapping[str, str]) -> web.Response:
    headers = {"x-ms-request-id": str(uuid.uuid4()), **common, **answer.headers}
    if answer.status == web.HTTPUnauthorized.status_code:
        headers["WWW-Authenticate"] = "Bearer"
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    return web.json_response(answer.body, status=answer.status, headers=headers)
