r"""Shared access signatures, as Azure Relay and Azure IoT Hub read them.

Both services sign `quote(audience) + "\n" + expiry` with HMAC-SHA256. They differ in the key and in the
audience: Relay takes the key's text as it stands and an audience with a scheme (documentation "Azure
Relay authentication with Shared Access Signatures"); IoT Hub decodes the key from base64 first and its
audience has no scheme (documentation "Control access to IoT Hub using shared access signatures"). Mixing
them up makes tokens that look right and are always refused.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_plus, urlsplit

from .errors import ProtocolError
from .secret import Secret

_SECONDS = re.compile("[0-9]{1,12}")
_PREFIX = "SharedAccessSignature "


@dataclass(frozen=True, slots=True)
class SharedAccessSignature:
    """The parts of a token. `expires_at` is in seconds since 1970, UTC."""

    audience: str
    expires_at: int
    rule: str | None
    _signed_text: str = field(repr=False)
    _signature: bytes = field(repr=False)

    def is_signed_with(self, key: bytes) -> bool:
        """Tell, in constant time, whether this key made the signature."""
        expected = hmac.digest(key, self._signed_text.encode(), hashlib.sha256)
        return hmac.compare_digest(expected, self._signature)


def relay_key(text: str) -> bytes:
    """Return the signing key of an Azure Relay rule: the bytes of its text, base64 or not."""
    return text.encode()


def hub_key(text: str) -> bytes:
    """Return the signing key of an IoT Hub policy or device, which is stored in base64.

    Raises ProtocolError when the text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ProtocolError("The key of an IoT Hub policy or device must be base64.") from None


def relay_audience(host: str, path: str) -> str:
    """Return the audience of one hybrid connection; the scheme is `http` whatever is dialled."""
    return f"http://{host}/{path}"


def sign(audience: str, *, key: bytes, rule: str | None, expires_at: int) -> Secret:
    """Return a token for an audience, valid until `expires_at` (seconds since 1970, UTC)."""
    resource = quote(audience, safe="")
    digest = hmac.digest(key, f"{resource}\n{expires_at}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(digest), safe="")
    token = f"{_PREFIX}sr={resource}&sig={signature}&se={expires_at}"
    return Secret(token if rule is None else f"{token}&skn={quote(rule, safe='')}")


def parse(token: str) -> SharedAccessSignature:
    """Read a token. Raises ProtocolError, which quotes no part of it."""
    if not token.startswith(_PREFIX) or not token.isascii():
        raise ProtocolError("The token is not ASCII that begins with 'SharedAccessSignature '.")
    # The signature is over sr and se as they are written, escapes and all.
    raw = dict(part.partition("=")[::2] for part in token.removeprefix(_PREFIX).split("&"))
    fields = {name: unquote_plus(value) for name, value in raw.items()}
    missing = [name for name in ("sr", "sig", "se") if not fields.get(name)]
    if missing:
        raise ProtocolError(f"The token lacks {', '.join(missing)}.")
    if not _SECONDS.fullmatch(fields["se"]):
        raise ProtocolError("The token's expiry (se) is not a time in seconds.")
    try:
        # An unescaped "+" was read as a blank; base64 has no blanks, so put it back.
        signature = base64.b64decode(fields["sig"].replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("The token's signature (sig) is not base64.") from None
    return SharedAccessSignature(
        audience=fields["sr"],
        expires_at=int(fields["se"]),
        rule=fields.get("skn"),
        _signed_text=f"{raw['sr']}\n{raw['se']}",
        _signature=signature,
    )


def covers(audience: str, *, host: str, path: str) -> bool:
    """Tell whether a token's audience opens `path` on `host`.

    Scheme, port and a trailing slash do not count, and an audience covers all paths below it by whole
    segments: .NET signs `http://host/path/`, hyco-ws `http://host:443/path`, the documentation's samples
    `http://host/path`, and a namespace's rule may sign `http://host/`.
    """
    try:
        parts = urlsplit(audience if "://" in audience else f"//{audience}")
        same_host = (parts.hostname or "").lower() == host.lower()
    except ValueError:
        return False
    granted = [segment.lower() for segment in parts.path.split("/") if segment]
    wanted = [segment.lower() for segment in path.split("/") if segment]
    return same_host and wanted[: len(granted)] == granted
