"""The rights of the namespaced installation are those of the cluster-wide one, less what needs the cluster."""

from pathlib import Path

import yaml

from support.audit import Right, granted

MANIFESTS = Path(__file__).parents[2] / "manifests"


def rights(file, kind):
    documents = yaml.safe_load_all((MANIFESTS / file).read_text())
    return granted(
        rule
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == "tunnel-operator"
        for rule in document["rules"]
    )


def test_the_rights_in_a_watched_namespace_are_those_of_the_cluster_less_what_is_of_the_cluster():
    of_the_cluster = {
        Right(group, resource, verb)
        for group, resource in (("tunnels.dev", "tunnelclasses"), ("", "namespaces"))
        for verb in ("list", "watch")
    }
    cluster = rights("base/rbac.yaml", "ClusterRole")
    assert rights("namespaced/watched/rbac.yaml", "Role") == cluster - of_the_cluster


def test_the_documented_kustomizations_are_ones():
    text = (MANIFESTS.parent / "docs/namespaced.md").read_text()
    found = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml")[1:]]
    assert [body["kind"] for body in found] == ["Kustomization", "Kustomization"]
    for body in found:
        [resource] = body["resources"]
        assert (MANIFESTS.parent / resource.removeprefix("../edge-tunnels/")).is_dir()
