"""Well-known proxies that take TLS and dial TLS, with no WebSocket between: the least that such a hop costs.

Each is one process that decrypts what comes and encrypts it anew, as the relay must; the relay looks into
the frames besides. Both ends of a stream are this process.
"""

import asyncio
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from carrying import carry
from simulation import running_program

_SECONDS = 20.0

# Their buffers are as large as is of use: nginx' own default is 16 KiB, which costs it the same.
_NGINX = """\
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{}}
stream {{
  server {{
    listen {address}:{port} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server-key.pem;
    ssl_protocols TLSv1.3;
    proxy_ssl on;
    proxy_ssl_protocols TLSv1.3;
    proxy_buffer_size 128k;
    proxy_pass {address}:{target};
  }}
}}
"""
_HAPROXY = """\
global
  nbthread 1
  tune.bufsize 131072
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind {address}:{port} ssl crt {folder}/server.pem
  default_backend out
backend out
  server only {address}:{target} ssl verify none
"""
_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_PROXIES: Mapping[str, tuple[str, Callable[[], bool]]] = {
    "nginx": (_NGINX, _STREAM_MODULE.exists),
    "haproxy": (_HAPROXY, lambda: True),
}
_CA, _CERTIFICATE, _KEY = "ca.pem", "server.pem", "server-key.pem"
_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True, slots=True)
class TlsProxy:
    """A running proxy, and where what it carries arrives."""

    name: str
    pid: int
    address: tuple[str, int]
    target: socket.socket
    folder: Path

    def carry(self, size: int, *, up: bool) -> float:
        """Carry so many bytes by a new stream; return the CPU seconds for each GiB."""
        with self._stream() as (client, server):
            source, sink = (client, server) if up else (server, client)
            return carry(source, sink, size, {self.name: self.pid})[self.name]

    @contextmanager
    def _stream(self) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
        dialling = ssl.create_default_context(cafile=self.folder / _CA)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(self.folder / _CERTIFICATE, self.folder / _KEY)
        accepted: list[ssl.SSLSocket] = []

        def accept() -> None:
            plain, _ = self.target.accept()
            plain.settimeout(_SECONDS)
            accepted.append(serving.wrap_socket(plain, server_side=True))

        accepting = threading.Thread(target=accept)
        accepting.start()
        host, port = self.address
        with dialling.wrap_socket(
            socket.create_connection((host, port), _SECONDS), server_hostname=host
        ) as client:
            accepting.join()
            with accepted[0] as server:
                yield client, server


@asynccontextmanager
async def tls_proxies(
    directory: Path, certificates: Path, address: str
) -> AsyncIterator[tuple[TlsProxy, ...]]:
    """Run those of the proxies that are installed."""
    async with AsyncExitStack() as stack:
        proxies = []
        for name, (template, usable) in _PROXIES.items():
            program = shutil.which(name, path=_PATH)
            if program and usable():
                folder = _prepare(directory / name, certificates)
                proxy = _running(program, template, folder, address)
                proxies.append(await stack.enter_async_context(proxy))
        yield tuple(proxies)


def _prepare(folder: Path, certificates: Path) -> Path:
    folder.mkdir()
    for file in (_CA, _CERTIFICATE, _KEY):
        shutil.copy(certificates / file, folder)
    # HAProxy wants the key in the certificate's file, and nginx does not mind.
    with (folder / _CERTIFICATE).open("a") as both:
        both.write((certificates / _KEY).read_text())
    return folder


@asynccontextmanager
async def _running(
    program: str, template: str, folder: Path, address: str
) -> AsyncIterator[TlsProxy]:
    name, file = folder.name, folder / "configuration"
    with socket.create_server((address, 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server((address, 0)) as target:
        target.settimeout(_SECONDS)
        names = {"folder": folder, "address": address, "target": target.getsockname()[1]}
        file.write_text(template.format(module=_STREAM_MODULE, port=port, **names))
        words = ("-db", "-f") if name == "haproxy" else ("-p", str(folder), "-c")
        async with running_program(program, *words, str(file), directory=folder, name=name) as one:
            await _until_listening(address, port)
            yield TlsProxy(name, one.pid, (address, port), target, folder)


async def _until_listening(address: str, port: int) -> None:
    """Return when a port is bound; without a dial, which the proxy would carry to the target."""
    host = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    line = f" {host}:{port:04X} 00000000:0000 0A "
    async with asyncio.timeout(_SECONDS):
        while line not in Path("/proc/net/tcp").read_text():
            await asyncio.sleep(0.05)
