"""What technicians are to do: jobs that somebody opened, and devices that the pipeline finds silent or faulty.

The latter are no entries of the register until somebody closes them: their id is the kind and the device.
"""

from __future__ import annotations

from typing import Any

from devices.entities import Job, SiteEntry
from devices.errors import InvalidEntryError
from devices.fleet import Fleet, site_dict
from devices.registering import NoSuchError
from devices.search import distance_m
from devices.watch import Trouble
from telemetry.observations import NS_PER_S, rfc3339
from telemetry.properties import PROPERTIES

FOUND = ("silent", "faulty")
"""Kinds that the pipeline finds."""
CLOSED_LOOKED_AT = 500
"""So many of the newest closed jobs are looked at, so that what was closed does not come again at once."""
MAX_JOBS = 2000


def worklist(
    fleet: Fleet, *, position: tuple[float, float] | None = None, kind: str | None = None
) -> list[dict[str, Any]]:
    """All open work; by distance from ``position`` (latitude, longitude), else by age."""
    registry, now = fleet.registry, fleet.now()
    found = [_job_dict(job, now) for job in registry.jobs(limit=MAX_JOBS)]
    if fleet.watch is not None:
        done = {
            (job.kind, job.device): job.closed_at or 0
            for job in reversed(registry.jobs(only_open=False, limit=CLOSED_LOOKED_AT))
            if job.closed_at is not None
        }
        opened = {(str(job["kind"]), str(job["device"])) for job in found}
        for trouble in fleet.watch.troubles():
            key = (trouble.kind, trouble.device)
            if key in opened or done.get(key, 0) >= trouble.since:
                continue
            found.append(
                {
                    "id": f"{trouble.kind}:{trouble.device}",
                    "kind": trouble.kind,
                    "device": trouble.device,
                    "site": None,
                    "text": said(trouble),
                    "values": trouble.values,
                    "opened_at": rfc3339(trouble.since),
                    "due_at": None,
                    "overdue": False,
                    "age_s": max(0.0, (now - trouble.since) / NS_PER_S),
                    "found": True,
                    "heard": trouble.heard,
                }
            )
    if kind is not None:
        found = [job for job in found if job["kind"] == kind]
    _place(fleet, found, position)
    if position is None:
        found.sort(key=lambda job: -job["age_s"])
    else:
        found.sort(key=lambda job: (job["distance_m"] is None, job["distance_m"] or 0.0))
    return found


def close(fleet: Fleet, ident: str, *, by: str, note: str, photo: bytes | None) -> Job:
    """Close a job by its number or, of what the pipeline found, by its kind and device.

    Raises
    ------
    NoSuchError
        There is none.
    InvalidEntryError
        It is closed already, or the photo is none.
    """
    registry = fleet.registry
    kind, _, device = ident.partition(":")
    if kind in FOUND and device:
        if registry.device(device) is None:
            raise NoSuchError(f"there is no device {device!r}")
        last = next((j for j in registry.jobs(only_open=False, device=device, limit=50) if j.kind == kind), None)
        if last is not None and (last.closed_by, last.note) == (by, note) and _again(fleet, last):
            return last
        text = ""
        if fleet.watch is not None:
            text = next((said(t) for t in fleet.watch.troubles() if (t.kind, t.device) == (kind, device)), "")
        number = registry.open_job(kind=kind, text=text, by=by, device=device)
    else:
        number = job_number(fleet, ident)
    return registry.close_job(number, by=by, note=note, photo=photo)


def said(trouble: Trouble) -> str:
    """What can't be right, in words.

    Examples
    --------
    >>> said(Trouble("awlr-1", "faulty", 0, {"water_level_m": 99.0}))
    'water_level_m 99.00 m'
    """
    return ", ".join(
        f"{n} {v:.{PROPERTIES[n].decimals}f} {PROPERTIES[n].unit}".strip() for n, v in trouble.values.items()
    )


def _again(fleet: Fleet, last: Job) -> bool:
    """Whether a phone sends the same a second time: what was closed has not come back since."""
    if last.closed_at is None or fleet.watch is None:
        return last.closed_at is not None
    return all(
        (t.kind, t.device) != (last.kind, last.device) or t.since <= last.closed_at for t in fleet.watch.troubles()
    )


def job_number(fleet: Fleet, ident: str) -> int:
    """The number of a job of the register. Raises NoSuchError."""
    if not (ident.isascii() and ident.isdigit() and len(ident) < 10):
        raise NoSuchError(f"there is no job {ident!r}")
    try:
        fleet.registry.job(int(ident))
    except InvalidEntryError as error:
        raise NoSuchError(str(error)) from None
    return int(ident)


def closed_dict(job: Job) -> dict[str, Any]:
    """A job as it was closed."""
    return {
        "id": str(job.id),
        "kind": job.kind,
        "device": job.device,
        "site": job.site,
        "text": job.text,
        "opened_at": rfc3339(job.opened_at),
        "opened_by": job.opened_by,
        "due_at": None if job.due_at is None else rfc3339(job.due_at),
        "closed_at": None if job.closed_at is None else rfc3339(job.closed_at),
        "closed_by": job.closed_by,
        "note": job.note,
        "photo": f"/api/jobs/{job.id}/photo" if job.has_photo else None,
    }


def _job_dict(job: Job, now: int) -> dict[str, Any]:
    return closed_dict(job) | {
        "overdue": job.due_at is not None and job.due_at < now,
        "age_s": max(0.0, (now - job.opened_at) / NS_PER_S),
        "found": False,
        "values": {},
        "heard": True,
    }


def _place(fleet: Fleet, found: list[dict[str, Any]], position: tuple[float, float] | None) -> None:
    """Put the whole site into each, and how far away it is."""
    sites: dict[str, SiteEntry | None] = {}
    for job in found:
        if isinstance(job["site"], str):
            name = job["site"]
            if name not in sites:
                sites[name] = fleet.registry.site(name)
            site = sites[name]
        else:
            details = fleet.registry.device(job["device"])
            site = None if details is None else details.site
        job["site"] = None if site is None else site_dict(site)
        job["distance_m"] = (
            None if site is None or position is None else distance_m(*position, site.latitude, site.longitude)
        )
