"""Fixtures that the tests of the forwarder and of the device share; a conftest imports them."""

import pytest
import pytest_asyncio

from .certificates import make_certificates
from .relay import FakeRelay


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture
async def relay(certificates):
    async with FakeRelay().running(certificates.server) as relay:
        yield relay
