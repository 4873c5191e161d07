"""Codecs: each turns a vendor's own bytes, as they come through a LoRaWAN network server, into named fields.

A codec is a pure function ``decode(f_port, payload) -> fields``. The names, units and words are those of the vendor's
decoder, so that it does not matter whether the network server or Pantau decodes; the ``source`` keys of the catalogue
of models name them. A value is a number, a word, true or false, or a nested object of the same. ``history`` is a list
of such objects, each with its own ``timestamp`` in Unix seconds: what the device has kept and sends again.

Where a sensor says that it could not measure, the field is a sentence instead of a number: never a made-up value.
Which fields are taken is the business of ``ingest.formats.lorawan``. docs/formats.md says how to add a codec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingest.codecs import cayenne_lpp, decentlab, dragino, milesight, nwave
from ingest.codecs.errors import CodecError

__all__ = ["ALSO_NAMED", "CODECS", "CodecError", "Decode"]

Decode = Callable[[int, bytes], dict[str, Any]]
"""(f_port, payload) → fields. Raises ``CodecError``, and nothing else, if the bytes can't be read."""

CODECS: dict[str, Decode] = {
    **{f"milesight_{model}": family.decode for model, family in milesight.MODELS.items()},
    "nwave_nps": nwave.decode,
    "cayenne_lpp": cayenne_lpp.decode,
    "decentlab_dl_mbx": decentlab.DL_MBX.decode,
    "dragino_ldds75": dragino.decode_ldds75,
}
"""Name in the catalogue of models → codec."""

ALSO_NAMED: dict[str, dict[str, str]] = {"milesight_em500_swl": {"depth": "water_level"}}
"""Codec → what the vendor's newer decoders, at network servers, call a field → its name here."""
