"""TLS towards devices, where a client certificate of any issuer may be shown.

A device that registers by thumbprint signs its own certificate, so there is nothing to verify it against:
the handshake proves that it holds the key, and the thumbprint, or the chain, is looked at later. Python's own `ssl` refuses
such a certificate in the handshake and has no way to decide otherwise, hence pyOpenSSL, over memory alone.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

PEER_CERTIFICATES = "peer_certificates"
"""Extra info of the transport: the client's certificate in DER, and those that it sent with it."""

_CHUNK = 64 * 1024


def device_context(certificate: Path, key: Path) -> SSL.Context:
    """Return the settings: TLS 1.2 or later, a certificate asked for and not required."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(key))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    # A resumed session carries no certificate, and a renegotiation could bring another one.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    return context


class DeviceTls(asyncio.Protocol):
    """One connection's TLS below, and the protocol that `make` returns above, once both are agreed."""

    def __init__(
        self,
        context: SSL.Context,
        make: Callable[[], asyncio.Protocol],
        *,
        handshake: float,
        close: float,
    ) -> None:
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._make = make
        self._handshake_seconds, self._close_seconds = handshake, close
        self._lower: asyncio.Transport | None = None
        self._upper: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake, but not for long."""
        # uvloop's transports do not derive from asyncio's class.
        self._lower = cast("asyncio.Transport", transport)
        self._abort_after(self._handshake_seconds)

    def data_received(self, data: bytes) -> None:
        """Decrypt what came; what is no TLS ends the connection."""
        try:
            self._tls.bio_write(data)
            if self._upper is None and not self._shake_hands():
                return
            self._read()
        except SSL.ZeroReturnError:
            self.close()
        except SSL.Error:
            self.flush()  # The alert that says why.
            self._close_lower()

    def eof_received(self) -> None:
        """Close: a client that ends its direction has no more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol above."""
        self._stop_timer()
        if self._upper is not None:
            self._upper.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._upper is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._upper is not None:
            self._upper.resume_writing()

    @property
    def lower(self) -> asyncio.Transport:
        """The TCP connection."""
        if self._lower is None:
            raise RuntimeError("The connection is not made yet.")
        return self._lower

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The client's certificate in DER, and those that it sent with it."""
        leaf = self._tls.get_peer_certificate(as_cryptography=True)
        if leaf is None:
            return ()
        others = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        return tuple(
            one.public_bytes(Encoding.DER) for one in (leaf, *(o for o in others if o != leaf))
        )

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if data and not self.lower.is_closing():
            self._tls.sendall(data)
            self.flush()

    def flush(self) -> None:
        """Send what TLS itself has to say, and what was encrypted."""
        while True:
            try:
                self.lower.write(self._tls.bio_read(_CHUNK))
            except SSL.WantReadError:
                return

    def close(self) -> None:
        """End TLS and, when everything is sent, the connection; one that does not read is cut."""
        if self.lower.is_closing():
            return
        # Raised when the handshake is not over, or the peer broke TLS: there is nothing to end.
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        self.flush()
        self._close_lower()

    def abort(self) -> None:
        """Cut the connection, if there is one yet."""
        if self._lower is not None:
            self._lower.abort()

    def _close_lower(self) -> None:
        self.lower.close()
        self._abort_after(self._close_seconds)

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self.flush()
            return False
        self.flush()
        self._stop_timer()
        self._upper = self._make()
        self._upper.connection_made(DeviceTransport(self))
        return True

    def _read(self) -> None:
        while self._upper is not None and not self.lower.is_closing():
            try:
                data = self._tls.recv(_CHUNK)
            except SSL.WantReadError:
                break
            self._upper.data_received(data)
        self.flush()

    def _abort_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.lower.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DeviceTransport(asyncio.Transport):
    """What the protocol above writes to."""

    def __init__(self, tls: DeviceTls) -> None:
        super().__init__()
        self._tls = tls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the client's certificates, or what is known of the TCP connection."""
        if name == PEER_CERTIFICATES:
            return self._tls.certificates
        return self._tls.lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        self._tls.write(bytes(data))

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._tls.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._tls.lower.abort()

    def is_closing(self) -> bool:
        """Whether the connection is being ended."""
        return self._tls.lower.is_closing()

    def pause_reading(self) -> None:
        """Take no more from the peer."""
        self._tls.lower.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._tls.lower.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait."""
        return self._tls.lower.get_write_buffer_size()
