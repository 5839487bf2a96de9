"""Faults and views as JSON, and back."""

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError
from .faults import (
    ArmFailure,
    Fault,
    HubFailure,
    Latency,
    LostAccept,
    LostMethodAnswer,
    Outage,
    SlowReader,
)

KINDS: Mapping[str, type[Fault]] = {
    "latency": Latency,
    "outage": Outage,
    "arm-failure": ArmFailure,
    "hub-failure": HubFailure,
    "lost-method-answer": LostMethodAnswer,
    "lost-accept": LostAccept,
    "slow-reader": SlowReader,
}


def read_fault(raw: Mapping[str, Any]) -> Fault:
    """Return the fault that `kind` and its fields name. Raises ConfigError with a sentence that helps.

    Names of fields may be written as in Python, as in JSON or with dashes; values may all be text.
    """
    given = dict(raw)
    kind = given.pop("kind", None)
    made = KINDS.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise ConfigError(f"'kind' is one of {', '.join(KINDS)}.")
    hints = get_type_hints(made)
    known = {_plain(field.name): field for field in fields(made)}
    values = {}
    for name, value in given.items():
        field = known.get(_plain(name))
        if field is None:
            raise ConfigError(f"A {kind} has {', '.join(field_names(made))}, not '{name}'.")
        values[field.name] = _read(value, hints[field.name], name)
    missing = [
        field.name
        for field in known.values()
        if field.default is MISSING and field.name not in values
    ]
    if missing:
        raise ConfigError(f"A {kind} needs {', '.join(_camel(name) for name in missing)}.")
    return made(**values)


def field_names(kind: type[Fault]) -> list[str]:
    """Return a kind's fields as they are written in JSON."""
    return [_camel(field.name) for field in fields(kind)]


def to_json(value: object) -> Any:
    """Return what a fault, a view or a call is in JSON."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)
        case datetime():
            return value.isoformat()
        case Mapping():
            return {str(name): to_json(part) for name, part in value.items()}
        case list() | tuple():
            return [to_json(part) for part in value]
    body = {
        _camel(field.name): to_json(getattr(value, field.name))
        for field in fields(value)  # type: ignore[arg-type] # what is left are our dataclasses
    }
    kind = next((name for name, made in KINDS.items() if isinstance(value, made)), None)
    return body if kind is None else {"kind": kind, **body}


def _read(value: object, hint: Any, name: str) -> Any:
    choices = [one for one in _alternatives(hint) if one is not types.NoneType]
    if value is None and len(choices) < len(_alternatives(hint)):
        return None
    (wanted,) = choices
    if isinstance(value, bool | list | dict) or value is None:
        raise ConfigError(f"'{name}' is not of the kind that it must be.")
    try:
        read = wanted(value)
    except ValueError:
        possible = f": {', '.join(map(str, wanted))}" if hasattr(wanted, "__members__") else ""
        raise ConfigError(f"'{name}' can not be '{value}'{possible}.") from None
    if isinstance(read, int | float) and not 0 <= read <= _LARGEST:
        raise ConfigError(f"'{name}' is out of range.")
    return read


_LARGEST = 1e12


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
