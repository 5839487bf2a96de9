import pytest

from tunnel_operator.config import Config, ConfigError

ENOUGH = {"FORWARDER_IMAGE": "f:1", "POD_NAMESPACE": "tunnels-system"}


def test_the_least_is_enough():
    config = Config.from_env(ENOUGH)
    assert config.watch_namespaces == ()
    assert config.controller_name == "tunnels.dev/operator"
    assert config.tunnel_classes_file is None


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
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL is 'LOUD'"),
    ],
)
def test_says_what_is_wrong(change, words):
    with pytest.raises(ConfigError, match=words):
        Config.from_env(ENOUGH | change)
