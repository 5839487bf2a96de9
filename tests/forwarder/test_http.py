"""The small HTTP server, against the standard library's client and against noise."""

import asyncio
import contextlib
import socket
from http.client import HTTPConnection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel_forwarder import http
from tunnel_forwarder.http import Response, answer, serving

ROUTES = {"/": lambda: Response(b"hello"), "/no": lambda: Response(b"no", 503)}


@pytest.fixture
def served():
    return serving(ROUTES, socket.create_server(("127.0.0.1", 0)))


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [("GET", "/", 200, b"hello"), ("GET", "/?x=1", 200, b"hello"), ("HEAD", "/", 200, b""),
     ("GET", "/no", 503, b"no"), ("GET", "/else", 404, b"There is no such page.\n"),
     ("POST", "/", 405, b"Only GET and HEAD are answered.\n")],
)  # fmt: skip
async def test_requests_are_answered(served, method, path, status, body):
    def ask(port):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, body=b"x" * 20_000 if method == "POST" else None)
        response = connection.getresponse()
        return response.status, response.read()

    async with served as port:
        assert await asyncio.to_thread(ask, port) == (status, body)


@given(st.binary(max_size=100))
def test_whatever_is_asked_is_answered(noise):
    assert answer(noise, ROUTES).startswith(b"HTTP/1.1 ")


async def test_who_stalls_or_says_too_much_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(http, "SECONDS", 0.1)
    async with served as port:
        for text in (b"GET / HT", b"x" * 2 * http.MAX_HEAD):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()


async def test_there_are_only_so_many_connections(served, monkeypatch):
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    async with served as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(b"GET")
        reader, second = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        for writer in (first, second):
            writer.close()
