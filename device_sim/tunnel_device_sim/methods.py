"""Direct methods: which one is called, with what, and what is answered."""

from dataclasses import dataclass

import structlog

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import CloseRequest, OpenRequest

from .sample import SampleDevice
from .tunnels import Answer, Tunnels

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Methods:
    """Answers calls; it never raises for what a caller may send."""

    open_method: str
    close_method: str
    tunnels: Tunnels
    sample: SampleDevice | None = None

    async def answer(self, name: str, payload: object) -> Answer:
        """Carry a call out and return what to answer."""
        try:
            answer = await self._dispatch(name, payload)
        except ProtocolError as error:
            answer = Answer.refusal(400, str(error))
        except Exception:
            log.exception("method.bug", method=name)
            answer = Answer.refusal(500, "The device failed; its log says how.")
        log.info(
            "method.answered",
            method=name,
            status=answer.status,
            message=(answer.payload or {}).get("error"),
        )
        return answer

    async def _dispatch(self, name: str, payload: object) -> Answer:
        if name not in (self.open_method, self.close_method):
            return Answer.refusal(404, f"This device has no method {name!r}.")
        opens = name == self.open_method
        if _has_no_version(payload):
            return await self._as_sample(opens=opens)
        if opens:
            return await self.tunnels.open(OpenRequest.from_payload(payload))
        return await self.tunnels.close(CloseRequest.from_payload(payload))

    async def _as_sample(self, *, opens: bool) -> Answer:
        if self.sample is None:
            raise ProtocolError(
                "The payload has no version, and this device is not set up as the sample's is "
                "(AZRELAY_CONN_STRING)."
            )
        return await (self.sample.open() if opens else self.sample.close())


def _has_no_version(payload: object) -> bool:
    """Tell a caller that knows no payload: azure-iot-hub sends "" for None."""
    return payload in (None, "") or (isinstance(payload, dict) and "version" not in payload)
