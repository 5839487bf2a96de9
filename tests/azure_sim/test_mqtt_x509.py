"""Devices that sign their own certificates, and the TLS of the MQTT port."""

import asyncio
import contextlib
import ssl

import pytest
from cryptography.hazmat.primitives import hashes

from support.certificates import make_self_signed, thumbprint

SHA_1, SHA_256 = hashes.SHA1(), hashes.SHA256()  # noqa: S303 - what Azure's thumbprints are made by


@pytest.fixture
def certificate(tmp_path):
    return make_self_signed(tmp_path, "x-1")


@pytest.fixture
def register(rest):
    async def put(first, second=None, device="x-1"):
        prints = {"primaryThumbprint": first, "secondaryThumbprint": second}
        body = {"authentication": {"type": "selfSigned", "x509Thumbprint": prints}}
        headers = {"If-Match": "*"}
        assert (await rest.call("PUT", f"/devices/{device}", json=body, headers=headers))[0] == 200

    return put


@pytest.fixture
def sign_in(mqtt, sim):
    """Return CONNACK's code for a device that shows a certificate, or none."""

    async def dial(files=None, device="x-1", password=""):
        mqtt.context = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
        if files is not None:
            mqtt.context.load_cert_chain(*files)
        return await mqtt.code(device=device, password=password)

    return dial


@pytest.mark.parametrize("algorithm", [SHA_1, SHA_256])
async def test_certificate_lets_its_device_in(sim, register, sign_in, certificate, algorithm):
    await register(thumbprint(certificate[0], algorithm))
    code, client = await sign_in(certificate)
    assert code == 0
    assert sim.device("x-1").connected
    client.send(0xC0)
    assert await client.receive() == (0xD0, b"")


async def test_second_thumbprint_is_as_good(register, sign_in, certificate):
    await register("00" * 20, thumbprint(certificate[0], SHA_256))
    assert (await sign_in(certificate))[0] == 0


async def test_what_does_not_match_is_refused(register, sign_in, certificate, tmp_path, mqtt):
    await register(thumbprint(certificate[0], SHA_256))
    assert (await sign_in())[0] == 5
    assert (await sign_in(make_self_signed(tmp_path, "other")))[0] == 5
    # A password is no way in where a certificate is expected, nor the other way about.
    assert (await sign_in(password=mqtt.token("x-1")))[0] == 5
    assert (await sign_in(certificate, device="mri-7"))[0] == 5


async def test_expired_certificate_is_refused(register, sign_in, tmp_path):
    files = make_self_signed(tmp_path, "old", days=-1)
    await register(thumbprint(files[0], SHA_256))
    assert (await sign_in(files))[0] == 5


async def test_password_device_may_show_any_certificate(sign_in, certificate, mqtt):
    assert (await sign_in(certificate, device="mri-7", password=mqtt.token()))[0] == 0


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000]
)
async def test_what_is_no_tls_is_closed(mqtt, raw):
    reader, writer = await asyncio.open_connection(mqtt.host, mqtt.port)
    writer.write(raw)
    async with asyncio.timeout(5):
        # An alert at the most, and the end.
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < 100
    writer.transport.abort()


@pytest.mark.parametrize("timings", [{"request_head": 0.2}], indirect=True)
async def test_handshake_that_never_comes_is_cut(mqtt):
    reader, writer = await asyncio.open_connection(mqtt.host, mqtt.port)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.transport.abort()


async def test_old_versions_of_tls_are_refused(mqtt, sim):
    mqtt.context = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
    mqtt.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        mqtt.context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        mqtt.context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await mqtt.client()


async def test_stop_cuts_what_has_not_even_begun(sim, mqtt):
    _reader, writer = await asyncio.open_connection(mqtt.host, mqtt.port)
    began = asyncio.get_running_loop().time()
    await sim.__aexit__(None, None, None)
    assert asyncio.get_running_loop().time() - began < 3
    writer.transport.abort()
