"""A listener's token is replaced in time, by whoever can make another one."""

import asyncio
import contextlib
import time

import structlog

from support.bridge import make_remote
from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.renewal import UNKNOWN_LIFE, _life, keep_renewed

LOG = structlog.get_logger()


def token(seconds, rule="listen"):
    expires_at = int(time.time() + seconds)
    return sas.sign("http://h/hc", key=b"key", rule=rule, expires_at=expires_at)


@contextlib.asynccontextmanager
async def renewing(first, source):
    given = []
    task = asyncio.create_task(keep_renewed(first, source, given.append, clock=Clock(), log=LOG))
    try:
        yield given
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_an_expired_token_is_replaced_at_once_and_the_next_one_in_time():
    tokens = iter([token(0, "a"), token(3600, "b")])

    async def source():
        return next(tokens)

    async with renewing(token(-5), source) as given:
        await until(lambda: len(given) == 2)


async def test_a_good_token_is_left_alone():
    async def source():
        raise AssertionError

    async with renewing(token(3600), source) as given:
        for _ in range(5):
            await asyncio.sleep(0)
        assert not given


async def test_a_source_that_fails_or_repeats_itself_is_asked_again(monkeypatch):
    monkeypatch.setattr("tunnel_forwarder.renewal.RETRY", (0.001,))
    first, calls = token(-5), []

    async def source():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("The hub can not be reached.")
        return first if len(calls) == 2 else token(3600)

    async with renewing(first, source) as given:
        await until(lambda: len(given) == 1)
    assert len(calls) == 3


def test_a_token_that_says_nothing_is_given_a_life():
    assert _life(Secret("eyJ0eXAi"), Clock()) == UNKNOWN_LIFE


async def test_a_new_token_goes_over_the_open_channel(relay, certificates):
    new = token(3600)

    async def source():
        return new

    remote = make_remote(relay, certificates, {}, token_source=source)
    remote._listener.token = token(1)
    async with remote:
        await until(lambda: relay.control_messages)
        assert relay.control_messages == [{"renewToken": {"token": new.reveal()}}]
        assert len(relay.listeners) == 1
