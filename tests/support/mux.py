"""Two multiplexers that talk to each other without sockets."""

from tunnel_forwarder.protocol.preamble import PortRequest

WEB = PortRequest("web")


def pass_on(source, target):
    """Let the target have all that the source wants to send; return what it makes of it."""
    events = []
    while data := source.take():
        events += target.feed(data)
    return events
