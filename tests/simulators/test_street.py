"""The street: the sun against an almanac, washout against its solution, sound and humidity against tables."""

import numpy as np
import pytest

from simulators import street


def at(text: str) -> np.ndarray:
    return np.array([np.datetime64(text, "ns").astype(np.int64)])


@pytest.mark.parametrize(
    ("moment", "latitude", "longitude", "degrees"),
    [
        ("2026-06-21T12:02", 51.4779, 0.0, 61.96),  # Greenwich, noon of the solstice: 90 - 51.48 + 23.44
        ("2026-12-21T11:58", 51.4779, 0.0, 15.08),  # and in winter: 90 - 51.48 - 23.44
        ("2026-06-21T04:52", -6.92, 107.61, 59.64),  # Bandung, noon of the northern solstice: 90 - 23.44 - 6.92
        ("2026-03-20T11:03", -6.92, 107.61, -0.8),  # Bandung at the equinox: sunset about 18:00 local
    ],
)
def test_the_sun_stands_where_geometry_puts_it(moment: str, latitude: float, longitude: float, degrees: float) -> None:
    height = street.solar_elevation_deg(at(moment), np.array(latitude), np.array(longitude))[0]
    assert height == pytest.approx(degrees, abs=1.0)


def test_steady_rain_washes_to_the_balance_of_emission_and_washout() -> None:
    left = street.washed_air(np.full((600, 1), 30.0))[:, 0]
    assert left[0] == 1.0 and (np.diff(left) <= 0).all()
    # (1/60) / (1/60 + 0.035 · 30 / 60) = 1 / 2.05
    assert left[-1] == pytest.approx(1 / 2.05, rel=1e-6)


def test_clean_weather_fills_the_air_again() -> None:
    rain = np.zeros((600, 1))
    rain[:60] = 60.0
    left = street.washed_air(rain)[:, 0]
    assert left[60] < 0.45 and left[-1] > 0.999


def test_traffic_sound_against_the_british_table() -> None:
    # CRTN: 1000 veh/h at 75 km/h without heavy vehicles: 42.2 + 30 = 72.2 dB L10, correction 0
    assert street.traffic_sound_db(np.array([1000.0]), np.array([75.0]), 0.0)[0] == pytest.approx(69.2, abs=0.1)
    assert street.traffic_sound_db(np.array([0.0]), np.array([40.0]))[0] >= 35.0


def test_levels_add_by_energy() -> None:
    assert street.add_levels_db(np.array([70.0]), 70.0, 70.0, 70.0)[0] == pytest.approx(76.02, abs=0.01)
    assert street.add_levels_db(np.array([70.0]), 40.0)[0] == pytest.approx(70.0, abs=0.01)


def test_humidity_is_full_at_the_dew_point_and_never_beyond() -> None:
    # saturation pressures of 10 and 30 °C: 12.27 and 42.43 hPa
    assert street.relative_humidity_percent(np.array([30.0]), np.array([10.0]))[0] == pytest.approx(28.9, abs=0.2)
    assert street.relative_humidity_percent(np.array([10.0]), np.array([12.0]))[0] == 100.0
