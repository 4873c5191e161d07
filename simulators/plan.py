"""The plan of a simulated city, read from its file in ``cities/``: rivers, roads, districts and where posts stand.

It knows geometry and names. What the posts measure and when they warn is in ``stations``.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CITIES = Path(__file__).parent / "cities"
"""Folder of the city files."""

KM_PER_DEGREE = 111.195
"""One degree of a great circle on a sphere of 6371 km."""

Position = tuple[float, float]
"""Longitude, latitude."""


@dataclass(frozen=True)
class Gauge:
    """A river gauge with the ground that drains to it. Keys as in the city file."""

    id: str
    name: str
    river: str
    at: Position
    catchment: Position
    reach_km: float
    area_km2: float
    curve_number: float
    lag_min: float
    base_m3_s: float
    rating: tuple[float, float, float]
    siaga: tuple[float, ...]
    to: str
    travel_min: float


@dataclass(frozen=True)
class Road:
    """A road with places where traffic is counted in both directions. Keys as in the city file."""

    id: str
    name: str
    line: tuple[Position, ...]
    directions: tuple[str, str]
    free_km_h: float
    lanes: int
    busy: float
    lamps: int
    lamp_w: float
    counters: dict[str, Position]


@dataclass(frozen=True)
class Plan:
    """All that a city file says."""

    id: str
    title: str
    utc_offset_h: float
    height_m: float
    """Height of the city's centre above the sea."""
    northward_rise_m_km: float
    """How much the ground rises for each km north of the centre."""
    outline: tuple[Position, ...]
    districts: dict[str, Position]
    rivers: dict[str, tuple[Position, ...]]
    gauges: tuple[Gauge, ...]
    roads: tuple[Road, ...]
    rain: dict[str, Position]
    air: dict[str, Position]
    noise: dict[str, Position]
    weather: dict[str, Position]

    @property
    def centre(self) -> Position:
        """Middle of the outline's bounding box."""
        lon, lat = zip(*self.outline, strict=True)
        return ((min(lon) + max(lon)) / 2, (min(lat) + max(lat)) / 2)

    def local_km(self, places: list[Position]) -> npt.NDArray[np.float64]:
        """Kilometres east and north of the centre; shape (n, 2). Plane, good to metres over one city."""
        lon0, lat0 = self.centre
        east = math.cos(math.radians(lat0)) * KM_PER_DEGREE
        return (np.array(places, dtype=np.float64).reshape(-1, 2) - (lon0, lat0)) * (east, KM_PER_DEGREE)

    def positions(self, places_km: npt.NDArray[np.float64]) -> tuple[Position, ...]:
        """Longitude and latitude of places given in kilometres, to 1e-6°: the inverse of ``local_km``."""
        lon0, lat0 = self.centre
        east = math.cos(math.radians(lat0)) * KM_PER_DEGREE
        degrees = np.round(places_km / (east, KM_PER_DEGREE) + (lon0, lat0), 6)
        return tuple((lon, lat) for lon, lat in degrees.tolist())

    def district_at(self, place: Position) -> str:
        """The district whose centre is nearest."""
        names = list(self.districts)
        if not names:
            return ""
        away = self.local_km([self.districts[n] for n in names]) - self.local_km([place])
        return names[int(np.argmin((away**2).sum(axis=1)))]


def slug(name: str) -> str:
    """A name as it can stand in an id.

    Examples
    --------
    >>> slug("RS Hasan Sadikin"), slug("Jl. R.E. Martadinata (Riau)")
    ('rs-hasan-sadikin', 'jl-r-e-martadinata-riau')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cities() -> list[str]:
    """Ids of the cities that come with the program."""
    return sorted(p.stem for p in CITIES.glob("*.toml"))


def load(city: str | Path) -> Plan:
    """Read the plan of a city, by its id or by the path of its file (*.toml); it has only what the file lists.

    Raises
    ------
    ValueError
        There is no such city, or its file lacks something or says what cannot be.
    """
    path = Path(city) if isinstance(city, Path) or city.endswith(".toml") else CITIES / f"{city}.toml"
    if not path.is_file():
        raise ValueError(f"no simulated city {str(city)!r}; there are: {', '.join(cities())}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        plan = _plan(content)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"city file {path.name}: {type(error).__name__}: {error}") from error
    _check(plan, path.name)
    return plan


def _position(value: Any) -> Position:
    lon, lat = value
    return float(lon), float(lat)


def _line(value: Any) -> tuple[Position, ...]:
    return tuple(_position(p) for p in value)


def _named(value: dict[str, Any]) -> dict[str, Position]:
    return {name: _position(p) for name, p in value.items()}


def _plan(content: dict[str, Any]) -> Plan:
    gauges = [
        Gauge(
            id=g["id"],
            name=g["name"],
            river=river["name"],
            at=_position(g["at"]),
            catchment=_position(g["catchment"]),
            reach_km=float(g["reach_km"]),
            area_km2=float(g["area_km2"]),
            curve_number=float(g["curve_number"]),
            lag_min=float(g["lag_min"]),
            base_m3_s=float(g["base_m3_s"]),
            rating=(float(g["rating"][0]), float(g["rating"][1]), float(g["rating"][2])),
            siaga=tuple(float(s) for s in g["siaga"]),
            to=g["to"],
            travel_min=float(g["travel_min"]),
        )
        for river in content.get("rivers", ())
        for g in river["gauges"]
    ]
    roads = [
        Road(
            id=r["id"],
            name=r["name"],
            line=_line(r["line"]),
            directions=(r["directions"][0], r["directions"][1]),
            free_km_h=float(r["free_km_h"]),
            lanes=int(r["lanes"]),
            busy=float(r["busy"]),
            lamps=int(r["lamps"]),
            lamp_w=float(r["lamp_w"]),
            counters=_named(r["counters"]),
        )
        for r in content.get("roads", ())
    ]
    districts = _named(content.get("districts", {}))
    return Plan(
        id=content["id"],
        title=content["title"],
        utc_offset_h=float(content["utc_offset_h"]),
        height_m=float(content["height_m"]),
        northward_rise_m_km=float(content["northward_rise_m_km"]),
        outline=_line(content["outline"]),
        districts=districts,
        rivers={r["name"]: _line(r["line"]) for r in content.get("rivers", ())},
        gauges=tuple(gauges),
        roads=tuple(roads),
        rain=_named(content.get("rain", {})),
        air={f"Kantor Kecamatan {n}": p for n, p in districts.items()} | _named(content.get("air", {})),
        noise=_named(content.get("noise", {})),
        weather=_named(content.get("weather", {})),
    )


def _check(plan: Plan, where: str) -> None:
    ids = [g.id for g in plan.gauges]
    for g in plan.gauges:
        if g.to and g.to not in ids:
            raise ValueError(f"city file {where}: gauge {g.id!r} flows to {g.to!r}, which is no gauge")
        if not 0 < g.curve_number <= 100:
            raise ValueError(
                f"city file {where}: gauge {g.id!r}: curve_number must be in (0, 100], got {g.curve_number}"
            )
        for name in ("area_km2", "lag_min", "base_m3_s", "reach_km"):
            if not getattr(g, name) > 0:
                raise ValueError(f"city file {where}: gauge {g.id!r}: {name} must be above 0, got {getattr(g, name)}")
    for r in plan.roads:
        if not 0 < r.busy < 1 or r.lanes < 1 or not r.free_km_h > 0:
            raise ValueError(
                f"city file {where}: road {r.id!r}: needs 0 < busy < 1, lanes >= 1 and free_km_h > 0, "
                f"got {r.busy}, {r.lanes} and {r.free_km_h}"
            )
