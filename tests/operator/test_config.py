import re
from pathlib import Path

import pytest
import yaml

from tunnel_operator.config import Config, ConfigError

ENOUGH = {"FORWARDER_IMAGE": "f:1", "POD_NAMESPACE": "tunnels-system"}


def test_the_least_is_enough():
    config = Config.from_env(ENOUGH)
    assert config.watch_namespaces == ()
    assert config.controller_name == "tunnels.dev/operator"
    assert config.tunnel_classes_file is None


def test_the_documented_settings_of_the_sweeper_are_ones():
    page = (Path(__file__).parents[2] / "docs/sweeping.md").read_text()
    [block] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    [patch] = yaml.safe_load(block)["patches"]
    [container] = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    config = Config.from_env(ENOUGH | variables)
    assert (config.cluster_id, config.sweep) == ("clinic-north", "report")
    assert Config.from_env(ENOUGH).sweep == "report"


def test_namespaces_are_a_list():
    config = Config.from_env(ENOUGH | {"WATCH_NAMESPACES": "a, b,"})
    assert config.watch_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"FORWARDER_IMAGE": ""}, "FORWARDER_IMAGE is not set"),
        ({"POD_NAMESPACE": ""}, "POD_NAMESPACE is not set"),
        ({"WORKERS": "0"}, "WORKERS is '0'"),
        ({"WORKERS": "many"}, "WORKERS is 'many'"),
        ({"SWEEP": "yes"}, "SWEEP is 'yes'"),
        ({"SWEEP": "delete"}, "CLUSTER_ID is not set"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL is 'LOUD'"),
    ],
)
def test_says_what_is_wrong(change, words):
    with pytest.raises(ConfigError, match=words):
        Config.from_env(ENOUGH | change)
