"""How ARM refuses."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ArmError(Exception):
    """A request is answered with an error body (documentation "ARM common API contracts", error)."""

    status: int
    code: str
    sentence: str
    retry_after: int | None = None
    """Seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to this error."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {"error": {"code": self.code, "message": self.sentence}}


def bad_request(sentence: str) -> ArmError:
    """Return the error for a body or a name that can not be accepted."""
    return ArmError(400, "BadRequest", sentence)


def not_found(what: str, name: str) -> ArmError:
    """Return the error for a resource that is not there."""
    return ArmError(404, "ResourceNotFound", f"The {what} '{name}' was not found.")


def parent_not_found(what: str, name: str) -> ArmError:
    """Return the error for a child whose parent is not there."""
    return ArmError(
        404,
        "ParentResourceNotFound",
        f"Can not perform the requested operation: the {what} '{name}' was not found.",
    )
