"""A simulated edge device: an IoT Hub client that opens tunnels on request."""
