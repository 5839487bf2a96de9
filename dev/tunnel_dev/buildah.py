"""Images without a container engine: buildah with a store of its own in the cache.

Each command runs with its children and its mounts contained, so that one that is killed leaves
nothing running and nothing mounted.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from . import packages
from .command import contained, run
from .lock import exclusive
from .paths import cache_dir

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def build(
    dockerfile: Path, context: Path, reference: str, *, arguments: Mapping[str, str] | None = None
) -> None:
    """Build an image in the store, reusing the layers whose inputs have not changed."""
    packages.ensure(packages.IMAGES)
    build_arguments = [f"--build-arg={k}={v}" for k, v in (arguments or {}).items()]
    with exclusive(store(), what="building an image"):
        # What a killed build was working on.
        buildah("rm", "--all")
        buildah(
            *("build", "--isolation", "chroot", "--layers", "--format", "docker"),
            # It writes a lock there although there is no network to configure.
            *("--cni-config-dir", store() / "cni"),
            *(*_trust(), *build_arguments),
            *("--file", dockerfile, "--tag", reference, context),
        )


def image_id(reference: str) -> str | None:
    """The id of an image in the store, which changes when its content does."""
    template = "{{.Name}}:{{.Tag}} {{.ID}}"
    listed = buildah("images", "--noheading", "--no-trunc", "--format", template).split()
    return dict(zip(listed[::2], listed[1::2], strict=True)).get(reference)


def size(reference: str) -> str:
    """How large an image in the store is, unpacked and with what it is built on, for people to read."""
    return buildah("images", "--noheading", "--format", "{{.Size}}", reference).strip()


def export(reference: str, archive: Path) -> None:
    """Write an image to a file whose layers are not compressed: it is read once, from here."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.partial")
    partial.unlink(missing_ok=True)
    buildah("push", reference, f"docker-archive:{partial}:{reference}")
    partial.rename(archive)


def buildah(*arguments: str | Path) -> str:
    """Run one command on the store.

    Its run root, which says what is mounted, is as short-lived as the mounts are.
    """
    with TemporaryDirectory(prefix="edge-tunnels-") as run_root:
        places = ("--root", store(), "--runroot", run_root)
        return run(*contained("buildah", *places, *arguments))


def store() -> Path:
    """Where the images are."""
    path = cache_dir() / "buildah"
    path.mkdir(exist_ok=True)
    return path


def _trust() -> tuple[str, ...]:
    """Lend the build this machine's certificates: a proxy that opens TLS is trusted here alone.

    The bundle is mounted for the build and becomes no part of a layer.
    """
    bundle = Path(os.environ.get("SSL_CERT_FILE", CERTIFICATES))
    return (f"--volume={bundle}:{CERTIFICATES}:ro",) if bundle.is_file() else ()
