"""Which client asks for a token: the one application, by its secret or by a workload's assertion.

Documentation "OAuth 2.0 client credentials flow", first and third case, and RFC 6749, section 2.3.1.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from ..state import KeyPair
from .assertion import AssertionChecker
from .errors import TokenRequestError

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Entra's numbers (documentation "Microsoft Entra authentication and authorization error codes").
_NOT_FOUND = 700016
_NO_CREDENTIAL = 7000216
_NO_ASSERTION = 7000218
_BAD_SECRET = 7000215
_MISSING = 900144


@dataclass(frozen=True, slots=True)
class ClientChecker:
    """Checks the credential of the application `client_id`; either of its two secrets is good."""

    client_id: str
    secrets: KeyPair
    assertions: AssertionChecker

    def check(self, form: Mapping[str, str], authorization: str | None) -> str:
        """Return who asks, for the log. Raises TokenRequestError."""
        fields = {**form, **_basic(authorization)}
        if required(fields, "client_id") != self.client_id:
            raise TokenRequestError(
                "unauthorized_client", _NOT_FOUND, "The application is not known in the tenant."
            )
        if "client_secret" in fields:
            self._check_secret(fields["client_secret"])
            return self.client_id
        if "client_assertion" not in fields and "client_assertion_type" not in fields:
            raise TokenRequestError(
                "invalid_request",
                _NO_CREDENTIAL,
                "'client_assertion', 'client_secret' or 'request' is required for the "
                "'client_credentials' grant type.",
            )
        if fields.get("client_assertion_type") != _ASSERTION_TYPE:
            raise TokenRequestError(
                "invalid_client", _NO_ASSERTION, "client_assertion must be a JWT.", status=401
            )
        return self.assertions.check(fields.get("client_assertion", ""))

    def _check_secret(self, given: str) -> None:
        known = (self.secrets.primary, self.secrets.secondary)
        if not any(hmac.compare_digest(given.encode(), one.reveal().encode()) for one in known):
            raise TokenRequestError(
                "invalid_client", _BAD_SECRET, "Invalid client secret provided.", status=401
            )


def required(fields: Mapping[str, str], name: str) -> str:
    """Return a field of the request. Raises TokenRequestError when it is not there."""
    value = fields.get(name)
    if not value:
        raise TokenRequestError(
            "invalid_request",
            _MISSING,
            f"The request body must contain the following parameter: '{name}'.",
        )
    return value


def _basic(authorization: str | None) -> dict[str, str]:
    """Return the client's id and secret of an Authorization header, where they may be instead."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return {}
    name, _, secret = text.partition(":")
    return {"client_id": unquote_plus(name), "client_secret": unquote_plus(secret)}
