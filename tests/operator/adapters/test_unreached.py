"""What a person reads when nobody answers, with real clients of both kinds and real sockets on loopback."""

import asyncio
import socket
import threading
from contextlib import closing, suppress

import aiohttp
import pytest
import requests
from azure.core.exceptions import ServiceRequestError

from support.certificates import make_certificates
from tunnel_operator.adapters.unreached import unreached
from tunnel_operator.api.reasons import Reason


@pytest.fixture
def peer(request, tmp_path):
    """Return the address of somebody who does what the test's parameter says."""
    conduct = request.param
    if conduct == "unknown":
        yield "nobody.invalid"
        return
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if conduct == "refusing":
            server.close()
            yield address
            return
        accepting = threading.Thread(target=_serve, args=(server, conduct, tmp_path))
        accepting.start()
        yield address
        # Ends a wait for another client.
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _serve(server, conduct, folder):
    held = []
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            held.append(client)
            if conduct == "distrusted":
                with suppress(OSError):
                    make_certificates(folder).server.wrap_socket(client, server_side=True)
            elif conduct == "hanging up":
                client.close()
    for client in held:
        client.close()


async def by_aiohttp(address):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        await session.get(f"https://{address}/")


async def by_requests(address):
    await asyncio.to_thread(requests.get, f"https://{address}/", timeout=1)


@pytest.mark.parametrize("get", [by_aiohttp, by_requests])
@pytest.mark.parametrize(
    ("peer", "why"),
    [
        ("unknown", "its name can not be resolved"),
        ("refusing", "it refuses connections"),
        ("distrusted", "its certificate is not one that the operator trusts"),
        ("hanging up", "the connection was broken"),
        ("silent", "it did not answer in time"),
    ],
    indirect=["peer"],
)
async def test_says_who_and_why(get, peer, why):
    with pytest.raises((aiohttp.ClientError, requests.RequestException, TimeoutError)) as caught:
        await get(peer)
    sdks = ServiceRequestError("what the SDK makes of it", error=caught.value)
    sdks.__cause__ = caught.value
    told = unreached(sdks, "IoT Hub")
    assert told.reason is Reason.UNAVAILABLE
    host = peer.partition(":")[0]
    # Of a time limit of its own aiohttp does not say whom it was waiting for.
    is_named = not isinstance(caught.value, TimeoutError)
    who = f"{host}, asked for IoT Hub," if is_named else "IoT Hub"
    assert told.message == f"{who} can not be reached: {why}."


def test_what_is_unheard_of_is_named():
    error = ServiceRequestError("secret")
    error.__cause__ = ValueError("secret")
    assert unreached(error, "IoT Hub").message == "IoT Hub can not be reached: ValueError."


def test_a_pod_without_the_file_of_its_identity_is_told_so(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        (tmp_path / "token").read_text()
    told = unreached(caught.value, "Azure Resource Manager")
    assert told.reason is Reason.UNAUTHORIZED
    assert "workload identity" in told.message
