"""Ports that are not for everybody."""

import socket

import pytest


def why_no_443(address):
    """Return why the port cannot be had that azure-iot-device dials for WebSockets; None where it can."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 443))
        except OSError as error:
            return f"azure-iot-device dials port 443, which can not be had here: {error}"
    return None


def skip_without_443(address):
    """Skip the test where there is no such port."""
    if why := why_no_443(address):
        pytest.skip(why)
