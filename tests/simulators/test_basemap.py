"""The base map: valid GeoJSON, in Bandung, districts that cover the city once."""

import numpy as np
import pytest

from simulators.basemap import basemap
from simulators.plan import load

PLAN = load("bandung")
FEATURES = basemap(PLAN)["features"]


def area(ring: list[list[float]]) -> float:
    x, y = np.array(ring[:-1]).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def test_every_feature_is_in_bandung_and_in_the_order_longitude_latitude() -> None:
    assert {f["properties"]["kind"] for f in FEATURES} == {"city", "district", "river", "road"}
    for f in FEATURES:
        coordinates = f["geometry"]["coordinates"]
        points = np.array(coordinates[0] if f["geometry"]["type"] == "Polygon" else coordinates)
        assert points.shape[0] >= 2 and points.shape[1] == 2
        assert ((points > (107.5, -7.05)) & (points < (107.75, -6.83))).all(), f["properties"]


def test_districts_are_closed_counterclockwise_and_cover_the_city_once() -> None:
    city, *_ = [f for f in FEATURES if f["properties"]["kind"] == "city"]
    districts = [f["geometry"]["coordinates"][0] for f in FEATURES if f["properties"]["kind"] == "district"]
    assert len(districts) == 30
    assert all(ring[0] == ring[-1] and area(ring) > 0 for ring in districts)
    assert sum(map(area, districts)) == pytest.approx(area(city["geometry"]["coordinates"][0]), rel=1e-4)


def test_gauges_stand_at_their_river_and_counters_at_their_road() -> None:
    def away_m(point: tuple[float, float], line: tuple[tuple[float, float], ...]) -> float:
        p, corners = PLAN.local_km([point])[0], PLAN.local_km(list(line))
        step = np.diff(corners, axis=0)
        part = np.clip(((p - corners[:-1]) * step).sum(axis=1) / (step**2).sum(axis=1), 0, 1)
        return float(np.hypot(*(corners[:-1] + part[:, None] * step - p).T).min() * 1000)

    assert all(away_m(g.at, PLAN.rivers[g.river]) < 30 for g in PLAN.gauges)
    assert all(away_m(at, r.line) < 60 for r in PLAN.roads for at in r.counters.values())


def test_rivers_flow_south() -> None:
    for name in ("Cikapundung", "Citepus", "Cidurian", "Cipamokolan"):
        line = PLAN.rivers[name]
        assert line[0][1] > line[-1][1]
