"""A simulated Azure: what this project uses of Relay, ARM, IoT Hub and Entra ID."""
