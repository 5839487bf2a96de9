"""What all models of the API share."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError
from pydantic.alias_generators import to_camel

GROUP = "tunnels.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class UnreadableError(ValueError):
    """An object says something that this version does not know; the text is what, without the rest of it."""


class Model(BaseModel):
    """Frozen, in the API's camelCase. Fields that are not known are left alone: a newer CRD may have them.

    The API server has validated what is read here, so the models repeat no rule of the CRD.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read the API's JSON form. Raises UnreadableError.

        That is for what the API server has taken: a newer CRD may allow what this version does not know.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            text = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
            raise UnreadableError(text) from None

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` returned."""
        return cls.model_validate_json(text)

    def __deepcopy__(self, memo: object = None) -> Self:
        """Return the very same, which nobody can change: pydantic copies each default that it fills in."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the API's JSON form, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> bytes:
        """Return the same as text."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def parse_duration(text: object) -> object:
    """Read a duration as the CRDs allow it: hours, minutes and seconds, such as 1h30m."""
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return a duration as people write it: 1h30m, not 5400s."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def format_time(moment: datetime) -> str:
    """Return a time as Kubernetes writes it: RFC 3339, UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]
Time = Annotated[datetime, PlainSerializer(format_time, return_type=str)]


class ObjectMeta(Model):
    """The part of an object's metadata that decisions need."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
