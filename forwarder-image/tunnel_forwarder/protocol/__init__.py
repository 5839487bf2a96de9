"""The wire formats of the bridge, without any I/O: bytes and text in, values out.

Nothing in this package opens a socket, reads a clock or draws a random number, so that the forwarder,
the device, the operator and the simulated Azure share one reading of each format.
"""
