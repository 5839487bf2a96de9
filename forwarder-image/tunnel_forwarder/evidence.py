"""Whether the device listens, as far as this end can know."""

from dataclasses import dataclass


@dataclass(slots=True)
class Evidence:
    """The newest proof or refutation that a rendezvous with the device's listener comes about.

    An open TCP port proves nothing here, as the port is open before anything is dialled.
    """

    ready: bool = False
    why: str = "No rendezvous with the device has come about yet."

    def proven(self) -> bool:
        """Note that a rendezvous came about; tell whether that is news."""
        return self._become(ready=True, why="The device's listener has answered.")

    def refuted(self, why: str) -> bool:
        """Note that a rendezvous failed, in a sentence; tell whether that is news."""
        return self._become(ready=False, why=why)

    def _become(self, *, ready: bool, why: str) -> bool:
        news = (ready, why) != (self.ready, self.why)
        self.ready, self.why = ready, why
        return news
