"""Units as other formats write them, turned into those that the observed properties know.

It holds the symbols of SenML and the common codes of UN/CEFACT Recommendation 20; what a property's own units are, and
how they convert, is in ``telemetry.properties``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from telemetry.properties import PROPERTIES, conversion

Table = Mapping[str, tuple[tuple[str, float, float], ...]]
"""Symbol → the ways to write it: (unit that properties know, scale, offset)."""

SENML: Table = {
    # RFC 8428, section 12.1. Symbols that no property takes are there to say so: C is a coulomb, F a farad.
    "m": (("m", 1, 0), ("mm", 1000, 0)),
    "kg": (),
    "g": (),
    "s": (("s", 1, 0),),
    "A": (),
    "K": (("K", 1, 0),),
    "cd": (),
    "mol": (),
    "Hz": (),
    "rad": (("deg", 180 / math.pi, 0),),
    "sr": (),
    "N": (),
    "Pa": (("Pa", 1, 0),),
    "J": (),
    "W": (("W", 1, 0),),
    "C": (),
    "V": (("V", 1, 0),),
    "F": (),
    "Ohm": (),
    "S": (),
    "Wb": (),
    "T": (),
    "H": (),
    "Cel": (("Cel", 1, 0),),
    "lm": (),
    "lx": (("lx", 1, 0),),
    "m/s": (("m/s", 1, 0),),
    "m3/s": (("m3/s", 1, 0),),
    "l/s": (("L/s", 1, 0),),
    "dB": (("dB", 1, 0),),
    "dBW": (("dBm", 1, 30),),
    "Bspl": (("dB", 10, 0),),
    "/": (("1", 1, 0),),
    "%": (("%", 1, 0),),
    "%RH": (("%", 1, 0),),
    "1/s": (("veh/min", 60, 0),),
    "1/min": (("veh/min", 1, 0),),
    # RFC 8798, sections 2 and 3: more primary units, then secondary ones.
    "B": (),
    "deg": (("deg", 1, 0),),
    "kg/m3": (("ug/m3", 1e9, 0),),
    "ms": (("s", 0.001, 0),),
    "min": (("min", 1, 0),),
    "h": (("min", 60, 0),),
    "kW": (("kW", 1, 0),),
    "mV": (("mV", 1, 0),),
    "dBm": (("dBm", 1, 0),),
    "ug/m3": (("ug/m3", 1, 0),),
    "ppm": (("ppm", 1, 0), ("1", 1e-6, 0)),
    "/100": (("%", 1, 0),),
    "/1000": (("%", 0.1, 0),),
    "hPa": (("hPa", 1, 0),),
    "mm": (("mm", 1, 0),),
    "cm": (("cm", 1, 0),),
    "km": (("m", 1000, 0),),
    "km/h": (("km/h", 1, 0),),
}

UN_CEFACT: Table = {
    "CEL": (("Cel", 1, 0),),
    "KEL": (("K", 1, 0),),
    "FAH": (("degF", 1, 0),),
    "GQ": (("ug/m3", 1, 0),),
    "GP": (("mg/m3", 1, 0),),
    "59": (("ppm", 1, 0),),
    "61": (("ppb", 1, 0),),
    "C62": (("1", 1, 0),),
    "P1": (("%", 1, 0),),
    "MTR": (("m", 1, 0), ("mm", 1000, 0)),
    "CMT": (("cm", 1, 0),),
    "MMT": (("mm", 1, 0),),
    "FOT": (("ft", 1, 0),),
    "INH": (("in", 1, 0), ("cm", 2.54, 0)),
    "KMH": (("km/h", 1, 0),),
    "MTS": (("m/s", 1, 0),),
    "HM": (("mph", 1, 0),),
    "KNT": (("kn", 1, 0),),
    "MQS": (("m3/s", 1, 0),),
    "G51": (("L/s", 1, 0),),
    "PAL": (("Pa", 1, 0),),
    "A97": (("hPa", 1, 0),),
    "MBR": (("hPa", 1, 0),),
    "KPA": (("hPa", 10, 0),),
    "DD": (("deg", 1, 0),),
    "C81": (("deg", 180 / math.pi, 0),),
    "LUX": (("lx", 1, 0),),
    "2N": (("dB", 1, 0),),
    "VLT": (("V", 1, 0),),
    "2Z": (("mV", 1, 0),),
    "WTT": (("W", 1, 0),),
    "KWT": (("kW", 1, 0),),
    "SEC": (("s", 1, 0),),
    "MIN": (("min", 1, 0),),
    "HUR": (("min", 60, 0),),
    "DBM": (("dBm", 1, 0),),
}


def factors(property_name: str, unit: str, table: Table) -> tuple[float, float] | None:
    """(scale, offset) that turn a value in ``unit`` into the property's own unit, or None if there is no way.

    A unit that ``table`` does not name may be one that the property knows.

    Examples
    --------
    >>> factors("water_level_m", "km", SENML), factors("co_ug_m3", "GP", UN_CEFACT)
    ((1000.0, 0.0), (1000.0, 0.0))
    >>> factors("temperature_c", "C", SENML) is None  # coulombs
    True
    >>> factors("rssi_dbm", "dBW", SENML), factors("water_level_m", "ft", SENML)
    ((1.0, 30.0), (0.3048, 0.0))
    """
    for known, scale, offset in table.get(unit, ((unit, 1, 0),)):
        found = conversion(property_name, known)
        if found is not None:
            return float(scale * found[0]), float(offset * found[0] + found[1])
    return None


def names(property_name: str, table: Table) -> str:
    """The units of ``table`` that a property takes, for a sentence."""
    return ", ".join(unit for unit in table if factors(property_name, unit, table)) or PROPERTIES[property_name].unit
