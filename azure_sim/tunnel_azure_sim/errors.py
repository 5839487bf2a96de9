"""The errors of the simulation's own set-up.

    SimError
    ├── ConfigError     what the command line or a test asked for can not be had
    └── StateError      the state directory holds something that can not be read

What is answered to clients has its own errors, beside the plane that answers: `arm.errors`, `hub.errors`,
`relay.errors`, `identity.errors`.
"""


class SimError(Exception):
    """The simulation can not start; the message is a sentence for whoever started it."""


class ConfigError(SimError):
    """The configuration contradicts itself or asks for what can not be had."""


class StateError(SimError):
    """The state directory holds something that can not be read."""
