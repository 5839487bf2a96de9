"""What can be wrong with what a peer sent."""


class ProtocolError(ValueError):
    """A peer sent something that its format does not allow; the message says what, without secrets."""
