"""Whether the device listens, as far as this end can know."""

from dataclasses import dataclass


@dataclass(slots=True)
class Evidence:
    """The newest proof or refutation that a rendezvous with the device's listener comes about.

    An open TCP port proves nothing here, as the port is open before anything is dialled.
    """

    ready: bool = False
    why: str = "No rendezvous with the device has come about yet."

    def proven(self) -> None:
        """Note that a rendezvous came about."""
        self.ready, self.why = True, "The device's listener has answered."

    def refuted(self, why: str) -> None:
        """Note that a rendezvous failed, in a sentence."""
        self.ready, self.why = False, why
