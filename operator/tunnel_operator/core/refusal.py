"""Why a Tunnel is not carried out."""

from dataclasses import dataclass

from ..api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Tunnel is not carried out, for a person to mend."""

    reason: Reason
    message: str
