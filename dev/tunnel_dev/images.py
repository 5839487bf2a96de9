"""Images of this checkout's programs, built when their inputs changed and loaded into the cluster.

A tag is a hash of all that goes into the image, so that a Pod whose tag is loaded runs what the tree
holds, and nothing has to be built, loaded or pulled twice.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import base_image, buildah, kind_cluster, machine
from .command import run
from .console import step
from .description import Cluster
from .errors import DevError
from .paths import cache_dir

NOT_INPUTS = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
TAG_LENGTH = 16
ARCHIVES_KEPT = 2


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image: its Dockerfile, and the files and folders that it copies, relative to the context."""

    name: str
    context: Path
    dockerfile: Path
    inputs: tuple[Path, ...]


def build_and_load(cluster: Cluster, spec: ImageSpec) -> str:
    """Return the reference under which Pods find the image, with `imagePullPolicy: IfNotPresent`."""
    match cluster.kind:
        case "built":
            return _into_built(cluster.tree, spec)
        case "kind":
            reference = f"localhost/{spec.name}:{content_hash(spec, base='')}"
            kind_cluster.build_and_load(reference, spec.context, spec.dockerfile)
            return reference
        case _:
            raise DevError(
                "An existing cluster pulls its images from a registry: push "
                f"'{spec.name}' there, and name it where the image is configured."
            )


def content_hash(spec: ImageSpec, *, base: str) -> str:
    """Hash paths, modes and contents of the inputs, the Dockerfile and what it builds on."""
    digest = hashlib.sha256(base.encode())
    for relative in sorted({spec.dockerfile, *spec.inputs}):
        for file in _files(spec.context / relative):
            is_executable = os.access(file, os.X_OK)
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            line = f"{file.relative_to(spec.context)}\0{is_executable}\0{content}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:TAG_LENGTH]


def load_archive(tree: Path, archive: Path) -> None:
    """Load an archived image into the built cluster's containerd."""
    run(*machine.enter(tree), "ctr", "--namespace=k8s.io", "images", "import", archive)


def is_loaded(tree: Path, reference: str) -> bool:
    """Whether the built cluster's containerd holds the image."""
    listed = run(*machine.enter(tree), "ctr", "--namespace=k8s.io", "images", "list", "--quiet")
    return reference in listed.splitlines()


def archive_of(reference: str) -> Path:
    """Where the archive of an image is kept, from one cluster to the next."""
    name, _, tag = reference.rpartition("/")[2].partition(":")
    return cache_dir() / "images" / name / f"{tag}.tar"


def build(spec: ImageSpec) -> str:
    """Build an image in the cache's store, unless it is there; return its reference."""
    base = base_image.ensure()
    reference = f"localhost/{spec.name}:{content_hash(spec, base=base)}"
    if buildah.image_id(reference) is None:
        with step(f"Building the image {reference}"):
            arguments = {"BASE_IMAGE": base_image.REFERENCE}
            dockerfile = spec.context / spec.dockerfile
            buildah.build(dockerfile, spec.context, reference, arguments=arguments)
    return reference


def _into_built(tree: Path, spec: ImageSpec) -> str:
    reference = f"localhost/{spec.name}:{content_hash(spec, base=base_image.ensure())}"
    if is_loaded(tree, reference):
        return reference
    archive = archive_of(reference)
    if not archive.exists():
        buildah.export(build(spec), archive)
        _prune(archive.parent.glob("*.tar"))
    with step(f"Loading the image {reference}"):
        load_archive(tree, archive)
    return reference


def _files(path: Path) -> Iterator[Path]:
    """The files below a path in a fixed order, without what Python and its tools leave there."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise DevError(f"The image input {path} does not exist.")
    for child in sorted(path.iterdir()):
        if child.name not in NOT_INPUTS:
            yield from _files(child)


def _prune(archives: Sequence[Path] | Iterator[Path]) -> None:
    """Keep the newest archives: this checkout's, and that of the branch it was on before."""
    by_age = sorted(archives, key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[ARCHIVES_KEPT:]:
        old.unlink(missing_ok=True)
