"""Units: conversions against hand arithmetic, and facts that hold for the whole catalogue."""

from __future__ import annotations

import math

import pytest

from telemetry.properties import PROPERTIES, conversion, normalize_unit

# (property, value as sent, unit as sent, value in the property's unit). From the definitions of the units: one inch
# is 25.4 mm, one foot 0.3048 m, one statute mile 1609.344 m, one nautical mile 1852 m; 0 °C is 273.15 K and 32 °F.
BY_HAND = [
    ("rain_mm", 1.0, "in", 25.4),
    ("rain_mm", 0.5, "cm", 5.0),
    ("water_level_m", 124.0, "cm", 1.24),
    ("water_level_m", 1240.0, "mm", 1.24),
    ("water_level_m", 10.0, "ft", 3.048),
    ("discharge_m3_s", 2500.0, "L/s", 2.5),
    ("discharge_m3_s", 2.5, "m³/s", 2.5),
    ("speed_km_h", 10.0, "m/s", 36.0),
    ("speed_km_h", 60.0, "mph", 96.56064),
    ("speed_km_h", 50.0, "kph", 50.0),
    ("wind_speed_m_s", 36.0, "km/h", 10.0),
    ("wind_speed_m_s", 3600.0, "kn", 1852.0),
    ("wind_speed_m_s", 3600.0, "mph", 1609.344),
    ("flow_veh_h", 12.0, "veh/min", 720.0),
    ("occupancy", 12.5, "%", 0.125),
    ("occupancy", 12.5, "percent", 0.125),
    ("humidity_percent", 0.81, "1", 81.0),
    ("travel_time_s", 2.5, "min", 150.0),
    ("temperature_c", 300.15, "K", 27.0),
    ("temperature_c", 212.0, "°F", 100.0),
    ("temperature_c", 32.0, "degF", 0.0),
    ("temperature_c", -40.0, "F", -40.0),
    ("temperature_c", 27.5, "°C", 27.5),
    ("pressure_hpa", 101325.0, "Pa", 1013.25),
    ("pressure_hpa", 1013.25, "mbar", 1013.25),
    ("battery_v", 3600.0, "mV", 3.6),
    ("lamp_power_w", 0.12, "kW", 120.0),
    ("laeq_db", 64.2, "dBA", 64.2),
    ("pm2_5_ug_m3", 0.035, "mg/m³", 35.0),
    # 1 ppb of NO2 is 1.88 µg/m³, of O3 1.96, of SO2 2.62, and 1 ppm of CO 1.15 mg/m³, at 25 °C and 1013 hPa: the
    # factors that the World Health Organization's air quality guidelines use, to their three digits.
    ("no2_ug_m3", 100.0, "ppb", 188.0),
    ("o3_ug_m3", 100.0, "ppb", 196.0),
    ("so2_ug_m3", 100.0, "ppb", 262.0),
    ("co_ug_m3", 1.0, "ppm", 1150.0),
]


@pytest.mark.parametrize(("name", "sent", "unit", "expected"), BY_HAND)
def test_a_value_is_converted_as_by_hand(name, sent, unit, expected):
    found = conversion(name, unit)
    assert found is not None
    scale, offset = found
    tolerance = 0.004 if unit in ("ppb", "ppm") else 1e-12
    assert sent * scale + offset == pytest.approx(expected, rel=tolerance, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "unit"),
    [("water_level_m", "°C"), ("rain_mm", ""), ("pm2_5_ug_m3", "ppb"), ("nox_ug_m3", "ppb"), ("battery_v", "%")],
)
def test_a_unit_that_cannot_be_converted_is_not_known(name, unit):
    assert conversion(name, unit) is None


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_unit_shown_to_people_is_accepted_as_it_is(name):
    assert conversion(name, PROPERTIES[name].unit) == (1.0, 0.0)


@pytest.mark.parametrize("name", PROPERTIES)
def test_an_entry_of_the_catalogue_is_sound(name):
    entry = PROPERTIES[name]
    assert entry.name == name
    assert math.isfinite(entry.span_min)
    assert math.isfinite(entry.span_max)
    assert entry.span_min < entry.span_max
    assert entry.label_en
    assert entry.label_id
    for unit, (scale, offset) in entry.conversions.items():
        assert normalize_unit(unit) == unit, "a key that no sent unit is ever normalized to"
        assert scale > 0
        assert math.isfinite(offset)


def test_the_two_letters_mu_are_one_unit():
    micro_sign, greek_mu = "\u00b5g/m³", "\u03bcg/m³"
    assert conversion("pm10_ug_m3", micro_sign) == conversion("pm10_ug_m3", greek_mu) == (1.0, 0.0)
