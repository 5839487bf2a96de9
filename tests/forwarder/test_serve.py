"""The local forwarder as a process: settings, lifetime, health, exit codes, the message that it leaves."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from support.bridge import LISTEN, SEND, listening_device, make_settings
from support.peers import connected, echo, listening
from support.waiting import until
from tunnel_forwarder import settings_dir
from tunnel_forwarder.__main__ import serve
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.lifetime import EndReason
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.serve import ServeOptions, Serving
from tunnel_forwarder.session import Session


class Mount:
    """A directory that changes as the kubelet changes one: a symlink is swapped."""

    def __init__(self, folder: Path, certificates, settings, token=SEND):
        self.folder = folder / "tunnel"
        self.folder.mkdir()
        self.certificates = certificates
        self.settings = settings
        self.token = token
        self._version = 0
        self.write()

    def write(self, **changes):
        self.settings = replace(self.settings, **changes)
        self.put(
            {
                "settings.json": self.settings.to_json(),
                "token": self.token.reveal() + "\n",
                "ca.crt": self.certificates.authority,
            }
        )

    def put(self, files):
        self._version += 1
        data = self.folder / f"..{self._version}"
        data.mkdir()
        for name, text in files.items():
            (data / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        link = self.folder / "..new"
        link.symlink_to(data.name)
        link.replace(self.folder / "..data")


@pytest.fixture
def mount(relay, certificates, tmp_path):
    return lambda **settings: Mount(
        tmp_path, certificates, make_settings(relay.endpoint, **settings)
    )


def make_options(mount, tmp_path, **options):
    defaults = {
        "health_port": 0,
        "termination_log": tmp_path / "termination-log",
        "watch_every": 0.02,
    }
    return ServeOptions(settings_dir=mount.folder, **(defaults | options))


@contextlib.asynccontextmanager
async def running(mount, tmp_path, **options):
    """A forwarder in this process, and the task that ends with its reason."""
    serving = Serving(
        make_options(mount, tmp_path, **options), settings_dir.read(mount.folder), Session(Clock())
    )
    task = asyncio.create_task(serving.run())
    try:
        await until(lambda: serving.forwarder.addresses or task.done())
        yield serving, task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            serving.forwarder.abort("test")
        await task


async def exchange(client):
    await client.send(b"x")
    assert await client.read(1) == b"x"


async def test_it_ends_at_its_deadline_and_resets_what_is_open(
    mount, tmp_path, relay, certificates
):
    mounted = mount(expires_at=datetime.now(UTC) + timedelta(seconds=1.5))
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}),
        running(mounted, tmp_path) as (serving, task),
        connected(serving.forwarder.addresses["echo"]) as client,
    ):
        await exchange(client)
        assert await client.is_reset()
        assert await task is EndReason.EXPIRED


async def test_it_ends_when_idle_but_not_before(mount, tmp_path, relay, certificates):
    mounted = mount(idle=1, warm=1)
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}),
        running(mounted, tmp_path) as (serving, task),
        connected(serving.forwarder.addresses["echo"]) as client,
    ):
        end = asyncio.get_running_loop().time() + 1.3
        while asyncio.get_running_loop().time() < end:
            await exchange(client)
            await asyncio.sleep(0.05)
        assert not task.done()
        assert await client.is_reset()
        assert await task is EndReason.IDLE
        assert serving.session.idle_for >= 1


async def test_an_extension_and_a_new_token_drop_nothing(mount, tmp_path, relay, certificates):
    mounted = mount(expires_at=datetime.now(UTC) + timedelta(seconds=1))
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}),
        running(mounted, tmp_path) as (serving, task),
        connected(serving.forwarder.addresses["echo"]) as client,
    ):
        await exchange(client)
        old = mounted.settings.expires_at
        mounted.token = LISTEN
        mounted.write(expires_at=old + timedelta(hours=1))
        await until(lambda: datetime.now(UTC) > old)
        await exchange(client)
        assert not task.done()
        assert serving.sender.token == LISTEN


async def test_what_can_not_change_is_ignored(mount, tmp_path):
    mounted = mount()
    async with running(mounted, tmp_path) as (serving, _):
        mounted.write(hybrid_connection="another", idle_seconds=7)
        await until(lambda: serving.settings.idle_seconds == 7)
        assert serving.settings.hybrid_connection == "hc"
        mounted.put({"settings.json": "broken"})
        mounted.write(idle_seconds=8)
        await until(lambda: serving.settings.idle_seconds == 8)


async def test_at_sigterm_streams_may_end(mount, tmp_path, relay, certificates):
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}),
        running(mount(), tmp_path) as (serving, task),
        connected(serving.forwarder.addresses["echo"]) as client,
    ):
        await exchange(client)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not serving.forwarder.ready)
        assert await is_refused(serving.forwarder.addresses["echo"])
        await exchange(client)
        client.end()
        assert await client.read() == b""
        assert await task is EndReason.DRAINED


async def test_the_grace_of_sigterm_ends(mount, tmp_path, relay, certificates):
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}),
        running(mount(), tmp_path, grace=0.1) as (serving, task),
        connected(serving.forwarder.addresses["echo"]) as client,
    ):
        await exchange(client)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await client.is_reset()
        assert await task is EndReason.DRAINED


async def test_health_metrics_and_status(mount, tmp_path, relay, certificates, caplog):
    with caplog.at_level("INFO"), socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with (
        listening(echo) as target,
        running(mount(warm=1), tmp_path, health_port=port) as (serving, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def get(path):
            async with http.get(path) as answer:
                return answer.status, await answer.text()

        await until(lambda: "nobody listens" in serving.forwarder.why)
        assert await get("/livez") == (200, "The forwarder runs.\n")
        status, text = await get("/readyz")
        assert status == 503
        assert "404" in text
        async with listening_device(relay, certificates, {"echo": target}):
            await until(lambda: serving.forwarder.ready)
            assert (await get("/readyz"))[0] == 200
            async with connected(serving.forwarder.addresses["echo"]) as client:
                await exchange(client)
                _, text = await get("/metrics")
                shown = json.loads((await get("/status"))[1])
        assert "tunnel_forwarder_streams_open 1.0" in text
        assert 'tunnel_forwarder_bytes_total{direction="in"} 1.0' in text
        assert 'tunnel_forwarder_refusals_total{reason="no_listener"} 0.0' in text
        assert "tunnel_forwarder_stream_set_up_seconds_count 1.0" in text
        assert "tunnel_forwarder_deadline_seconds 3" in text
        assert shown["tunnel"] == "imaging/mri-7"
        assert (shown["connections"], shown["bytesIn"], shown["streams"]) == (1, 1, 1)
        assert shown["ready"] is True
        assert "Signature" not in json.dumps(shown) + text


async def test_the_termination_message(mount, tmp_path, relay, certificates):
    mounted = mount(expires_at=datetime.now(UTC) + timedelta(seconds=2), listen=free_port())
    options = make_options(mounted, tmp_path)
    async with listening(echo) as target, listening_device(relay, certificates, {"echo": target}):
        task = asyncio.create_task(serve(options))
        port = mounted.settings.ports[0].listen
        client = await until_connected(port)
        client.write(b"hello")
        assert await client.reader.readexactly(5) == b"hello"
        assert await task == 0
    message = json.loads(options.termination_log.read_text())
    assert message.pop("firstActivity") <= message.pop("lastActivity")
    assert message == {"reason": "Expired", "connections": 1, "bytesIn": 5, "bytesOut": 5}


async def test_a_taken_port_is_a_failure_with_a_message(mount, tmp_path):
    with socket.create_server(("", 0)) as taken:
        mounted = mount(listen=taken.getsockname()[1])
        options = make_options(mounted, tmp_path)
        assert await serve(options) == 1
    message = json.loads(options.termination_log.read_text())
    assert message["reason"] == "Failed"
    assert "Address already in use" in message["message"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"settings.json": "{}"},
        {"token": "x"},
        {"token": "SharedAccessSignature sr=a"},
        {"ca.crt": "no certificate"},
    ],
)
async def test_settings_that_can_not_be_used(mount, tmp_path, capsys, files):
    mounted = mount()
    good = {"settings.json": mounted.settings.to_json(), "token": SEND.reveal()}
    for path in mounted.folder.iterdir():
        if path.name in ("settings.json", "token", "ca.crt"):
            path.unlink()
    mounted.put(good | files if files else {})
    assert await serve(make_options(mounted, tmp_path)) == 2
    complaint = capsys.readouterr().err.removeprefix("tunnel_forwarder: ").strip()
    message = json.loads((tmp_path / "termination-log").read_text())
    assert (message["reason"], message["message"]) == ("Failed", complaint)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ProtocolError, match=r"settings\.json"):
        settings_dir.read(tmp_path / "nowhere")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


async def is_refused(port):
    """Whether clients get no connection, or one that is reset: it waited when the port was closed."""
    try:
        async with connected(port) as client:
            return await client.is_reset()
    except ConnectionRefusedError:
        return True


async def until_connected(port):
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.reader = reader
                return writer
            await asyncio.sleep(0.01)


async def test_the_command_drains_and_exits_with_0(mount, tmp_path, relay):
    """The whole process: start, probe, SIGTERM, exit code, message, and no token in its log."""
    relay.refuse_connect = 404
    mounted, health = mount(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_forwarder", "serve",
        "--settings-dir", str(mounted.folder), "--health-port", str(health),
        "--termination-log", str(tmp_path / "message"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    (await until_connected(health)).close()
    await until(lambda: relay.tokens)
    process.terminate()
    _, log = await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0
    assert json.loads((tmp_path / "message").read_text())["reason"] == "Drained"
    assert "forwarder.started" in log.decode()
    assert SEND.reveal() not in log.decode()
    for line in log.decode().splitlines():
        assert json.loads(line)["level"] in ("info", "warning")


async def test_the_listen_command_listens_until_sigterm(tmp_path, relay, certificates):
    (tmp_path / "token").write_text(LISTEN.reveal())
    (tmp_path / "ca").write_text(certificates.authority)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_forwarder", "listen", "--endpoint", str(relay.endpoint),
        "--hybrid-connection", "hc", "--token-file", str(tmp_path / "token"),
        "--ca-file", str(tmp_path / "ca"), "--forward", "web=localhost:8080",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await until(lambda: relay.listeners)
    process.terminate()
    await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0
    assert relay.tokens == [("listen", LISTEN.reveal())]
