import asyncio

import pytest
import uvloop

from support.fixtures import certificates, relay
from tunnel_forwarder.metrics import Histogram

__all__ = ["certificates", "relay"]


def pytest_asyncio_loop_factories(item):
    """The forwarder runs on uvloop; the data path must hold on asyncio's own loop as well."""
    uv = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_bridge.py":
        return uv | {"asyncio": asyncio.SelectorEventLoop}
    if item.path.name == "test_names.py":  # uvloop looks names up where no test can reach
        return {"asyncio": asyncio.SelectorEventLoop}
    return uv


@pytest.fixture
def registry_histogram():
    return Histogram()
