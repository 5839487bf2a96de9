"""What the kernel keeps of a connection."""

import socket

LITTLE = 16 * 1024


def keep_little_on_the_way(*transports):
    """Bound what is sent and not read yet: else it takes megabytes until anybody notices that nobody reads."""
    for transport in transports:
        for kind in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, kind, LITTLE)
