"""Where things are kept: state in the checkout's `.dev`, what costs minutes to make in the cache."""

import os
from pathlib import Path

GO_MODULE = Path(__file__).resolve().parents[1]


def cache_dir() -> Path:
    """The folder shared by all checkouts of this user; everything in it can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "edge-tunnels"
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_dir(tree: Path) -> Path:
    """The checkout's own state, ignored by git and removed by `down`."""
    return tree / ".dev"


def cluster_dir(tree: Path) -> Path:
    """What the built cluster's parts write; the next cluster starts without it."""
    return state_dir(tree) / "cluster"


def run_dir(tree: Path) -> Path:
    """One record for each process that was started; see `process`."""
    return state_dir(tree) / "run"


def log_dir(tree: Path) -> Path:
    """One log for each process, of its last start; kept by `down`."""
    return state_dir(tree) / "log"


def kubeconfig(tree: Path) -> Path:
    """The only kubeconfig that is ever written."""
    return state_dir(tree) / "kubeconfig"


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Let a reader, or the run after an interruption, find the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)
