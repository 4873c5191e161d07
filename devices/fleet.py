"""What the pages and the API of this room stand on, and entries as the API tells them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from devices.credentials import Credentials, Issuer
from devices.credentials.errors import CredentialsError
from devices.credentials.show import SNIPPETS, qr_svg, snippet, text
from devices.entities import (
    CalibrationEntry,
    DatastreamEntry,
    DeviceDetails,
    DeviceEntry,
    InstallationEntry,
    LadderVersion,
    SiteEntry,
)
from devices.models import DeviceModel, load_catalogue
from devices.registry import Registry
from devices.watch import DeviceWatch
from telemetry.directory import Gate, Ladder
from telemetry.observations import NS_PER_S, rfc3339
from telemetry.properties import PROPERTIES

SEVERITY_NAMES = {1: "waspada", 2: "siaga", 3: "awas"}
CENTRE_SITES = 50
"""Sites from whose middle the map begins where the phone tells no position."""


@dataclass(frozen=True)
class Fleet:
    """The register, and what there is around it."""

    registry: Registry
    issuer: Issuer | None = None
    """None: Pantau makes no logins of devices here."""
    watch: DeviceWatch | None = None
    """None: no pipeline runs in this process."""
    basemap: Mapping[str, Any] | None = None
    """GeoJSON to draw under the sites."""
    models: Mapping[str, DeviceModel] = field(default_factory=load_catalogue)

    def now(self) -> int:
        """The present by the pipeline's clock or, without one, this computer's. [ns since 1970 UTC]"""
        return time.time_ns() if self.watch is None else self.watch.now()

    def silent_s(self) -> dict[str, float]:
        """Since how long each silent device has been so. [s]"""
        if self.watch is None:
            return {}
        now = self.watch.now()
        return {t.device: max(0.0, (now - t.since) / NS_PER_S) for t in self.watch.troubles() if t.kind == "silent"}

    def has_login(self, device: str) -> bool | None:
        """Whether the device has a login; None: nobody can tell now."""
        if self.issuer is None:
            return None
        try:
            return device in self.issuer.known()
        except CredentialsError:
            return None


def about_city(fleet: Fleet) -> dict[str, Any]:
    """City, models, properties, and whether logins are made here."""
    city, utc_offset_h = fleet.registry.city() or ("", 0.0)
    sites = fleet.registry.search_sites("", CENTRE_SITES)
    issuer = fleet.issuer
    return {
        "city": city,
        "utc_offset_h": utc_offset_h,
        "now": rfc3339(fleet.now()),
        "centre": _centre(sites),
        "credentials": None
        if issuer is None
        else {"kind": issuer.kind, "note": {language: issuer.note(language) for language in ("id", "en")}},
        "models": [model_dict(m) for m in fleet.models.values()],
        "properties": {
            p.name: {
                "unit": p.unit,
                "decimals": p.decimals,
                "domain": p.domain.value,
                "label": {"id": p.label_id, "en": p.label_en},
            }
            for p in PROPERTIES.values()
        },
    }


def _centre(sites: Iterable[SiteEntry]) -> dict[str, float] | None:
    found = list(sites)
    if not found:
        return None
    middle = sorted(found, key=lambda s: s.latitude)[len(found) // 2]
    across = sorted(found, key=lambda s: s.longitude)[len(found) // 2]
    return {"latitude": middle.latitude, "longitude": across.longitude}


def the_map(fleet: Fleet) -> dict[str, Any]:
    """What is drawn under the sites: the base map, else the districts' borders."""
    if fleet.basemap is not None:
        return dict(fleet.basemap)
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"kind": "district", "name": d.name, "code": d.code},
                "geometry": msgspec.Raw(d.geojson.encode()),
            }
            for d in fleet.registry.districts()
            if d.geojson
        ],
    }


def model_dict(model: DeviceModel) -> dict[str, Any]:
    """A model of the catalogue."""
    return {
        "id": model.id,
        "vendor": model.vendor,
        "name": model.name,
        "kind": str(model.kind),
        "format": str(model.format),
        "codec": model.codec,
        "interval_s": model.interval_s,
        "silence_after_s": model.silence_after_s,
        "needs_height": model.needs_height,
        "properties": [p.property for p in model.properties],
        "notes": model.notes,
    }


def device_dict(device: DeviceEntry, silent: Mapping[str, float] | None = None) -> dict[str, Any]:
    """A device; with ``silent_s`` if it is known which ones are silent."""
    found: dict[str, Any] = msgspec.to_builtins(device)
    return found if silent is None else found | {"silent_s": silent.get(device.id)}


def site_dict(site: SiteEntry) -> dict[str, Any]:
    """A site."""
    found: dict[str, Any] = msgspec.to_builtins(site)
    return found


def installation_dict(entry: InstallationEntry) -> dict[str, Any]:
    """A device at a site for a time; without ``end`` it goes on."""
    end = None if entry.end_ns is None else rfc3339(entry.end_ns)
    return {"device": entry.device, "site": entry.site, "start": rfc3339(entry.start_ns), "end": end}


def calibration_dict(entry: CalibrationEntry) -> dict[str, Any]:
    """A calibration."""
    return {
        "property": entry.property,
        "scale": entry.scale,
        "offset": entry.offset,
        "valid_from": rfc3339(entry.valid_from_ns),
    }


def ladder_dict(ladder: Ladder) -> dict[str, Any]:
    """Thresholds, as ``PUT`` takes them."""
    return {
        "steps": [{"value": s.value, "severity": SEVERITY_NAMES[s.severity], "label": s.label} for s in ladder.steps],
        "direction": "above" if ladder.direction > 0 else "below",
        "deadband": ladder.deadband,
        "on_delay_s": ladder.on_delay_s,
        "off_delay_s": ladder.off_delay_s,
        "gate": "dark" if ladder.gate == Gate.DARK else "always",
    }


def version_dict(version: LadderVersion) -> dict[str, Any]:
    """One version of thresholds."""
    return {
        "number": version.number,
        "author": version.author,
        "reason": version.reason,
        "valid_from": rfc3339(version.valid_from),
        "directory_version": version.directory_version,
        **ladder_dict(version.ladder),
    }


def datastream_dict(entry: DatastreamEntry) -> dict[str, Any]:
    """A datastream with its limits and thresholds."""
    return {
        "id": entry.id,
        "site": entry.site,
        "property": entry.property,
        "unit": PROPERTIES[entry.property].unit,
        "label": entry.label,
        "limits": msgspec.to_builtins(entry.limits),
        "thresholds": ladder_dict(entry.ladder),
    }


def details_dict(found: DeviceDetails) -> dict[str, Any]:
    """Everything about one device."""
    return {
        "device": device_dict(found.device),
        "site": None if found.site is None else site_dict(found.site),
        "installations": [installation_dict(i) for i in found.installations],
        "datastreams": [datastream_dict(d) for d in found.datastreams],
        "calibrations": [calibration_dict(c) for c in found.calibrations],
    }


def credentials_dict(credentials: Credentials, language: str, property_name: str) -> dict[str, Any]:
    """A login as it is shown once: its fields, as text, as a QR code, and as firmware."""
    c = credentials
    return {
        "username": c.username,
        "password": c.password,
        "host": c.host,
        "port": c.port,
        "tls": c.tls,
        "topic": c.topic,
        "client_id": c.client_id,
        "certificate_pem": c.certificate_pem,
        "key_pem": c.key_pem,
        "ca_pem": c.ca_pem,
        "text": text(c, language),
        "qr_svg": qr_svg(c),
        "snippets": {kind: snippet(c, language, kind, property_name=property_name) for kind in SNIPPETS},
    }


def first_property(found: DeviceDetails | None) -> str:
    """What a firmware snippet should send: the first thing that the device observes besides its own health."""
    names = [] if found is None else [d.property for d in found.datastreams]
    observed = [n for n in names if PROPERTIES[n].domain.value != "device"]
    return next(iter(observed or names), "water_level_m")
