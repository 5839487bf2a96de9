"""PostgreSQL with pgbench (postgresql, postgresql-contrib)."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

USER = "postgres"


@pytest.fixture
async def database(programs, free_port):
    """The port of a fresh cluster, and its binaries."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # noqa: ASYNC240
    if not folders or not (folders[-1] / "pgbench").exists():
        pytest.skip("postgresql is not installed")
    binaries = folders[-1]
    as_user = ("runuser", "-u", USER, "--") if os.geteuid() == 0 else ()
    home, port = Path(tempfile.mkdtemp(prefix="tunnel-pg-")), free_port()
    try:
        if as_user:
            shutil.chown(home, USER, USER)
        init = ("-D", home / "data", "-A", "trust", "-U", USER, "--no-sync")
        await programs.run(*as_user, binaries / "initdb", *init, cwd=home)
        options = ("-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        await programs.start(
            *as_user, binaries / "postgres", "-D", home / "data", *options, "-k", home,
            port=port, cwd=home,
        )  # fmt: skip
        yield port, binaries
        await programs.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def test_pgbench_runs_without_an_error(database, tunnel, programs, figure):
    port, binaries = database
    async with tunnel(db=port) as ports:
        at = ("-h", "127.0.0.1", "-p", ports["db"], "-U", USER)
        await programs.run(binaries / "pgbench", *at, "-i", "-s", "1", "-q", USER)
        work = ("-c", "8", "-j", "2", "-t", "50")
        output = await programs.run(binaries / "pgbench", *at, *work, USER)
        assert "number of transactions actually processed: 400/400" in output
        figure(f"pgbench, 8 clients: {rate(output)} transactions a second")
        # A new connection for each transaction.
        output = await programs.run(binaries / "pgbench", *at, "-C", "-S", "-t", "50", USER)
        assert "number of transactions actually processed: 50/50" in output
        figure(f"pgbench, a connection for each: {rate(output)} transactions a second")


def rate(output):
    return re.search(r"tps = ([\d.]+)", output)[1]
