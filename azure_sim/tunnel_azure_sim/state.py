"""The state directory: the files that must outlive a restart.

ca.pem, ca-key.pem          the certificate authority that clients trust
server.pem, server-key.pem  this run's certificate
identity-key.pem            signs access tokens
keys.json                   keys of namespaces, hubs and devices
state.json                  what clients made, when that is to be kept (`snapshot`)
endpoints.json              present while everything listens
"""

import base64
import json
import os
import secrets
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

from .errors import StateError

KEYS_FILE = "keys.json"
_KEYS_VERSION = 1
_KEY_BYTES = 32
_PRIVATE = 0o600
PUBLIC = 0o644


def write_atomically(path: Path, text: str, *, mode: int = _PRIVATE) -> None:
    """Replace a file at one blow: a reader sees the old text or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two keys of a rule, policy or device, either of which signs, so that one can be changed."""

    primary: Secret
    secondary: Secret

    @classmethod
    def generate(cls) -> "KeyPair":
        """Return a new pair: 256 random bits each, in base64, as Azure makes them."""
        return cls(primary=generate_key(), secondary=generate_key())

    def with_primary(self, key: Secret) -> "KeyPair":
        """Return the pair with another primary key."""
        return replace(self, primary=key)

    def with_secondary(self, key: Secret) -> "KeyPair":
        """Return the pair with another secondary key."""
        return replace(self, secondary=key)


def generate_key() -> Secret:
    """Return a new key in base64."""
    return Secret(base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode())


class KeyStore:
    """Keys by name, for example `relay/demo/RootManageSharedAccessKey`, kept in one file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / KEYS_FILE
        self._pairs = _read(self._file) if self._file.exists() else {}

    def get_or_create(self, name: str) -> KeyPair:
        """Return the pair of this name; it is made and written down when there is none yet."""
        if name not in self._pairs:
            self.put(name, KeyPair.generate())
        return self._pairs[name]

    def put(self, name: str, pair: KeyPair) -> None:
        """Write a pair down in place of an older one."""
        self._pairs[name] = pair
        self._write()

    def forget(self, name: str) -> None:
        """Drop a pair; dropped already counts as dropped."""
        if self._pairs.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        body = {
            "version": _KEYS_VERSION,
            "keys": {
                name: {"primary": pair.primary.reveal(), "secondary": pair.secondary.reveal()}
                for name, pair in sorted(self._pairs.items())
            },
        }
        write_atomically(self._file, json.dumps(body, indent=2) + "\n")


def _read(file: Path) -> dict[str, KeyPair]:
    try:
        body: dict[str, Any] = json.loads(file.read_text())
        if body["version"] != _KEYS_VERSION:
            raise StateError(f"{file} is of version {body['version']}, not {_KEYS_VERSION}.")
        return {
            str(name): KeyPair(Secret(str(pair["primary"])), Secret(str(pair["secondary"])))
            for name, pair in body["keys"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # The cause would quote the file's text, which is all keys.
        raise StateError(f"{file} can not be read; remove it to start with new keys.") from None
