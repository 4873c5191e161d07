"""Another city: a short file is enough, and what it lacks is simply not there."""

from pathlib import Path

import pytest

from simulators.basemap import basemap
from simulators.city import City, Kind
from simulators.plan import load, slug
from simulators.schedule import NS_PER_MIN

SMALL = """
id = "kolaka-timur"
title = "Kolaka Timur (simulasi)"
utc_offset_h = 8.0
height_m = 90.0
northward_rise_m_km = 5.0
outline = [[121.80, -4.10], [122.00, -4.10], [122.00, -3.95], [121.80, -3.95]]
"""

RIVER = """
[[rivers]]
name = "Konaweha"
line = [[121.85, -3.96], [121.95, -4.08]]
gauges = [
  { id = "hulu", name = "Hulu", at = [121.85, -3.96], catchment = [121.84, -3.94], reach_km = 2.0, area_km2 = 9.0, curve_number = 85, lag_min = 40, base_m3_s = 2.0, rating = [9.0, 1.7, 0.0], siaga = [1.2, 1.8, 2.4], to = "", travel_min = 0 },
]
"""  # noqa: E501

LAMPS = """
[[roads]]
name = "Jl. Poros"
id = "poros"
line = [[121.85, -4.00], [121.95, -4.00]]
directions = ["timur", "barat"]
free_km_h = 60
lanes = 1
busy = 0.5
lamps = 2
lamp_w = 60
counters = {}
"""


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (SMALL, set()),
        (SMALL + RIVER, {"gauge"}),
        (SMALL + LAMPS, {"lamp"}),
        (SMALL + RIVER + LAMPS, {"gauge", "lamp"}),
        (SMALL + '[rain]\n"Tirawuta" = [121.9, -4.0]\n', {"rain"}),
        (SMALL + '[noise]\n"Pasar" = [121.9, -4.0]\n', {"noise"}),
        (SMALL + "[districts]\nTirawuta = [121.9, -4.0]\nLadongi = [121.85, -4.05]\n", {"air"}),
        (SMALL + '[weather]\n"Rate-Rate" = [121.9, -4.0]\n', {"weather"}),
        (SMALL + LAMPS.replace("{}", '{ "Pasar" = [121.9, -4.0] }'), {"lamp", "traffic"}),
    ],
)
def test_a_city_may_have_only_some_kinds_of_posts(tmp_path: Path, text: str, kinds: set[str]) -> None:
    path = tmp_path / "kolaka-timur.toml"
    path.write_text(text)
    city = City(seed=3, plan=path)
    start = city.start_of_evening("2026-11-24")
    samples = city.sample(start, start + 300 * NS_PER_MIN)
    assert set(city.world.members) == kinds
    assert {d.device.split("-")[0] for d in (city.datastreams[i] for i in set(samples.datastream.tolist()))} == kinds
    truth = city.truth(start, start + 300 * NS_PER_MIN)
    assert any(h.kind == Kind.LEVEL and h.severity == 3 for h in truth) or "gauge" not in kinds
    assert any(h.kind == Kind.INCIDENT for h in truth) == ("traffic" in kinds)
    assert basemap(load(path))["features"][0]["properties"]["name"] == "Kolaka Timur (simulasi)"
    # 17:20 in this zone
    assert start == city.start_of_evening("2026-11-24") and (start // 10**9 + 8 * 3600) % 86_400 == 17 * 3600 + 20 * 60


def test_names_become_ids() -> None:
    assert slug("Pos hujan Balai Kota") == "pos-hujan-balai-kota"
    assert slug("  É!") == ""
