"""What can be wrong with what a peer sent."""


class ProtocolError(ValueError):
    """A peer sent something that its format does not allow; the message says what, without secrets."""


def is_text(value: str) -> bool:
    """Tell whether a string can be sent; JSON can hold halves of surrogate pairs, UTF-8 can not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
