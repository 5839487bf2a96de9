"""DNS over datagrams (dnsmasq-base, bind9-dnsutils)."""

import statistics
import time

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


async def test_many_names_at_once(dns, tunnel, programs, figure, tmp_path):
    """One dig asks for 200 names over one socket of each forwarder."""
    names = tmp_path / "names"
    names.write_text("".join(f"n{number}.device.test\n" for number in range(200)))
    async with tunnel(dns=dns, udp=("dns",)) as ports:
        ask = ("dig", "@127.0.0.1", "-p", ports["dns"], "+short", "+tries=5", "+time=5")
        began = time.perf_counter()
        output = await programs.run(*ask, "-f", names)
        figure(f"dig, 200 names: {200 / (time.perf_counter() - began):.0f} a second")
        # What is lost under load is asked for again, and dig says so on lines of their own.
        assert [x for x in output.splitlines() if x[:2] != ";;"] == ["10.1.2.3"] * 200


async def test_names_are_answered(dns, tunnel, programs, figure):
    async with tunnel(dns=dns, udp=("dns",)) as ports:
        ask = ("dig", "@127.0.0.1", "-p", ports["dns"], "+short", "+tries=3", "+time=3")
        took = []
        for _ in range(10):
            began = time.perf_counter()
            assert (await programs.run(*ask, "mri-7.device.test")).strip() == "10.1.2.3"
            took.append(time.perf_counter() - began)
        figure(f"dig, median: {1000 * statistics.median(took):.0f} ms, its own start included")
        answer = await programs.run(*ask, "+bufsize=4096", "TXT", "big.test")
        assert "x" * 250 in answer
        assert "y" * 250 in answer
