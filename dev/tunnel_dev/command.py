"""Run one command to its end; a failure is an error that shows what the command said."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import DevError

OUTPUT_SHOWN = 25


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Return what the command wrote to its standard output; `env` is added to ours."""
    done = attempt(*argv, cwd=cwd, env=env, stdin=stdin)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()[-OUTPUT_SHOWN:]
        raise DevError(
            f"`{shlex.join(map(str, argv))}` ended with {done.returncode}:\n  " + "\n  ".join(said)
        )
    return done.stdout


def attempt(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command whose failure is an answer too.

    The command dies with this process, also when that is killed: a build that goes on after its
    `make` is gone would race with the next one.
    """
    if shutil.which(argv[0], path=search_path()) is None:
        raise DevError(f"The command '{argv[0]}' is not installed.")
    return subprocess.run(
        [*tied_to_us(), *map(str, argv)],
        cwd=cwd,
        env={**os.environ, "PATH": search_path(), **(env or {})},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
    )


def search_path() -> str:
    """PATH with the administrator's folders, which a root by `su` need not have on it."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def contained(*argv: str | Path) -> tuple[str | Path, ...]:
    """Wrap a command of many processes so that all of them, and their mounts, end with it.

    The first process of a pid namespace takes the others with it, and a mount namespace is undone
    by the kernel. Needs root.
    """
    return (
        *("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child=KILL", "--"),
        *argv,
    )


def tied_to_us() -> tuple[str, ...]:
    """The prefix that asks the kernel to end the command with us; other systems have none."""
    return ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
