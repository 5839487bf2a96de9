"""DNS over datagrams (dnsmasq-base, bind9-dnsutils)."""

import pytest


@pytest.fixture
async def dns(needs, programs, free_port):
    needs("dnsmasq", "dig")
    port = free_port()
    options = (
        "--keep-in-foreground", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces",
        "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--user=root",
        "--address=/device.test/10.1.2.3", f"--txt-record=big.test,{'x' * 250},{'y' * 250}",
    )  # fmt: skip
    await programs.start("/usr/sbin/dnsmasq", *options, port=port)
    return port


async def test_names_are_answered(dns, tunnel, programs):
    async with tunnel(dns=dns, udp=("dns",)) as ports:
        ask = ("dig", "@127.0.0.1", "-p", ports["dns"], "+short", "+tries=3", "+time=3")
        for _ in range(5):
            assert (await programs.run(*ask, "mri-7.device.test")).strip() == "10.1.2.3"
        answer = await programs.run(*ask, "+bufsize=4096", "TXT", "big.test")
        assert "x" * 250 in answer
        assert "y" * 250 in answer
