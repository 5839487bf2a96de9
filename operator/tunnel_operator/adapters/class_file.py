"""TunnelClasses from a file, for an operator that may not read those of the cluster."""

from pathlib import Path

import yaml

from ..api.base import API_VERSION, UnreadableError
from ..api.tunnel_class import KIND, TunnelClass
from ..config import ConfigError
from ..core.access import NAME_LABEL


def read_classes(path: Path) -> tuple[TunnelClass, ...]:
    """Return the classes in a file of YAML documents. Raises ConfigError with a sentence for a person.

    Access rules may select namespaces by name only: who may not read classes may not read namespaces either.

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
        return _with_rules_that_can_be_kept(TunnelClass.from_dict(body), path)
    except UnreadableError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_rules_that_can_be_kept(klass: TunnelClass, path: Path) -> TunnelClass:
    for rule in klass.spec.access or ():
        selector = rule.namespaces
        if selector is None:
            continue
        keys = {*(selector.match_labels or ()), *(e.key for e in selector.match_expressions or ())}
        if not keys <= {NAME_LABEL}:
            unknown = ", ".join(sorted(keys - {NAME_LABEL}))
            raise ConfigError(
                f"{path}: spec.access of TunnelClass {klass.metadata.name!r} selects namespaces by "
                f"{unknown}. With classes from a file the operator knows no label of a namespace but "
                f"{NAME_LABEL}, which is its name: select by that."
            )
    return klass
