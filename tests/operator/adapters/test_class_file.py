from pathlib import Path

import pytest
import yaml

from support.tunnels import class_body
from tunnel_operator.adapters.class_file import read_classes
from tunnel_operator.config import ConfigError

MANIFESTS = Path(__file__).parents[3] / "manifests"


def write(tmp_path, *bodies):
    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump_all(bodies, explicit_start=True))
    return path


def test_reads_all_classes_of_a_file(tmp_path):
    classes = read_classes(write(tmp_path, class_body("a"), None, class_body("b")))
    assert [klass.metadata.name for klass in classes] == ["a", "b"]


@pytest.mark.parametrize("name", ["namespaced/tunnelclasses.yaml", "examples/tunnelclass.yaml"])
def test_reads_the_manifests(name):
    [klass] = read_classes(MANIFESTS / name)
    assert klass.is_default


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("text", "no TunnelClass"),
        (class_body() | {"kind": "Tunnel"}, "no TunnelClass"),
        (class_body() | {"spec": {"iotHub": {"hostName": "h"}}}, "spec.relay: Field required"),
    ],
)
def test_what_is_no_class_is_said(tmp_path, body, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_classes(write(tmp_path, body))


def of_namespaces(**selector):
    return class_body(access=[{"devices": ["mri-*"]}, {"namespaces": selector}])


def test_rules_may_select_namespaces_by_name(tmp_path):
    name = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["imaging"]}
    read_classes(write(tmp_path, of_namespaces(matchExpressions=[name])))


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"team": "imaging"}},
        {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
    ],
)
def test_rules_that_need_labels_nobody_may_read_are_said(tmp_path, selector):
    with pytest.raises(ConfigError, match="selects namespaces by team"):
        read_classes(write(tmp_path, of_namespaces(**selector)))


def test_a_missing_or_broken_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="can not be read"):
        read_classes(tmp_path / "none")
    (tmp_path / "broken").write_text("a: [")
    with pytest.raises(ConfigError, match="can not be read"):
        read_classes(tmp_path / "broken")
