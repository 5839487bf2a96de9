"""The operator as manifests/namespaced installs it: with no right outside of the namespaces that it serves."""

import json
import os
from pathlib import Path

import pytest
import yaml

from support.audit import asked_for
from support.kubectl import KubectlError

MANIFESTS = Path(__file__).parents[2] / "manifests"
CLUSTER_SCOPED = (
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)


def write_kustomization(folder, **content):
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return folder


@pytest.fixture
def own_namespace(kubectl, namespace):
    name = f"{namespace}-operator"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture
def installed(kubectl, namespace, own_namespace, tmp_path):
    """Install it, and return what was installed."""
    subject = {"op": "replace", "path": "/subjects/0/namespace", "value": own_namespace}
    patches = [{"target": {"kind": "RoleBinding"}, "patch": json.dumps([subject])}]
    operator = write_kustomization(
        tmp_path / "install",
        patches=patches,
        namespace=own_namespace,
        resources=[os.path.relpath(MANIFESTS / "namespaced", tmp_path / "install")],
    )
    watched = write_kustomization(
        tmp_path / "watched",
        namespace=namespace,
        resources=[os.path.relpath(MANIFESTS / "namespaced/watched", tmp_path / "watched")],
        patches=patches,
    )
    for folder in (operator, watched):
        kubectl("apply", "-k", str(folder))
    rendered = [kubectl("kustomize", str(folder)) for folder in (operator, watched)]
    return [body for text in rendered for body in yaml.safe_load_all(text)]


@pytest.fixture
def service_account_kubeconfig(service_account_kubeconfig, installed, kubectl):
    """Return the way in of this installation's service account."""
    [account] = [body["metadata"] for body in installed if body["kind"] == "ServiceAccount"]
    token = kubectl("create", "token", account["name"], "-n", account["namespace"]).strip()
    config = json.loads(service_account_kubeconfig.read_text())
    config["users"][0]["user"]["token"] = token
    service_account_kubeconfig.write_text(json.dumps(config))
    return service_account_kubeconfig


@pytest.fixture
def operator(operator, own_namespace, tunnel_class, tmp_path):
    """Return the operator as the Deployment would start it; the class that the cluster has is not its."""
    file = tmp_path / "tunnelclasses.yaml"
    file.write_text(json.dumps(tunnel_class))
    operator.environment |= {"TUNNEL_CLASSES_FILE": str(file), "POD_NAMESPACE": own_namespace}
    return operator


def test_nothing_of_it_is_of_the_whole_cluster(installed):
    assert not [body for body in installed if body["kind"] in CLUSTER_SCOPED]
    assert all(body["metadata"]["namespace"] for body in installed)


def test_the_file_of_classes_is_where_the_operator_looks_for_it(installed):
    [deployment] = [body for body in installed if body["kind"] == "Deployment"]
    [config_map] = [body for body in installed if body["kind"] == "ConfigMap"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert mount["name"] == volume["name"]
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    [file] = config_map["data"]
    assert variables["TUNNEL_CLASSES_FILE"] == f"{mount['mountPath']}/{file}"
    assert {"POD_NAMESPACE", "FORWARDER_IMAGE", "WATCH_NAMESPACES"} <= variables.keys()


async def test_it_opens_and_closes_a_tunnel_and_asks_for_nothing_that_it_may_not(
    stage, server, own_namespace
):
    user = f"system:serviceaccount:{own_namespace}:tunnel-operator"
    for verb, resource, namespace in (
        ("list", "tunnelclasses", stage.namespace),
        ("list", "namespaces", stage.namespace),
        ("list", "tunnels", "default"),
        ("list", "secrets", own_namespace),
    ):
        # `auth can-i` ends with 1 for no.
        with pytest.raises(KubectlError):
            stage.kubectl("auth", "can-i", verb, resource, f"--as={user}", "-n", namespace)
    await stage.open()
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    seen = list(asked_for(server.audit, user))
    assert seen
    assert not [(right, denial) for right, denial in seen if denial]
