"""What the device measures, after the sample's simulated device."""

import random
from dataclasses import dataclass

ALERT_TEMPERATURE = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement: °C and % relative humidity."""

    temperature: float
    humidity: float

    @property
    def is_alert(self) -> bool:
        """Whether it is too warm."""
        return self.temperature > ALERT_TEMPERATURE

    def body(self) -> dict[str, float]:
        """Return the message's body."""
        return {"temperature": self.temperature, "humidity": self.humidity}

    def properties(self) -> dict[str, str]:
        """Return the message's properties, by which a hub can route it."""
        return {"temperatureAlert": "true" if self.is_alert else "false"}


@dataclass(slots=True)
class Sensor:
    """Drifts as a room does, within the sample's bounds: 20 to 35 °C, 60 to 80 %."""

    chance: random.Random
    last: Reading = Reading(24.0, 65.0)

    def read(self) -> Reading:
        """Return the next measurement."""
        self.last = Reading(
            _drift(self.chance, self.last.temperature, 0.4, 20.0, 35.0),
            _drift(self.chance, self.last.humidity, 0.8, 60.0, 80.0),
        )
        return self.last


def _drift(chance: random.Random, value: float, step: float, low: float, high: float) -> float:
    return round(min(high, max(low, value + chance.uniform(-step, step))), 2)
