"""Text that must not be shown."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A key or a token. Printing it shows no part of it; `reveal()` is easy to find in a review."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text itself, to be sent to the one peer that it is for."""
        return self._text

    def __str__(self) -> str:
        return "Secret(hidden)"
