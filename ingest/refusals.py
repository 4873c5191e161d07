"""What is refused, and why: reasons, and the dead letter that keeps a refused message or reading.

``dead_letters`` keeps them in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KEPT_PAYLOAD_BYTES = 65_536
"""Of a payload that is too large, so many bytes from its beginning are kept."""


class Reason(StrEnum):
    """Why a message or reading was refused."""

    MALFORMED_PACKET = "malformed_packet"
    """Not an MQTT packet that can be read."""
    WRONG_TOPIC = "wrong_topic"
    WRONG_CITY = "wrong_city"
    UNKNOWN_DEVICE = "unknown_device"
    """The device is not in the registry."""
    UNKNOWN_PROPERTY = "unknown_property"
    """Not an observed property, or this device has no datastream for it."""
    NOT_INSTALLED = "not_installed"
    """The device was not installed at the time of observation: before, after, or between two installations."""
    EMPTY_PAYLOAD = "empty_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_UTF8 = "invalid_utf8"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_PROTOBUF = "malformed_protobuf"
    MALFORMED_CBOR = "malformed_cbor"
    WRONG_TYPE = "wrong_type"
    """A field is of the wrong type or lacking."""
    NO_READINGS = "no_readings"
    """A list, or an object of values, that is empty."""
    UNDECODABLE = "undecodable"
    """A vendor's own bytes that no codec reads, or fields of which none is known: the device needs the right model."""
    MISSING_VALUE = "missing_value"
    """The value is null."""
    NOT_FINITE = "not_finite"
    WRONG_UNIT = "wrong_unit"
    MALFORMED_TIME = "malformed_time"
    TIME_WITHOUT_ZONE = "time_without_zone"
    TIME_IN_FUTURE = "time_in_future"
    TIME_TOO_OLD = "time_too_old"
    TIME_LOCAL = "time_local"
    """Ahead by whole quarters of an hour: local time that is sent as if it were UTC."""
    TIME_WRONG_SCALE = "time_wrong_scale"
    """Seconds for milliseconds, or the reverse."""
    CLOCK_NOT_SET = "clock_not_set"
    """A time long past, such as a clock shows that was never set, or that lost count of the GPS weeks."""
    UNKNOWN_ALIAS = "unknown_alias"
    """It can be read once the birth of its sender is known, which gives its aliases and datatypes."""
    NOT_A_GATEWAY = "not_a_gateway"
    """The message names another device than its topic does, and the topic's device is no gateway."""
    NO_TIME = "no_time"
    """The broker's clock has not spoken yet, so that no time can be judged or given."""
    FAULT = "fault"
    """A fault of ours while decoding; the log says more."""
    RETAINED = "retained"
    """A stored last value that the broker sends to every newcomer: it must not look fresh."""
    RATE_LIMITED = "rate_limited"
    """The device sends more than it may. Only a sample of these is kept."""


NEVER_AGAIN = frozenset(
    {
        Reason.RETAINED,
        Reason.MALFORMED_PACKET,
        Reason.EMPTY_PAYLOAD,
        Reason.PAYLOAD_TOO_LARGE,
        Reason.NO_READINGS,
        Reason.RATE_LIMITED,
    }
)
"""A letter with one of these reasons can't be taken again: nothing that can be mended would make it a reading."""
MENDABLE = frozenset(
    {
        Reason.UNKNOWN_DEVICE,
        Reason.UNKNOWN_PROPERTY,
        Reason.NOT_INSTALLED,
        Reason.NOT_A_GATEWAY,
        Reason.UNDECODABLE,
        Reason.WRONG_UNIT,
        Reason.TIME_IN_FUTURE,
        Reason.TIME_TOO_OLD,
        Reason.TIME_LOCAL,
        Reason.TIME_WRONG_SCALE,
        Reason.CLOCK_NOT_SET,
    }
)
"""What a change in the register can mend: letters of the device concerned are then taken again by themselves."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message, or one reading of a message, that could not be used."""

    reason: Reason
    detail: str
    """A sentence: the field, what came, what was expected."""
    topic: str
    """Bytes that are not UTF-8 are shown as ``\\xff``."""
    payload: bytes
    """The message's payload; for one reading out of several, that reading alone as JSON."""
    broker: str
    received_at: int | None
    """[ns since 1970 UTC]; None before the broker's clock has spoken."""
    device: str | None = None
    """The device that it names, registered or not."""
    format: str = "pantau_json"
    """Name of the payload format that can read ``payload``."""
    fragment: bool = False
    """Whether ``payload`` is one reading out of a message of several, as Pantau JSON."""
    truncated: bool = False
    """Whether only the beginning of the payload is kept."""
    times: int = 1
    """How many that were refused alike it stands for."""
    kept: bool = True
    """False: it is only counted."""

    @property
    def again(self) -> bool:
        """Whether it can be taken again once its cause is mended."""
        return not self.truncated and self.reason not in NEVER_AGAIN
