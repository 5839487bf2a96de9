"""The directory that the operator mounts into the forwarder's Pod."""

from dataclasses import dataclass
from pathlib import Path

from .protocol import sas
from .protocol.errors import ProtocolError
from .protocol.secret import Secret
from .protocol.settings import CA_FILE, SETTINGS_FILE, TOKEN_FILE, ForwarderSettings

WATCH_SECONDS = 2.0
"""Between two looks. The kubelet swaps a symlink, which file notifications miss half of the time, and
takes up to a minute itself."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """What the directory held at one time."""

    settings: ForwarderSettings
    token: Secret
    authorities: str | None


def read(directory: Path) -> Mounted:
    """Return what the directory holds. Raises ProtocolError with a sentence when it can not be used."""
    settings = ForwarderSettings.from_json(_text(directory / SETTINGS_FILE))
    token = _text(directory / TOKEN_FILE).strip()
    sas.parse(token)
    authorities = directory / CA_FILE
    return Mounted(
        settings=settings,
        token=Secret(token),
        authorities=_text(authorities) if authorities.exists() else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProtocolError(f"{path.name} can not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ProtocolError(f"{path.name} is not text in UTF-8.") from None
