"""A clock that a test moves."""


class Time:
    """Seconds since some moment, as a monotonic clock tells them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
