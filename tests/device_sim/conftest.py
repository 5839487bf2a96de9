import uvloop

from support.fixtures import certificates, relay

__all__ = ["certificates", "relay"]


def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}
