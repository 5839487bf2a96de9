"""kopf itself, watching an API server that a test plays."""

import asyncio
import contextlib
import gc
import json
import logging
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web

from tunnel_operator.adapters.hearing import Hearing
from tunnel_operator.adapters.watch import operator_settings
from tunnel_operator.runtime.watches import Watches

TOKEN = "t"
GROUP, VERSION = "tunnels.dev", "v1alpha1"
BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}
SILENT = "nothing has come from the watch of tunnels for 400 s"


def resource(plural, kind):
    verbs = ["list", "watch", "patch"]
    names = {"name": plural, "singularName": kind.lower(), "kind": kind}
    return names | {"namespaced": True, "verbs": verbs}


@dataclass
class Api:
    """Has no Tunnels, and answers their watch as the test wants it."""

    is_mute: bool = False
    token: str = TOKEN
    opened: int = 0
    watches: list[web.StreamResponse] = field(default_factory=list)
    port: int = 0
    runner: web.AppRunner | None = None

    async def start(self):
        app = web.Application()
        app.router.add_get("/api", self._json(versions=["v1"]))
        # kopf wants to know of these before it watches anything.
        app.router.add_get("/api/v1", self._json(resources=[resource("namespaces", "Namespace")]))
        group = {"name": GROUP, "versions": [{"version": VERSION}]}
        group["preferredVersion"] = {"version": VERSION}
        app.router.add_get("/apis", self._json(groups=[group]))
        app.router.add_get(
            f"/apis/{GROUP}/{VERSION}", self._json(resources=[resource("tunnels", "Tunnel")])
        )
        app.router.add_get(f"/apis/{GROUP}/{VERSION}/tunnels", self._tunnels)
        # kopf waits some seconds for whatever has begun since it began, and an answer here has.
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.port = self.runner.addresses[0][1]

    async def close(self):
        await self.runner.cleanup()

    async def bookmark(self):
        await self.watches[-1].write(json.dumps(BOOKMARK).encode() + b"\n")

    def _json(self, **body):
        async def answer(request):
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise web.HTTPUnauthorized
            return web.json_response(body)

        return answer

    async def _tunnels(self, request):
        if "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "7"}})
        self.opened += 1
        if self.is_mute:
            await asyncio.Event().wait()
        answer = web.StreamResponse()
        await answer.prepare(request)
        self.watches.append(answer)
        await asyncio.Event().wait()
        return answer


@dataclass
class Stand:
    """What a test looks at; the time is the test's own."""

    api: Api
    now: float
    watches: Watches
    hearing: Hearing | None = None

    def url(self, path=""):
        return f"http://127.0.0.1:{self.api.port}{path}"

    def info(self, token=TOKEN):
        return kopf.ConnectionInfo(server=self.url(), scheme="Bearer", token=token)

    @contextlib.asynccontextmanager
    async def watching(self, *, inactivity_timeout=60.0):
        stop = asyncio.Event()
        running = asyncio.create_task(self.kopf(stop, inactivity_timeout))
        await until(lambda: self.api.watches or running.done())
        try:
            yield
        finally:
            stop.set()
            await running

    async def kopf(self, stop, inactivity_timeout=60.0):
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def logged_in(**_):
            return await self.hearing.login()

        @kopf.on.event(GROUP, VERSION, "tunnels", registry=registry)
        async def changed(**_):
            pass

        settings = operator_settings(())
        settings.watching.inactivity_timeout = inactivity_timeout
        await kopf.operator(
            registry=registry,
            settings=settings,
            identity="test",
            standalone=True,
            clusterwide=True,
            stop_flag=stop,
        )


@pytest.fixture
async def stand():
    api = Api()
    await api.start()
    watches = Watches(lambda: found.now)
    found = Stand(api, 0.0, watches)
    found.hearing = Hearing(found.info, watches)
    yield found
    await found.hearing.close()
    await api.close()


async def until(check):
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - kopf tells nobody
            await asyncio.sleep(0.01)


async def test_a_bookmark_ends_the_silence(stand):
    async with stand.watching():
        stand.now = 400
        assert stand.watches.stale() == SILENT
        await stand.api.bookmark()
        await until(lambda: stand.watches.stale() is None)
        assert stand.api.opened == 1


async def test_a_silent_watch_that_is_opened_again_has_been_heard(stand):
    async with stand.watching(inactivity_timeout=0.2):
        stand.now = 400
        before = stand.api.opened
        await until(lambda: stand.api.opened > before)
        await until(lambda: stand.watches.stale() is None)


async def test_attempts_without_an_answer_are_silence(stand):
    async with stand.watching(inactivity_timeout=0.2):
        stand.api.is_mute = True
        await until(lambda: stand.api.opened > len(stand.api.watches))
        stand.now = 400
        before = stand.api.opened
        await until(lambda: stand.api.opened > before + 2)
        assert stand.watches.stale() == SILENT
        stand.api.is_mute = False
        await until(lambda: stand.watches.stale() is None)


async def test_a_way_in_that_changed_is_taken(stand):
    tokens = ["old", "new", "new"]
    stand.api.token = "new"
    stand.hearing = Hearing(lambda: stand.info(tokens.pop(0)), stand.watches)
    async with stand.watching():
        assert tokens == ["new"]


async def test_a_way_in_that_is_refused_and_stays_the_same_is_given_up(stand, caplog):
    # A line that is kept keeps its traceback, and with it what is to be collected below.
    caplog.set_level(logging.CRITICAL, "kopf")
    stand.api.token = "new"
    with pytest.raises(Exception, match="valid credentials"):
        await stand.kopf(None)
    # kopf leaves tasks whose failures nobody asked for. They say so at their end, which shall be here.
    gc.collect()


async def test_a_session_that_was_closed_opens_anew_for_the_watches_that_kopf_still_has(stand):
    session = (await stand.hearing.login()).aiohttp_session
    for _ in range(2):
        async with await session.request(method="get", url=stand.url("/api")) as answer:
            assert answer.status == 200
        await session.close()


async def test_a_session_of_an_older_way_in_stays_closed(stand):
    tokens = ["old", "new"]
    stand.hearing = Hearing(lambda: stand.info(tokens.pop(0)), stand.watches)
    old = (await stand.hearing.login()).aiohttp_session
    async with await old.request(method="get", url=stand.url("/api")) as answer:
        assert answer.status == 401
    new = (await stand.hearing.login()).aiohttp_session
    assert old.closed
    with pytest.raises(RuntimeError, match="closed"):
        await old.request(method="get", url=stand.url("/api"))
    await stand.hearing.close()
    assert new.closed
