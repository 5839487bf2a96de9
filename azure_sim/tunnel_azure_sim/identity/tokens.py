"""Access tokens: JWTs signed by a key of the state directory, checked by the planes that get them."""

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ..config import Clock
from ..errors import StateError
from ..state import write_atomically
from .errors import TokenError

MANAGEMENT_AUDIENCES = frozenset(
    {"https://management.azure.com", "https://management.core.windows.net"}
)
HUB_AUDIENCES = frozenset({"https://iothubs.azure.net"})
RELAY_AUDIENCES = frozenset({"https://relay.azure.net"})
ALL_AUDIENCES = MANAGEMENT_AUDIENCES | HUB_AUDIENCES | RELAY_AUDIENCES

_KEY_FILE = "identity-key.pem"
_KEY_BITS = 2048
_ALGORITHM = "RS256"


class Tokens:
    """Issues access tokens and tells whether one is good."""

    def __init__(self, key: rsa.RSAPrivateKey, *, tenant_id: str, clock: Clock) -> None:
        self._key = key
        self.tenant_id = tenant_id
        self._clock = clock
        self._key_id = self._thumbprint()

    def issue(self, audience: str, *, subject: str, seconds: float) -> str:
        """Return a token for one audience, good for so many seconds from now."""
        now = int(self._clock())
        claims = {
            "aud": audience,
            "iss": issuer(self.tenant_id),
            "tid": self.tenant_id,
            "appid": subject,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + int(seconds),
            "ver": "1.0",
        }
        headers = {"kid": self._key_id}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=headers)

    def public_jwk(self) -> dict[str, str]:
        """Return the public half of the signing key as a JSON Web Key (RFC 7517)."""
        return {**self._jwk(), "kid": self._key_id, "use": "sig", "alg": _ALGORITHM}

    def verify(self, token: str, audiences: Collection[str]) -> Mapping[str, Any]:
        """Return the claims of a token that is good for one of the audiences. Raises TokenError."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[_ALGORITHM],
                # Both are checked below: the audience for its optional slash, the expiry by our clock.
                options={"verify_aud": False, "verify_exp": False, "verify_nbf": False},
            )
        except jwt.InvalidTokenError:
            raise TokenError(
                "The access token is malformed or not signed by this tenant."
            ) from None
        if not isinstance(claims.get("exp"), int) or claims["exp"] <= self._clock():
            raise TokenError("The access token has expired.")
        if str(claims.get("aud")).rstrip("/") not in audiences:
            raise TokenError("The access token is for another audience.")
        return claims

    def _jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {"e": _base64(numbers.e), "kty": "RSA", "n": _base64(numbers.n)}

    def _thumbprint(self) -> str:
        """Return the key's id: the hash of its members in order, without blanks (RFC 7638)."""
        members = json.dumps(self._jwk(), separators=(",", ":"), sort_keys=True)
        digest = hashlib.sha256(members.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def issuer(tenant_id: str) -> str:
    """Return who a tenant's tokens of version 1.0 are from (documentation "Access token claims")."""
    return f"https://sts.windows.net/{tenant_id}/"


def _base64(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def load_or_create_key(directory: Path) -> rsa.RSAPrivateKey:
    """Return the state directory's signing key, made at the first start."""
    file = directory / _KEY_FILE
    if file.exists():
        try:
            # We made this key ourselves; testing its numbers again would be most of a start's time.
            key = serialization.load_pem_private_key(
                file.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True
            )
        except ValueError:
            raise StateError(f"{file} can not be read.") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise StateError(f"{file} is not an RSA key.")
        return key
    new = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    pem = new.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomically(file, pem.decode())
    return new
