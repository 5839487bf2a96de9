"""OpenSSH and rsync, with checksums (openssh-server, rsync)."""

import asyncio
import getpass
import hashlib
import os
import shutil
from pathlib import Path

import pytest

MIB = 1 << 20
SIZE = int(os.environ.get("PROGRAMS_MIB", "256")) * MIB


@pytest.fixture
async def ssh(needs, programs, free_port, tmp_path):
    """The port of an SSH server, and the options of a client that may log in."""
    needs("sshd", "ssh", "ssh-keygen", "scp", "rsync")
    for name in ("host", "user"):
        key = ("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
        await programs.run("ssh-keygen", *key)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    port = free_port()
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # noqa: ASYNC240
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    await programs.start(sshd, "-D", "-e", "-f", tmp_path / "sshd_config", port=port)
    options = ("-F", "none", "-i", str(tmp_path / "user"), "-o", "StrictHostKeyChecking=no")
    return port, (*options, "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_noise(path):
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))


async def test_files_arrive_unharmed_in_both_directions(ssh, tunnel, programs, tmp_path):
    port, options = ssh
    there, back, again = (tmp_path / name for name in ("there", "back", "again"))
    data = tmp_path / "data"
    make_noise(data)
    host = f"{getpass.getuser()}@127.0.0.1"
    async with tunnel(ssh=port) as ports:
        at = str(ports["ssh"])
        await programs.run("scp", "-q", "-P", at, *options, data, f"{host}:{there}")
        assert digest(there) == digest(data)
        await programs.run("scp", "-q", "-P", at, *options, f"{host}:{there}", back)
        assert digest(back) == digest(data)
        shell = " ".join(("ssh", "-p", at, *options))
        await programs.run("rsync", "-W", "--checksum", "-e", shell, f"{host}:{there}", again)
        assert digest(again) == digest(data)


async def test_many_sessions_at_once_keep_their_output_apart(ssh, tunnel, programs):
    port, options = ssh
    async with tunnel(ssh=port) as ports, asyncio.TaskGroup() as tasks:
        command = ("ssh", "-p", str(ports["ssh"]), *options, f"{getpass.getuser()}@127.0.0.1")
        answers = [
            tasks.create_task(programs.run(*command, f"seq {n} {n + 5000} | sha256sum"))
            for n in range(6)
        ]
    for number, answer in enumerate(answers):
        text = "".join(f"{n}\n" for n in range(number, number + 5001))
        assert answer.result().split()[0] == hashlib.sha256(text.encode()).hexdigest()
