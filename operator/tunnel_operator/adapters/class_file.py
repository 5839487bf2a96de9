"""TunnelClasses from a file, for an operator that may not read those of the cluster."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from ..api.base import API_VERSION
from ..api.tunnel_class import KIND, TunnelClass
from ..config import ConfigError


def read_classes(path: Path) -> tuple[TunnelClass, ...]:
    """Return the classes in a file of YAML documents. Raises ConfigError with a sentence for a person.

    The file is read once: the kustomization names its ConfigMap by its content, so a change of it starts the
    operator anew. The rules of the CRD are not checked, but for what is required.
    """
    try:
        bodies = [body for body in yaml.safe_load_all(path.read_text()) if body is not None]
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"The file of TunnelClasses can not be read: {error}") from error
    return tuple(_read(body, path) for body in bodies)


def _read(body: object, path: Path) -> TunnelClass:
    if not isinstance(body, dict) or (body.get("apiVersion"), body.get("kind")) != (
        API_VERSION,
        KIND,
    ):
        raise ConfigError(f"{path} holds something that is no {KIND} of {API_VERSION}.")
    try:
        return TunnelClass.from_dict(body)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error
