"""Two replicas are worth something only if one event does not take both."""

from pathlib import Path

import yaml

BASE = Path(__file__).parents[2] / "manifests/base"


def load(name):
    return yaml.safe_load((BASE / name).read_text())


DEPLOYMENT = load("deployment.yaml")["spec"]
LABELS = DEPLOYMENT["template"]["metadata"]["labels"]


def test_a_drain_takes_one_replica_at_a_time_and_never_waits_for_ever():
    budget = load("disruption.yaml")["spec"]
    assert budget["selector"] == DEPLOYMENT["selector"]
    assert budget["maxUnavailable"] < DEPLOYMENT["replicas"]


def test_the_replicas_prefer_nodes_of_their_own():
    [spread] = DEPLOYMENT["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= LABELS.items()
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    # A cluster with one node runs both all the same.
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"


def test_all_files_of_the_folder_are_installed():
    resources = load("kustomization.yaml")["resources"]
    assert {path.name for path in BASE.glob("*.yaml")} == {*resources, "kustomization.yaml"} - {
        "../../crds"
    }
