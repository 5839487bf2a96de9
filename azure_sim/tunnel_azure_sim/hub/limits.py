"""What a hub's tier and its units allow, and how much of it is used.

Documentation "IoT Hub quotas and throttling" for the figures, "Azure IoT Hub billing information" (charges
per operation) for what counts as a message.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import Clock, HubConfig
from .errors import Code, HubError

ASSUMED_THROTTLED_CODE = Code.ThrottlingException
"""What a direct method gets beyond the throttle; five codes are documented, 429001 as the general one."""

ASSUMED_THROTTLE_BURST = 1.0
"""Seconds of unused throttle that a hub may save up. Documented is "in minute ranges" and a rate."""

ASSUMED_QUOTA_SCOPE = frozenset({"methods", "lists"})
"""What is refused when the day's messages are used up: direct methods, and lists of devices (documented:
"the device list doesn't load"). Telemetry counts, and is taken nevertheless."""

METER_STEP = 4 * 1024
_FREE_MESSAGE = 512
_KIB = 1024
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Tier:
    """One edition and size: figures for each unit."""

    has_methods: bool
    method_bytes: float
    """Bytes of direct methods in a second."""

    daily_messages: int
    message_bytes: int = METER_STEP


TIERS: Mapping[str, Tier] = {
    "F1": Tier(True, 160 * _KIB, 8_000, _FREE_MESSAGE),
    "B1": Tier(False, 0, 400_000),
    "B2": Tier(False, 0, 6_000_000),
    "B3": Tier(False, 0, 300_000_000),
    "S1": Tier(True, 160 * _KIB, 400_000),
    "S2": Tier(True, 480 * _KIB, 6_000_000),
    "S3": Tier(True, 24 * _KIB * _KIB, 300_000_000),
}
"""Basic ones have no direct methods, no twins and no modules (documentation "Choose the right tier")."""


class Meter:
    """Counts what one hub is used for, and refuses what is beyond its limits."""

    def __init__(self, config: HubConfig, clock: Clock) -> None:
        self._tier = TIERS[config.tier]
        self._rate = self._tier.method_bytes * config.units
        self._daily = (
            self._tier.daily_messages * config.units
            if config.daily_messages is None
            else config.daily_messages
        )
        self._clock = clock
        self._left = self._rate * ASSUMED_THROTTLE_BURST
        self._measured_at = clock()
        self._day = self._today()
        self._used = 0

    @property
    def messages_today(self) -> int:
        """How many messages were counted since midnight UTC."""
        self._turn_day()
        return self._used

    def check_tier(self) -> None:
        """Raise HubError (403010) when the tier has neither direct methods nor twins nor modules."""
        if not self._tier.has_methods:
            raise HubError(
                Code.OperationNotAvailableInCurrentTier,
                "The operation is not available in the current tier.",
            )

    def check_quota(self) -> None:
        """Raise HubError (403002) when the day's messages are used up."""
        if self.messages_today >= self._daily:
            raise HubError(
                Code.IotHubQuotaExceeded,
                f"Total number of messages on the hub exceeded the allocated quota of {self._daily}.",
            )

    def charge_method(self, size: int) -> None:
        """Count a direct method's request. Raises HubError (403010, 403002, 429001) beyond a limit."""
        self.check_tier()
        self.check_quota()
        now = self._clock()
        saved = self._left + max(0.0, now - self._measured_at) * self._rate
        self._left = min(saved, self._rate * ASSUMED_THROTTLE_BURST)
        self._measured_at = now
        cost = METER_STEP * max(1, math.ceil(size / METER_STEP))
        if cost > self._left:
            raise HubError(
                ASSUMED_THROTTLED_CODE, "Direct methods are throttled: the hub has too few units."
            )
        self._left -= cost
        self.count(size, least=1)

    def count(self, size: int, *, least: int = 0) -> None:
        """Count a message of `size` bytes towards the day's quota."""
        self._turn_day()
        self._used += max(least, math.ceil(size / self._tier.message_bytes))

    def _turn_day(self) -> None:
        today = self._today()
        if today != self._day:
            self._day, self._used = today, 0

    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)
