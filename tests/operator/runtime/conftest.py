import pytest

from support.operator_world import OperatorWorld


@pytest.fixture
def world():
    """Return a world whose one device is online."""
    world = OperatorWorld()
    world.azure.online.add("mri-7")
    return world
