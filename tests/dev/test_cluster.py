from dataclasses import replace
from pathlib import Path

import pytest

from tunnel_dev import cgroups, cluster, command, description, lock, paths, waiting
from tunnel_dev.errors import DevError


@pytest.fixture
def described(tmp_path):
    return cluster.Cluster(
        kind="existing",
        tree=tmp_path,
        kubeconfig=tmp_path / ".dev" / "kubeconfig",
        kubectl=Path("/bin/kubectl"),
        host_address="10.245.0.2",
        ingress_address="10.245.0.1:80",
    )


def test_a_cluster_is_known_until_it_is_forgotten(described, tmp_path):
    assert cluster.current(tmp_path) is None
    description.save(described)
    assert cluster.current(tmp_path) == described
    description.forget(tmp_path)
    description.forget(tmp_path)
    assert cluster.current(tmp_path) is None


def test_a_built_cluster_without_its_processes_does_not_count(described, tmp_path):
    description.save(replace(described, kind="built"))

    assert cluster.current(tmp_path) is None


def test_an_unknown_kind_of_cluster_is_refused(tmp_path):
    with pytest.raises(DevError, match="CLUSTER=minikube is none of auto, kind, built, existing"):
        cluster.up(tmp_path, flavour="minikube")


def test_a_failed_command_shows_what_it_said():
    with pytest.raises(DevError, match=r"`sh -c .*` ended with 3:\n  the reason"):
        command.run("sh", "-c", "echo the reason >&2; exit 3")
    assert command.attempt("false").returncode == 1


def test_a_missing_command_is_named():
    with pytest.raises(DevError, match="'no-such-program' is not installed"):
        command.run("no-such-program")


def test_a_wait_ends_at_its_deadline_with_a_sentence():
    with pytest.raises(DevError, match=r"Gave up after 0\.01 s: nothing came"):
        waiting.wait_until(lambda: False, seconds=0.01, what="nothing came")


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path):
    path = tmp_path / "folder" / "file"
    paths.write_atomically(path, "one")
    paths.write_atomically(path, b"two", mode=0o600)

    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_lock_is_free_again_when_its_holder_is_done(tmp_path):
    for _ in range(2):
        with lock.exclusive(tmp_path, what="testing"):
            assert list(tmp_path.iterdir()) == []


def test_both_versions_of_control_groups_are_understood(tmp_path):
    for name in ("cpu", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpu,cpuacct").symlink_to("cpu")
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu", tmp_path / "unified"]

    (tmp_path / "cgroup.controllers").touch()
    assert cgroups.hierarchies(tmp_path) == [tmp_path]
