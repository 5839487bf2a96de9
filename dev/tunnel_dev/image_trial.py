"""Runs an image once as a strict cluster would: nothing of it writable but its volumes, no account, no rights.

It has a network of its own without a way out, and everything ends with the command, as `contained` says.
"""

import json
import shlex
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from . import buildah, packages
from .command import contained, run

ADDRESS = "192.0.2.1"
"""The container's own (RFC 5737: never anybody's); it is on the loopback interface."""

_HOST_NAME = "trial"
_SECONDS = 20

# $root is the image's tree, $start a command that runs in it as the image says.
_SCRIPT = """\
set -eu
ip link set lo up
ip address add {address}/32 dev lo
hostname {name}
store="--root {store} --runroot {run_root}"
container=$(buildah $store from --pull-never {reference})
trap 'buildah $store rm "$container" >/dev/null' EXIT
root=$(buildah $store mount "$container")
echo "{address} {name}" >"$root/etc/hosts"
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for volume in {volumes}; do
    mount -t tmpfs -o mode=0700,uid={uid},gid={gid} tmpfs "$root$volume"
done
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
start="env -i {environment} setpriv --no-new-privs chroot --userspec={uid}:{gid} --groups= $root"
$start {command} >"{run_root}/said" 2>&1 &
main=$!
left={deciseconds}
until [ -e "$root{ready}" ]; do
    left=$((left - 1))
    if [ $left = 0 ] || ! kill -0 $main; then cat "{run_root}/said"; exit 1; fi >&2
    sleep 0.1
done
$start {question}
kill -TERM $main
wait $main
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What to wait for and to ask."""

    ready: str
    """A file of the image that appears when its program is ready."""

    question: tuple[str, ...]
    """A command that runs in the image beside its program, and must end well."""


def try_out(reference: str, trial: Trial) -> str:
    """Run an image with its own command and settings; return what the question was answered.

    Raises DevError when it does not get ready, the question fails, or it does not end well at SIGTERM.
    """
    packages.ensure(packages.IMAGES | packages.NETWORK)
    config = _config(reference)
    uid, _, gid = config["User"].partition(":")
    with TemporaryDirectory(prefix="edge-tunnels-") as run_root:
        script = _SCRIPT.format(
            address=ADDRESS,
            name=_HOST_NAME,
            store=shlex.quote(str(buildah.store())),
            run_root=run_root,
            reference=shlex.quote(reference),
            volumes=shlex.join(config.get("Volumes", {})),
            uid=int(uid),
            gid=int(gid),
            environment=shlex.join(config["Env"]),
            command=shlex.join([*config["Entrypoint"], *config.get("Cmd", [])]),
            deciseconds=_SECONDS * 10,
            ready=shlex.quote(trial.ready),
            question=shlex.join(trial.question),
        )
        return run(*contained("unshare", "--net", "--uts", "--", "sh", "-c", script))


def _config(reference: str) -> dict[str, Any]:
    described = json.loads(buildah.buildah("inspect", "--type", "image", reference))
    config: dict[str, Any] = described["OCIv1"]["config"]
    return config
