"""ARM without its sockets: the bearer token, the api-version, the journal. A request in, an answer out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import structlog

from ..faults import Faults
from ..identity.errors import TokenError
from ..identity.tokens import MANAGEMENT_AUDIENCES, Tokens
from ..journal import ArmCall, Journal
from .errors import ArmError, bad_request
from .resource import Resource, parse_path
from .service import Answer, ArmService, Request
from .throttle import ASSUMED_THROTTLED_CODE, Throttle, operation

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
class Call:
    """One HTTP request as it came."""

    method: str
    host: str
    raw_path: str
    query: Mapping[str, str]
    authorization: str
    body: bytes | None
    """None: it is larger than is read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is decided about a request before the service sees it."""

    tokens: Tokens
    faults: Faults
    throttle: Throttle | None
    """None: requests are not limited."""

    def check(self, call: Call, kind: str) -> None:
        """Let a request in. Raises ArmError."""
        failure = self.faults.fails_arm(call.method, kind)
        if failure is not None:
            code = _FAILURES.get(failure.status, "InternalServerError")
            sentence = "The request failed because a test wants it so."
            raise ArmError(failure.status, code, sentence, failure.retry_after)
        _check_token(call.authorization, self.tokens)
        seconds = None if self.throttle is None else self.throttle.take(operation(call.method))
        if seconds is not None:
            raise ArmError(
                429,
                ASSUMED_THROTTLED_CODE,
                f"The subscription's limit of requests is exceeded. Try again after {seconds} seconds.",
                seconds,
            )

    def headers(self, method: str) -> dict[str, str]:
        """Return the headers that every answer has."""
        if self.throttle is None:
            return {}
        kind = operation(method)
        name = f"x-ms-ratelimit-remaining-subscription-{kind}"
        return {name: str(self.throttle.remaining(kind))}


@dataclass(frozen=True, slots=True)
class ArmPlane:
    """All that ARM answers."""

    service: ArmService
    gate: Gate
    journal: Journal

    def answer(self, call: Call) -> Answer:
        """Carry a request out, or refuse it, and write it down."""
        kind, now = "unknown", self.journal.now()
        try:
            resource = parse_path(call.raw_path)
            kind = resource.kind
            self.gate.check(call, kind)
            answer = self.service.handle(_read(call, resource), now)
        except ArmError as error:
            answer = Answer(error.status, error.body(), error.headers)
        _log.info("arm.call", method=call.method, kind=str(kind), status=answer.status)
        path = unquote(call.raw_path)
        self.journal.record_arm(ArmCall(call.method, str(kind), path, answer.status, now))
        headers = {**self.gate.headers(call.method), **answer.headers}
        return Answer(answer.status, answer.body, headers)


def _check_token(authorization: str, tokens: Tokens) -> None:
    scheme, _, token = authorization.partition(" ")
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


def _read(call: Call, resource: Resource) -> Request:
    version = call.query.get("api-version")
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
    skip = call.query.get("$skip", "0")
    if not skip.isdecimal():
        raise bad_request("'$skip' is a number.")
    page_url = f"https://{call.host}{call.raw_path}?api-version={quote(version)}"
    return Request(call.method, resource, _body(call.body), int(skip), page_url)


def _body(given: bytes | None) -> dict[str, Any]:
    if given is None:
        raise ArmError(413, "RequestEntityTooLarge", "The request's body is too large.")
    try:
        body = json.loads(given) if given else {}
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ArmError(400, "InvalidRequestContent", "The request's body is not a JSON object.")
    return body
