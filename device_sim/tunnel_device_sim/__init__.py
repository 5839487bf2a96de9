"""A simulated edge device: an IoT Hub client that opens tunnels on request."""

AGENT = "device_sim/0.1.0"
"""How the device names itself in its answers."""
