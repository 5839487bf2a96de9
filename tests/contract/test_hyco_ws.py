"""npm hyco-ws, unmodified, as listener and as sender: against the relay, and against our forwarders."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta

import pytest

from support import hyco
from support.azure import Azure
from support.bridge import make_settings
from support.peers import connected, echo, listening
from support.processes import Program
from support.waiting import until
from tunnel_forwarder.receiver import Target
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.transport import tls_context


@pytest.fixture
async def azure(sim):
    made = Azure(sim)
    await made.make_hybrid_connection("hc")
    return made


@pytest.fixture
def run(azure, node_modules):
    """Return a maker of scripts that sign in with the namespace's own key."""
    text = azure.relay.root_connection_string.reveal()
    pairs = dict(part.partition("=")[::2] for part in text.split(";"))

    def start(name, *, path="hc", key=pairs["SharedAccessKey"], **environment):
        uri = f"wss://{azure.endpoint.host}:{azure.endpoint.port}/$hc/{path}"
        return hyco.script(
            node_modules,
            name,
            ca_file=azure.sim.endpoints.ca_file,
            URI=uri,
            RULE=pairs["SharedAccessKeyName"],
            KEY=key,
            **environment,
        )

    return start


async def test_listener_and_sender_meet(sim, run):
    async with run("listener.js") as listener:
        await listener.event("listening")
        assert sim.listeners("hc") == 1
        async with run("sender.js", PORT_NAME="web", SIZE="1000000") as sender:
            assert (await sender.event("accepted"))["reply"] == "010000"
            assert (await sender.event("echoed"))["same"] is True
            assert (await sender.event("closed"))["code"] == 1000
            assert (await listener.event("closed"))["code"] == 1000
        assert listener.events[1] == {"event": "connected", "port": "web"}
    await sim.until(lambda: sim.listeners("hc") == 0)


@pytest.mark.parametrize(("script", "changes", "status"), [
    ("listener.js", {"path": "nobody"}, 404),
    ("listener.js", {"key": "wrong"}, 401),
    ("sender.js", {"path": "nobody"}, 404),
    ("sender.js", {"key": "wrong"}, 401),
    ("sender.js", {"key": ""}, 401),
    ("sender.js", {}, 404),
])  # fmt: skip
async def test_refusals(run, script, changes, status):
    async with run(script, PORT_NAME="web", SIZE="1", **changes) as refused:
        error = await refused.event("error")
    assert f"({status})" in str(error["message"])


async def test_listener_is_told_when_its_hybrid_connection_goes(azure, run):
    async with run("listener.js") as listener:
        await listener.event("listening")
        async with run("sender.js", PORT_NAME="web", SIZE="100") as sender:
            await sender.event("echoed")
            await listener.event("closed")
        await azure.delete_hybrid_connection("hc")
        # Closed with 1001, it dials again at once, and then there is nothing.
        assert "(404)" in str((await listener.event("error"))["message"])


@pytest.fixture
async def forwarder(azure, tmp_path):
    """Return our local forwarder as a process of its own, and the address of its port `web`."""
    folder = tmp_path / "tunnel"
    folder.mkdir()
    settings = make_settings(
        azure.endpoint, names=("web",), expires_at=datetime.now(UTC) + timedelta(hours=1)
    )
    (folder / "settings.json").write_text(settings.to_json())
    (folder / "token").write_text(azure.token("hc").reveal())
    (folder / "ca.crt").write_text(azure.authorities)
    program = Program(
        "tunnel_forwarder",
        "serve",
        "--settings-dir",
        str(folder),
        "--health-port",
        "0",
        "--termination-log",
        str(tmp_path / "termination"),
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        log=tmp_path / "forwarder.log",
    )
    await program.start()
    yield program
    await program.stop()


def port_of(program):
    """Return the TCP port that the forwarder says it listens on, once it has said so."""
    for line in program.output.splitlines():
        entry = json.loads(line)
        if entry["event"] == "forwarder.started":
            return entry["ports"]["web"]
    return None


async def test_listener_takes_our_local_forwarders_connections(run, forwarder):
    async with run("listener.js") as listener:
        await listener.event("listening")
        await until(lambda: port_of(forwarder), within=15, what=forwarder.output)
        data = os.urandom(1 << 20)
        for _ in range(3):
            async with connected(port_of(forwarder)) as client:
                sending = asyncio.create_task(client.send(data))
                assert await client.read(len(data)) == data
                await sending
            assert (await listener.event("connected"))["port"] == "web"


async def test_our_remote_forwarder_takes_a_senders_connections(azure, run):
    async with (
        listening(echo) as target,
        RemoteForwarder(
            endpoint=azure.endpoint,
            hybrid_connection="hc",
            token=azure.token("hc"),
            targets={"web": Target("127.0.0.1", target)},
            tls=tls_context(azure.authorities),
        ) as remote,
    ):
        await remote.wait_listening()
        async with run("sender.js", PORT_NAME="web", SIZE="1000000") as sender:
            assert (await sender.event("accepted"))["reply"] == "010000"
            assert (await sender.event("echoed"))["same"] is True
            await sender.event("closed")
        # A name that nothing stands for is not answered: the stream just ends.
        async with run("sender.js", PORT_NAME="nothing", SIZE="1") as sender:
            await sender.event("closed")
        assert "accepted" not in {event["event"] for event in sender.events}
