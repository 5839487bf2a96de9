"""The assertion by which a workload proves who it is: a JWT of its cluster's service-account issuer.

Documentation "Workload identity federation": the audience is api://AzureADTokenExchange, and Entra trusts
the issuer's published keys.
"""

import json
from pathlib import Path
from typing import Any

import jwt

from ..config import Clock
from ..errors import ConfigError
from .errors import TokenRequestError

AUDIENCE = "api://AzureADTokenExchange"

ASSUMED_TRUSTED_ISSUER = True
"""Without a JWKS file any issuer is trusted and the assertion's signature is not checked."""

_MALFORMED = 50027
_BAD_SIGNATURE = 700213
_WRONG_AUDIENCE = 700212
_EXPIRED = 700024
# Those that Kubernetes signs service-account tokens with.
_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


class AssertionChecker:
    """Tells whether a workload's assertion is good."""

    def __init__(self, *, jwks_file: Path | None, clock: Clock) -> None:
        self._keys = None if jwks_file is None else _read_keys(jwks_file)
        self._clock = clock

    def check(self, assertion: str) -> str:
        """Return the assertion's subject. Raises TokenRequestError when it is not good."""
        claims = self._claims(assertion)
        audience = claims.get("aud")
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRequestError(
                "invalid_client", _WRONG_AUDIENCE, "The assertion is for another audience."
            )
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int) or expires_at <= self._clock():
            raise TokenRequestError("invalid_client", _EXPIRED, "The assertion has expired.")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise TokenRequestError("invalid_client", _MALFORMED, "The assertion has no subject.")
        return subject

    def _claims(self, assertion: str) -> dict[str, Any]:
        unverified = {
            "verify_signature": False,
            "verify_aud": False,
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        }
        try:
            if self._keys is None:
                return jwt.decode(assertion, options=unverified)  # type: ignore[arg-type]
            key_id = jwt.get_unverified_header(assertion).get("kid")
            key = self._keys.get(key_id)
            if key is None:
                raise TokenRequestError(
                    "invalid_client", _BAD_SIGNATURE, "The assertion's key is not in the key set."
                )
            verified = unverified | {"verify_signature": True}
            return jwt.decode(assertion, key, algorithms=_ALGORITHMS, options=verified)  # type: ignore[arg-type]
        except jwt.InvalidSignatureError:
            raise TokenRequestError(
                "invalid_client", _BAD_SIGNATURE, "The assertion's signature is wrong."
            ) from None
        except jwt.InvalidTokenError:
            raise TokenRequestError(
                "invalid_client", _MALFORMED, "The assertion is not a JWT."
            ) from None


def make_assertion(*, subject: str, expires_at: int) -> str:
    """Return an assertion for use against a simulation that has no key set: its signature proves nothing."""
    claims = {
        "iss": "https://kubernetes.default.svc",
        "sub": subject,
        "aud": [AUDIENCE],
        "exp": expires_at,
    }
    return jwt.encode(claims, "this signature proves nothing, and that is known", algorithm="HS256")


def _read_keys(file: Path) -> dict[str | None, jwt.PyJWK]:
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(file.read_text())).keys
    except (OSError, ValueError, AttributeError, jwt.PyJWTError):
        raise ConfigError(f"{file} is not a JSON Web Key Set.") from None
    return {key.key_id: key for key in keys}
