"""The catalogue of observed properties: name, unit, physical span, and the units that are converted.

The name carries the unit. A value arriving in another unit of the list is converted; any other unit is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Domain(StrEnum):
    """What a property tells about; the pages and dashboards are arranged by it."""

    FLOOD = "flood"
    TRAFFIC = "traffic"
    STREET = "street"
    DEVICE = "device"


@dataclass(frozen=True)
class ObservedProperty:
    """One observable quantity and the facts that hold for every sensor of it."""

    name: str
    unit: str
    """Unit of every stored value, as it is shown to people."""
    domain: Domain
    span_min: float
    """Smallest value that is physically possible; smaller ones are flagged FAIL. [unit]"""
    span_max: float
    label_en: str
    label_id: str
    decimals: int
    """Digits after the point that are shown to people."""
    conversions: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Accepted unit → (scale, offset): value in ``unit`` = value · scale + offset."""


def normalize_unit(unit: str) -> str:
    """Bring the common spellings of one unit to one form.

    Examples
    --------
    >>> normalize_unit("µg/m³"), normalize_unit("μg/m^3"), normalize_unit(" ug/m3")
    ('ug/m3', 'ug/m3', 'ug/m3')
    >>> normalize_unit("°C")
    'Cel'
    """
    unit = unit.strip().replace("μ", "u").replace("µ", "u").replace("³", "3").replace("^", "").replace("²", "2")
    return _UNIT_SPELLINGS.get(unit, unit)


_UNIT_SPELLINGS = {
    "°C": "Cel",
    "C": "Cel",
    "degC": "Cel",
    "°F": "degF",
    "F": "degF",
    "kph": "km/h",
    "kmh": "km/h",
    "mi/h": "mph",
    "percent": "%",
    "%RH": "%",
    "hPa": "hPa",
    "mbar": "hPa",
    "dB(A)": "dB",
    "dBA": "dB",
    "°": "deg",
    "m3/s": "m3/s",
    "veh/hour": "veh/h",
    "/h": "veh/h",
    "lux": "lx",
    "": "1",
}

_LENGTH_M = {"m": (1.0, 0.0), "cm": (0.01, 0.0), "mm": (0.001, 0.0), "ft": (0.3048, 0.0)}
_DEPTH_MM = {"mm": (1.0, 0.0), "cm": (10.0, 0.0), "in": (25.4, 0.0)}
_SPEED_KM_H = {"km/h": (1.0, 0.0), "m/s": (3.6, 0.0), "mph": (1.609344, 0.0)}
_SPEED_M_S = {"m/s": (1.0, 0.0), "km/h": (1 / 3.6, 0.0), "mph": (0.44704, 0.0), "kn": (1852 / 3600, 0.0)}
_FRACTION = {"1": (1.0, 0.0), "%": (0.01, 0.0)}
_MASS_UG_M3 = {"ug/m3": (1.0, 0.0), "mg/m3": (1000.0, 0.0)}
_TEMPERATURE_C = {"Cel": (1.0, 0.0), "K": (1.0, -273.15), "degF": (5 / 9, -160 / 9)}


def _gas_ug_m3(molar_mass_g_mol: float) -> dict[str, tuple[float, float]]:
    """Mass units, and ppb/ppm at 25 °C and 1013 hPa: µg/m³ = ppb · M / 24.45."""
    per_ppb = molar_mass_g_mol / 24.45
    return _MASS_UG_M3 | {"ppb": (per_ppb, 0.0), "ppm": (1000 * per_ppb, 0.0)}


_F, _T, _S, _D = Domain.FLOOD, Domain.TRAFFIC, Domain.STREET, Domain.DEVICE

PROPERTIES: dict[str, ObservedProperty] = {
    p.name: p
    for p in (
        # Levels may be below a gauge's zero, or metres above sea level.
        ObservedProperty("water_level_m", "m", _F, -100, 9000, "Water level", "Tinggi muka air", 2, _LENGTH_M),
        ObservedProperty(
            "discharge_m3_s",
            "m³/s",
            _F,
            -1e5,
            1e6,
            "Discharge",
            "Debit",
            1,
            {"m3/s": (1, 0), "L/s": (0.001, 0)},
        ),
        # Depth since the previous reading. The wettest minute on record is about 38 mm; an interval may be a day.
        ObservedProperty("rain_mm", "mm", _F, 0, 2000, "Rain", "Hujan", 1, _DEPTH_MM),
        ObservedProperty("speed_km_h", "km/h", _T, 0, 300, "Speed", "Kecepatan", 0, _SPEED_KM_H),
        ObservedProperty(
            "flow_veh_h",
            "veh/h",
            _T,
            0,
            50_000,
            "Flow",
            "Arus lalu lintas",
            0,
            {"veh/h": (1, 0), "veh/min": (60, 0)},
        ),
        ObservedProperty("occupancy", "1", _T, 0, 1, "Occupancy", "Okupansi", 2, _FRACTION),
        ObservedProperty(
            "travel_time_s",
            "s",
            _T,
            0,
            86_400,
            "Travel time",
            "Waktu tempuh",
            0,
            {"s": (1, 0), "min": (60, 0)},
        ),
        ObservedProperty("pm2_5_ug_m3", "µg/m³", _S, 0, 5000, "PM2.5", "PM2.5", 1, _MASS_UG_M3),
        ObservedProperty("pm10_ug_m3", "µg/m³", _S, 0, 10_000, "PM10", "PM10", 1, _MASS_UG_M3),
        # Reference analysers drift slightly below zero in clean air, hence the small negative span.
        ObservedProperty("no2_ug_m3", "µg/m³", _S, -10, 5000, "NO₂", "NO₂", 1, _gas_ug_m3(46.006)),
        ObservedProperty("nox_ug_m3", "µg/m³", _S, -10, 10_000, "NOₓ (as NO₂)", "NOₓ (sebagai NO₂)", 1, _MASS_UG_M3),
        ObservedProperty("o3_ug_m3", "µg/m³", _S, -10, 5000, "O₃", "O₃", 1, _gas_ug_m3(47.998)),
        ObservedProperty("so2_ug_m3", "µg/m³", _S, -10, 10_000, "SO₂", "SO₂", 1, _gas_ug_m3(64.066)),
        ObservedProperty("co_ug_m3", "µg/m³", _S, -100, 500_000, "CO", "CO", 0, _gas_ug_m3(28.010)),
        ObservedProperty("laeq_db", "dB(A)", _S, 0, 160, "Noise (LAeq)", "Kebisingan (LAeq)", 1, {"dB": (1, 0)}),
        ObservedProperty(
            "lamp_power_w", "W", _S, 0, 5000, "Lamp power", "Daya lampu", 0, {"W": (1, 0), "kW": (1000, 0)}
        ),
        ObservedProperty("illuminance_lx", "lx", _S, 0, 200_000, "Illuminance", "Iluminasi", 0, {"lx": (1, 0)}),
        ObservedProperty("temperature_c", "°C", _S, -60, 80, "Air temperature", "Suhu udara", 1, _TEMPERATURE_C),
        ObservedProperty(
            "humidity_percent", "%", _S, 0, 100, "Humidity", "Kelembapan", 0, {"%": (1, 0), "1": (100, 0)}
        ),
        ObservedProperty("wind_speed_m_s", "m/s", _S, 0, 120, "Wind speed", "Kecepatan angin", 1, _SPEED_M_S),
        ObservedProperty("wind_direction_deg", "°", _S, 0, 360, "Wind direction", "Arah angin", 0, {"deg": (1, 0)}),
        ObservedProperty(
            "pressure_hpa",
            "hPa",
            _S,
            500,
            1100,
            "Air pressure",
            "Tekanan udara",
            1,
            {"hPa": (1, 0), "Pa": (0.01, 0)},
        ),
        ObservedProperty("battery_v", "V", _D, 0, 1000, "Battery", "Baterai", 2, {"V": (1, 0), "mV": (0.001, 0)}),
        ObservedProperty("rssi_dbm", "dBm", _D, -200, 50, "Signal", "Sinyal", 0, {"dBm": (1, 0)}),
        # As gateways report it: 1 or true while connected.
        ObservedProperty("connected", "1", _D, 0, 1, "Connected", "Terhubung", 0, {"1": (1, 0)}),
    )
}


def conversion(name: str, unit: str) -> tuple[float, float] | None:
    """Scale and offset that turn a value in ``unit`` into the property's own unit, or None if not known.

    Examples
    --------
    >>> conversion("water_level_m", "cm")
    (0.01, 0.0)
    >>> conversion("water_level_m", "Cel") is None
    True
    """
    return PROPERTIES[name].conversions.get(normalize_unit(unit))
