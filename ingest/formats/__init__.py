"""Payload formats: each turns the bytes of one message into readings, or refuses them with a reason.

A format is one module of this package, one line in ``FORMATS``, and its test vectors: docs/formats.md says how.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ingest.formats.chirpstack import ChirpStack
from ingest.formats.loriot import Loriot
from ingest.formats.pantau_json import PantauJson
from ingest.formats.senml import SenmlCbor, SenmlJson
from ingest.formats.smart_data_models import SmartDataModels
from ingest.formats.sparkplug import Sparkplug
from ingest.formats.the_things_stack import TheThingsStack
from ingest.readings import Readings


class Format(Protocol):
    """Reads messages of one broker and one feed, in the order of their arrival; it may remember what it needs.

    If what a message means depends on those before it, the class says ``remembers = True``: then one process takes all.
    """

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """Add the readings of a message, or refuse them with a reason; never raises for what a message holds.

        Retained messages and those that are too large do not come here. What ``readings`` offers: ``find`` a device
        by any of its names, ``add`` a reading, ``refuse`` the message or one reading of it, ``nothing`` where a
        message rightly holds no reading, ``presence`` of devices, ``request`` something from the sender.
        """
        ...


FORMATS: dict[str, Callable[[], Format]] = {
    "pantau_json": PantauJson,
    "senml_json": SenmlJson,
    "senml_cbor": SenmlCbor,
    "smart_data_models": SmartDataModels,
    "sparkplug_b": Sparkplug,
    "chirpstack": ChirpStack,
    "the_things_stack": TheThingsStack,
    "loriot": Loriot,
}
"""Name in the configuration and in the catalogue of models → maker."""
