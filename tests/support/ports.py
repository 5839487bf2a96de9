"""Ports that are not for everybody."""

import socket

import pytest


def skip_without_443(address):
    """Skip the test where the port cannot be had that azure-iot-device dials for WebSockets."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 443))
        except OSError as error:
            pytest.skip(f"azure-iot-device dials port 443, which can not be had here: {error}")
