"""The image of the container that holds a Pod's namespaces: one static program and nothing else."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from . import buildah, toolchain
from .console import step
from .images import archive_of

DOCKERFILE = """\
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
"""


def reference() -> str:
    """Named by what it is built from, as the program's folder is."""
    return f"localhost/edge-tunnels-pause:{toolchain.tools_dir().name.rpartition('-')[2]}"


def ensure() -> Path:
    """Return its archive, after making it unless the cache holds it."""
    archive = archive_of(reference())
    if not archive.exists():
        program = toolchain.ensure(["pause"]) / "pause"
        with step("Building the pause image"), TemporaryDirectory() as folder:
            context = Path(folder)
            shutil.copy(program, context / "pause")
            (context / "Dockerfile").write_text(DOCKERFILE)
            buildah.build(context / "Dockerfile", context, reference())
            buildah.export(reference(), archive)
    return archive
