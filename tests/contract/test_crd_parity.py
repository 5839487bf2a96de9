"""The CRDs and the models say the same: field for field, with the same defaults and the same choices."""

import enum
import types
import typing
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tunnel_operator.api.base import Duration, parse_duration
from tunnel_operator.api.reasons import ConditionType, Reason
from tunnel_operator.api.tunnel import TunnelSpec, TunnelStatus
from tunnel_operator.api.tunnel_class import TunnelClassSpec

CRDS = Path(__file__).parents[2] / "crds"


def schema_of(file, part):
    body = yaml.safe_load((CRDS / file).read_text())
    [version] = body["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"][part]


PAIRS = [
    pytest.param("tunnels.yaml", "spec", TunnelSpec, id="Tunnel.spec"),
    pytest.param("tunnels.yaml", "status", TunnelStatus, id="Tunnel.status"),
    pytest.param("tunnelclasses.yaml", "spec", TunnelClassSpec, id="TunnelClass.spec"),
]


def unwrapped(annotation):
    """Return the type inside Optional and Annotated."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        [inner] = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
        return unwrapped(inner)
    if origin is typing.Annotated:
        return unwrapped(typing.get_args(annotation)[0])
    return annotation


def leaves(schema, model, path=""):
    """Yield (path, schema, field) for every field that either side has."""
    fields = {field.alias: field for field in model.model_fields.values()}
    properties = schema.get("properties", {})
    for name in fields.keys() | properties.keys():
        here = f"{path}.{name}"
        yield here, properties.get(name), fields.get(name), name in schema.get("required", ())
        if name in fields and name in properties:
            yield from inner_leaves(properties[name], unwrapped(fields[name].annotation), here)


def inner_leaves(schema, annotation, path):
    if typing.get_origin(annotation) is tuple:
        schema, annotation = schema.get("items", {}), unwrapped(typing.get_args(annotation)[0])
        path += "[]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from leaves(schema, annotation, path)


@pytest.mark.parametrize(("file", "part", "model"), PAIRS)
def test_every_field_is_on_both_sides(file, part, model):
    for path, schema, field, _ in leaves(schema_of(file, part), model):
        assert schema is not None, f"{path} is in the model alone"
        assert field is not None, f"{path} is in the CRD alone"


@pytest.mark.parametrize(("file", "part", "model"), PAIRS)
def test_what_is_required_is_so_on_both_sides(file, part, model):
    for path, _, field, is_required in leaves(schema_of(file, part), model):
        if is_required:
            # The API server always fills these in, so a model may have a default for its own use.
            continue
        assert not field.is_required(), f"{path} is required by the model alone"


@pytest.mark.parametrize(("file", "part", "model"), PAIRS)
def test_defaults_are_the_same(file, part, model):
    for path, schema, field, _ in leaves(schema_of(file, part), model):
        if part == "status" or "default" not in schema or schema["type"] == "object":
            continue
        default = field.default
        if isinstance(default, timedelta):
            assert parse_duration(schema["default"]) == default, path
        else:
            assert schema["default"] == default, path


@pytest.mark.parametrize(("file", "part", "model"), PAIRS)
def test_object_defaults_make_the_models_defaults(file, part, model):
    for path, schema, field, _ in leaves(schema_of(file, part), model):
        kind = unwrapped(field.annotation)
        if part == "spec" and "default" in schema and schema["type"] == "object":
            assert kind.model_validate(schema["default"]) == field.default, path


@pytest.mark.parametrize(("file", "part", "model"), PAIRS)
def test_choices_are_the_same(file, part, model):
    for path, schema, field, _ in leaves(schema_of(file, part), model):
        if "enum" not in schema:
            continue
        kind = unwrapped(field.annotation)
        if typing.get_origin(kind) is typing.Literal:
            assert set(schema["enum"]) == {str(choice) for choice in typing.get_args(kind)}, path
        elif isinstance(kind, type) and issubclass(kind, enum.Enum):
            assert set(schema["enum"]) == {member.value for member in kind}, path


def test_durations_are_strings_with_a_pattern():
    for file, part, model in [p.values for p in PAIRS]:
        for path, schema, field, _ in leaves(schema_of(file, part), model):
            if unwrapped(field.annotation) is unwrapped(Duration):
                assert schema["type"] == "string", path
                assert "pattern" in schema, path


def test_the_default_status_is_words_that_the_operator_knows():
    [condition] = schema_of("tunnels.yaml", "status")["default"]["conditions"]
    assert condition["type"] == ConditionType.READY
    assert condition["reason"] == "Pending"
    assert "Pending" not in set(Reason)


@pytest.mark.parametrize("file", ["tunnels.yaml", "tunnelclasses.yaml"])
def test_every_string_list_and_map_of_the_spec_is_bounded(file):
    """Rules in CEL cost as much as the largest value that the schema allows."""

    def check(schema, path):
        if schema.get("x-kubernetes-int-or-string"):
            return
        kind = schema["type"]
        if kind == "string":
            assert "enum" in schema or "maxLength" in schema or "pattern" in schema, path
        if kind == "array":
            assert "maxItems" in schema, path
            check(schema["items"], f"{path}[]")
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path
            check(schema["additionalProperties"], f"{path}.*")
        for name, inner in schema.get("properties", {}).items():
            check(inner, f"{path}.{name}")

    check(schema_of(file, "spec"), "spec")
