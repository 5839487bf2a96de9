"""Devices with certificates, their own or an authority's, and the TLS of the MQTT port."""

import asyncio
import contextlib
import ssl
from dataclasses import replace

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes

from support.certificates import make_self_signed, make_signed, thumbprint
from support.raw_hub import HubRest, Mqtt
from tunnel_azure_sim import AzureSim, HubConfig, SimConfig
from tunnel_azure_sim.errors import ConfigError
from tunnel_azure_sim.hub.certificates import read_authorities

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


@pytest.fixture
def authority(tmp_path):
    return make_signed(tmp_path, "authority", None, ca=True)


@pytest.fixture
async def signed_in(state_dir, authority, clock):
    """Return CONNACK's code for the device x-1, or its module m, of a hub that knows an authority."""
    config = SimConfig.for_tests(state_dir, clock=clock)
    hub = HubConfig("demo-hub", ("mri-7",), 0, authorities=(authority[0],))
    async with AzureSim(replace(config, hubs=(hub,))) as sim, aiohttp.ClientSession() as http:
        rest = HubRest(sim, http, clock)
        body = {"authentication": {"type": "certificateAuthority"}}
        trust = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
        status, _, made = await rest.call("PUT", "/devices/x-1", json=body, ssl=trust)
        assert (status, made["authentication"]["type"]) == (200, "certificateAuthority")
        assert made["authentication"]["symmetricKey"]["primaryKey"] is None
        module = await rest.call("PUT", "/devices/x-1/modules/m", json=body, ssl=trust)
        assert (module[0], module[2]["authentication"]["type"]) == (200, "certificateAuthority")
        clients = []

        async def code(files=None, password="", identity="x-1"):
            context = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
            if files is not None:
                context.load_cert_chain(*files)
            clients.append(Mqtt(sim, context, clock))
            return (await clients[-1].code(device=identity, password=password))[0]

        yield code
        for client in clients:
            await client.aclose()


async def test_whom_an_authority_of_the_hub_signed(signed_in, authority, tmp_path, clock):
    between = make_signed(tmp_path, "between", authority, ca=True)
    files = make_signed(tmp_path, "x-1", between)
    assert await signed_in(files) == 0
    clock.forward(2 * 86_400)
    assert await signed_in(files) == 5


async def test_whom_no_authority_of_the_hub_signed(signed_in, authority, tmp_path):
    assert await signed_in() == 5
    assert await signed_in(password="SharedAccessSignature sr=x") == 5
    assert await signed_in(make_self_signed(tmp_path, "x-1")) == 5
    other = make_signed(tmp_path, "other-authority", None, ca=True)
    assert await signed_in(make_signed(tmp_path, "x-1", other)) == 5
    # Its name is another device's; and whom a device signs, no authority has signed.
    assert await signed_in(make_signed(tmp_path, "x-2", authority)) == 5
    device = make_signed(tmp_path, "x-3", authority)
    assert await signed_in(make_signed(tmp_path, "x-1", device)) == 5
    assert await signed_in(make_signed(tmp_path, "x-1", authority)) == 0


async def test_module_is_signed_by_its_full_name(signed_in, authority, tmp_path):
    for name, expected in (("x-1", 5), ("m", 5), ("x-2/m", 5), ("x-1/m", 0)):
        assert await signed_in(make_signed(tmp_path, name, authority), identity="x-1/m") == expected
    assert await signed_in(make_signed(tmp_path, "x-1/m", authority)) == 5
    assert await signed_in(make_self_signed(tmp_path, "x-1/m"), identity="x-1/m") == 5


def test_a_file_that_is_no_authority(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    for file in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match="authority"):
            read_authorities([file])
