"""Why a token is refused."""

from dataclasses import dataclass


class TokenError(Exception):
    """A bearer token is not good here; the message says why, and quotes no part of it."""


@dataclass
class TokenRequestError(Exception):
    """The token endpoint refuses a request (RFC 6749, section 5.2); `code` is Entra's AADSTS number."""

    error: str
    code: int
    sentence: str
    status: int = 400
