import json
import re

import pytest
import yaml

from tunnel_dev import toolchain
from tunnel_dev.errors import DevError
from tunnel_dev.paths import GO_MODULE

GO_MOD = "module x\n\nrequire (\n\tk8s.io/kubernetes v1.2.3\n\tk8s.io/kubernetes-x v9.9.9\n)\n"


def test_the_version_is_the_one_required():
    assert toolchain.module_version(GO_MOD, "k8s.io/kubernetes") == "v1.2.3"
    with pytest.raises(DevError, match="does not require"):
        toolchain.module_version(GO_MOD, "k8s.io/other")


def test_the_programs_say_which_release_they_are():
    flags = toolchain._linker_flags()

    assert f"version.gitVersion={toolchain.kubernetes_version()} " in flags
    assert re.search(r"gitMajor=\d+ .*gitMinor=\d+", flags)


def test_the_folder_is_named_by_version_platform_and_inputs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    name = toolchain.tools_dir().name

    assert name.startswith(f"kubernetes-{toolchain.kubernetes_version()}-{toolchain.target()}-")
    assert re.fullmatch(r".*-[0-9a-f]{8}", name)


def test_every_program_of_the_module_is_a_tool_of_it():
    pinned = (GO_MODULE / "go.mod").read_text() + (toolchain.CONTOUR_MODULE / "go.mod").read_text()
    for tool in toolchain.GO_TOOLS.values():
        if not tool.package.startswith("./"):
            assert re.search(rf"^(tool)?\s+{re.escape(tool.package)}$", pinned, re.MULTILINE)


def test_what_is_there_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = toolchain.tools_dir()
    folder.mkdir(parents=True)
    (folder / "etcd").touch()

    assert toolchain.ensure(["etcd"]) == folder


def test_of_the_gateway_api_what_is_needed_is_kept_without_its_prose():
    fields = {"description": {"type": "string", "description": "Prose."}}
    documents = [
        {
            "kind": "CustomResourceDefinition",
            "spec": {"names": {"plural": plural}, "description": "Prose.", "properties": fields},
        }
        for plural in ("httproutes", "udproutes")
    ]
    text = yaml.safe_dump_all([None, *documents])

    kept = json.loads(toolchain.gateway_definitions(text))

    assert kept["kind"] == "List"
    [definition] = kept["items"]
    assert definition["spec"] == {
        "names": {"plural": "httproutes"},
        "properties": {"description": {"type": "string"}},
    }
