"""The image that others are built on where no registry is reached: Debian with Python, by debootstrap.

It stands in for `python:3.x-slim`, which is what the Dockerfiles build on for everyone else.
"""

import shutil
from pathlib import Path

from . import packages
from .buildah import build, image_id
from .command import contained, run
from .console import step
from .lock import exclusive
from .paths import cache_dir

SUITE = "bookworm"
REFERENCE = f"localhost/edge-tunnels-base:{SUITE}"
INCLUDED = ("python3", "python3-venv", "ca-certificates")
# What no image needs: the package lists and archives, and what is for people to read.
EXCLUDED = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./var/log/*.log",
    "./var/log/apt/*",
)
DOCKERFILE = """\
FROM scratch
ADD root.tar /
CMD ["bash"]
"""


def ensure() -> str:
    """Return the image's id, after making it unless the store holds it."""
    packages.ensure(packages.IMAGES)
    if found := image_id(REFERENCE):
        return found
    folder = cache_dir() / "base"
    folder.mkdir(exist_ok=True)
    with exclusive(folder, what="making the base image"):
        if not image_id(REFERENCE):
            with step("Making the base image of Debian packages, once", estimate="1 min"):
                _make(folder)
    made = image_id(REFERENCE)
    if made is None:
        raise AssertionError("buildah build ended well, and the image is not there")
    return made


def _make(folder: Path) -> None:
    root, context = folder / "root", folder / "context"
    shutil.rmtree(root, ignore_errors=True)
    context.mkdir(exist_ok=True)
    include = f"--include={','.join(INCLUDED)}"
    run(*contained("debootstrap", "--variant=minbase", include, SUITE, root))
    excluded = (f"--exclude={pattern}" for pattern in EXCLUDED)
    run("tar", "--create", "--file", context / "root.tar", *excluded, "--directory", root, ".")
    (context / "Dockerfile").write_text(DOCKERFILE)
    build(context / "Dockerfile", context, REFERENCE)
    shutil.rmtree(root)
    shutil.rmtree(context)
