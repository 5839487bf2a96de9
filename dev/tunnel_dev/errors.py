"""The one error of this package: a sentence for the person at the terminal."""


class DevError(Exception):
    """Something that a person has to know or do; its text is shown without a traceback."""
