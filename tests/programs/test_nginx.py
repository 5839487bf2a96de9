"""nginx with HTTP/1.1, HTTP/2 and a WebSocket upgrade (nginx-light, curl)."""

import hashlib
import os
import time

import aiohttp
import pytest
from aiohttp import web

from support.certificates import make_certificates

PAGE = os.urandom(3 << 20)


@pytest.fixture
async def backend():
    """A WebSocket server behind nginx that sends back what comes."""

    async def serve(request):
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_bytes(message.data)
        return websocket

    app = web.Application()
    app.router.add_get("/ws", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def nginx(needs, programs, free_port, backend, tmp_path):
    needs("nginx", "curl")
    plain, two = free_port(), free_port()
    make_certificates(tmp_path)
    (tmp_path / "www").mkdir(mode=0o755)
    (tmp_path / "www" / "page").write_bytes(PAGE)
    (tmp_path / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        events {{}}
        http {{
          access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;
          fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
          server {{
            listen 127.0.0.1:{plain};
            root {tmp_path}/www;
            location /ws {{
              proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1;
              proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            }}
          }}
          server {{
            listen 127.0.0.1:{two} ssl http2; root {tmp_path}/www;
            ssl_certificate {tmp_path}/server.pem; ssl_certificate_key {tmp_path}/server.pem;
          }}
        }}"""
    )
    await programs.start("/usr/sbin/nginx", "-c", tmp_path / "nginx.conf", port=two)
    return plain, two


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_pages_arrive_unharmed(nginx, tunnel, programs, version, figure):
    plain, two = nginx
    flag, scheme = ("--http1.1", "http") if version == "1.1" else ("--http2", "https")
    async with tunnel(web=plain if version == "1.1" else two) as ports:
        url = f"{scheme}://127.0.0.1:{ports['web']}/page"
        each = [part for n in range(8) for part in (url, "-o", programs.folder / f"page-{n}")]
        shown = ("-w", "%{http_version} %{http_code}\n")
        began = time.perf_counter()
        output = await programs.run("curl", "-sSk", "-Z", flag, *shown, *each)
        rate = 8 * len(PAGE) / (1 << 20) / (time.perf_counter() - began)
        figure(f"curl, 8 pages of 3 MiB by HTTP/{version}: {rate:.0f} MiB/s")
        assert output.count(f"{version} 200\n") == 8
    for number in range(8):
        got = (programs.folder / f"page-{number}").read_bytes()
        assert hashlib.sha256(got).digest() == hashlib.sha256(PAGE).digest()


async def test_a_websocket_through_nginx_and_the_tunnel(nginx, tunnel, figure):
    async with tunnel(web=nginx[0]) as ports, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{ports['web']}/ws"
        async with http.ws_connect(url) as websocket:
            for size in (1, 1000, 100_000):
                await websocket.send_bytes(b"x" * size)
                assert (await websocket.receive()).data == b"x" * size
            began = time.perf_counter()
            for number in range(200):
                await websocket.send_bytes(b"%d" % number)
                assert (await websocket.receive()).data == b"%d" % number
            took = (time.perf_counter() - began) / 200
            figure(f"WebSocket through nginx: {1000 * took:.1f} ms for each question and answer")
