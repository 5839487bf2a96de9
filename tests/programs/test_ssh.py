"""OpenSSH and rsync, with checksums (openssh-server, rsync)."""

import asyncio
import getpass
import hashlib
import os
import shutil
from pathlib import Path

import pytest

MIB = 1 << 20
SIZE = int(os.environ.get("PROGRAMS_MIB", "1024")) * MIB


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


@pytest.fixture
def files(tmp_path):
    """Names of large files, which do not outlive the test."""
    paths = [tmp_path / name for name in ("data", "there", "back", "again")]
    make_noise(paths[0])
    yield paths
    for path in paths:
        path.unlink(missing_ok=True)


async def test_files_arrive_unharmed_in_both_directions(ssh, tunnel, programs, files, figure):
    port, options = ssh
    data, there, back, again = files
    expected = await asyncio.to_thread(digest, data)
    host = f"{getpass.getuser()}@127.0.0.1"

    async def carried(copy, *argv):
        took = await programs.timed(*argv)
        assert await asyncio.to_thread(digest, copy) == expected
        figure(f"{argv[0]} of {SIZE // MIB} MiB, SHA-256 the same: {SIZE / MIB / took:.0f} MiB/s")

    async with tunnel(ssh=port) as ports:
        at = str(ports["ssh"])
        await carried(there, "scp", "-q", "-P", at, *options, data, f"{host}:{there}")
        await carried(back, "scp", "-q", "-P", at, *options, f"{host}:{there}", back)
        shell = " ".join(("ssh", "-p", at, *options))
        await carried(again, "rsync", "-W", "--checksum", "-e", shell, f"{host}:{there}", again)
        # Nothing is left to do for the second one, which both sides find out by their own checksums.
        sync = ("rsync", "--checksum", "--itemize-changes", "-e", shell, f"{host}:{there}", again)
        assert ">f" not in await programs.run(*sync)


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
