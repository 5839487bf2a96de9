"""promtool, out of Debian's package `prometheus`, for the tests of the alerts.

The package is unpacked and not installed: installed, it would start a Prometheus on this machine.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from .command import run
from .console import step
from .errors import DevError
from .paths import cache_dir

PACKAGE = "prometheus"


def find() -> Path | None:
    """The program on PATH, or the one that `ensure` has put into the cache."""
    found = shutil.which("promtool")
    if found is not None:
        return Path(found)
    return _cached() if _cached().exists() else None


def ensure() -> Path:
    """Return the program, after getting it where there is none. Needs no root."""
    there = find()
    if there is not None:
        return there
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise DevError("There is no promtool and this is no Debian system: install Prometheus.")
    with (
        step(f"Getting promtool out of Debian's package {PACKAGE}", estimate="10 s"),
        TemporaryDirectory() as folder,
    ):
        run("apt-get", "download", "-qq", PACKAGE, cwd=Path(folder))
        [package] = Path(folder).glob("*.deb")
        run("dpkg-deb", "--extract", package, Path(folder) / "x")
        _cached().parent.mkdir(parents=True, exist_ok=True)
        partial = _cached().with_suffix(".partial")
        shutil.copy2(Path(folder) / "x/usr/bin/promtool", partial)
        # A run that is broken off leaves no half of a program under the name.
        partial.replace(_cached())
    return _cached()


def _cached() -> Path:
    return cache_dir() / "bin" / "debian" / "promtool"
