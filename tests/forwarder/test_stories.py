"""Any order of writes, half-closes, resets, stalls and changes of tokens, through both forwarders and real sockets.

What arrives is what was sent, in order: all of it before an orderly end, or less before a reset, which somebody
has to have asked for.
"""

import asyncio
import errno
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.bridge import bridging
from support.peers import Client, connected, listening
from tunnel_forwarder.protocol.secret import Secret

STEPS = st.lists(
    st.tuples(st.just("write"), st.booleans(), st.sampled_from([1, 1000, 70_000, 600_000]))
    | st.tuples(st.sampled_from(["end", "stall", "go"]), st.booleans(), st.none())
    | st.tuples(st.just("tokens"), st.none(), st.none())
    | st.tuples(st.just("reset"), st.booleans(), st.none()),
    max_size=12,
)
"""What to do; at the client's end or the device's; how many bytes."""


class Side:
    """One end of a stream: what it has sent and got, and how it saw the stream end."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent, self.got = bytearray(), bytearray()
        self.has_ended = self.has_reset = False
        self.saw: str | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self.reads.wait()
                data = await self.client.reader.read(65536)
                if not data:
                    self.saw = "end"
                    return
                self.got += data
        except OSError as error:
            # asyncio may find a reset out by shutting the socket down, and hands that error on.
            if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                raise
            self.saw = "reset"

    @property
    def can_speak(self) -> bool:
        return not (self.has_ended or self.has_reset or self.client.writer.transport.is_closing())

    def write(self, size: int, numbers: "count[int]") -> None:
        if self.can_speak:
            data = bytes(next(numbers) % 251 for _ in range(min(size, 1000))) * max(1, size // 1000)
            self.sent += data
            self.client.writer.write(data)

    def end(self) -> None:
        if self.can_speak:
            self.has_ended = True
            self.client.end()

    def reset(self) -> None:
        if not self.client.writer.transport.is_closing():
            self.has_reset = True
            self.client.reset()


def carry_out(steps, sides, change_tokens):
    numbers = count()
    for step, at_device, size in steps:
        side = sides[bool(at_device)]
        match step:
            case "write":
                side.write(size, numbers)
            case "end":
                side.end()
            case "stall":
                side.reads.clear()
            case "go":
                side.reads.set()
            case "tokens":
                change_tokens()
            case "reset":
                side.reset()
        yield


def judge(here: Side, there: Side) -> None:
    """Compare what one side got with what the other one sent."""
    assert there.sent.startswith(here.got)
    if here.has_reset:
        return
    if here.saw == "end":
        assert here.got == there.sent
        assert there.has_ended
    else:
        assert here.saw == "reset"
        assert there.has_reset


# The forwarders draw their pauses in the event loop's thread, while Hypothesis draws stories in another.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")
@pytest.mark.parametrize("mux", [False, True], ids=["own-sockets", "shared-socket"])
async def test_no_byte_is_lost_or_invented_and_no_loss_looks_like_an_end(relay, certificates, mux):
    arrived: asyncio.Queue[Client] = asyncio.Queue()
    done = asyncio.Event()

    async def hand_over(reader, writer):
        await arrived.put(Client(reader, writer))
        await done.wait()

    tokens = count()
    options = {"mux": mux, "warm": 0 if mux else 1}
    async with (
        listening(hand_over) as target,
        bridging(relay, certificates, {"echo": target}, **options) as tunnel,
    ):

        def change_tokens():
            name = next(tokens)
            tunnel.local._sender.token = Secret(f"SharedAccessSignature send-{name}")
            tunnel.remote.renew(Secret(f"SharedAccessSignature listen-{name}"))

        async def story(steps):
            async with connected(tunnel.port()) as client, asyncio.timeout(30):
                sides = (Side(client), Side(await arrived.get()))
                for _ in carry_out(steps, sides, change_tokens):
                    await asyncio.sleep(0)
                for side in sides:
                    side.reads.set()
                    side.end()
                await asyncio.gather(*(side.reader for side in sides))
                judge(*sides)
                judge(*reversed(sides))
                sides[1].client.writer.transport.abort()

        loop = asyncio.get_running_loop()

        @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
        @given(STEPS)
        def stories(steps):
            asyncio.run_coroutine_threadsafe(story(steps), loop).result(40)

        try:
            await asyncio.to_thread(stories)
        finally:
            done.set()
