"""The map under a simulated city's stations: rivers, roads, districts and the city's border as GeoJSON.

It is a sketch. Rivers and roads are the lines of the city's file; a district is the ground that is nearer to its
centre than to any other (Thiessen polygon), cut at the border, and no legal boundary.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from simulators.plan import Plan, Position, load

Floats = npt.NDArray[np.float64]


def basemap(plan: Plan) -> dict[str, Any]:
    """A GeoJSON FeatureCollection (RFC 7946: longitude, latitude).

    Every feature has the properties ``kind`` ("city", "district", "river" or "road") and ``name``; cities and
    districts are Polygons, rivers (drawn downstream) and roads LineStrings. What lies below comes first.
    """
    features = [_feature("city", plan.title, "Polygon", [_ring(plan.outline)])]
    features += [
        _feature("district", name, "Polygon", [_ring(outline)])
        for name, outline in district_outlines(plan).items()
        if len(outline) > 2
    ]
    features += [_feature("river", name, "LineString", [list(p) for p in line]) for name, line in plan.rivers.items()]
    features += [_feature("road", r.name, "LineString", [list(p) for p in r.line]) for r in plan.roads]
    return {"type": "FeatureCollection", "features": features}


def district_outlines(plan: Plan) -> dict[str, tuple[Position, ...]]:
    """District → corners of its Thiessen polygon within the city's border, not closed."""
    names = list(plan.districts)
    centres = plan.local_km([plan.districts[n] for n in names]) if names else np.empty((0, 2))
    border = plan.local_km(list(plan.outline))
    outlines = {}
    for i, name in enumerate(names):
        shape = border
        for j in range(len(names)):
            if j != i and len(shape):
                shape = _nearer(shape, centres[i], centres[j])
        outlines[name] = plan.positions(shape)
    return outlines


def _nearer(shape: Floats, here: Floats, there: Floats) -> Floats:
    """The part of a polygon that is nearer to one point than to another.

    References
    ----------
    Sutherland, Hodgman, "Reentrant polygon clipping", CACM 17 (1974), for one clipping line.
    """
    side = (shape - 0.5 * (here + there)) @ (there - here)  # negative: nearer to here
    after, side_after = np.roll(shape, -1, axis=0), np.roll(side, -1)
    corners: list[Floats] = []
    for p, q, s, t in zip(shape, after, side, side_after, strict=True):
        if s <= 0:
            corners.append(p)
        if (s < 0 < t) or (t < 0 < s):
            corners.append(p + (q - p) * (s / (s - t)))
    return np.array(corners).reshape(-1, 2)


def _ring(corners: tuple[Position, ...]) -> list[list[float]]:
    """A closed ring, counterclockwise as RFC 7946 asks for."""
    x, y = np.array(corners).T
    area = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    ring = [list(p) for p in (corners if area > 0 else corners[::-1])]
    return [*ring, ring[0]]


def _feature(kind: str, name: str, geometry: str, coordinates: list[Any]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"kind": kind, "name": name},
        "geometry": {"type": geometry, "coordinates": coordinates},
    }


if __name__ == "__main__":
    json.dump(basemap(load(sys.argv[1] if len(sys.argv) > 1 else "bandung")), sys.stdout, ensure_ascii=False)
