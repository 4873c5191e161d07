"""What technicians are to do: opened, closed with a note and a photo, and listed. The pipeline knows nothing of it."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from devices import content
from devices.changes import Edit
from devices.checks import check_text, check_time
from devices.entities import MAX_NOTE_CHARACTERS, MAX_PHOTO_BYTES, Job
from devices.errors import InvalidEntryError
from devices.model import DeviceRow, JobPhotoRow, JobRow, SiteRow

_PHOTOS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
"""How JPEG, PNG and WebP begin."""


def open_job(edit: Edit, *, device: str, site: str, kind: str, text: str, opened_at: int, due_at: int | None) -> int:
    """Write down a new job; returns its number. An open job of the same kind and device is not opened twice."""
    check_text(kind, "kind of a job", longest=100)
    check_text(text, "text of a job", longest=MAX_NOTE_CHARACTERS)
    if not kind.strip():
        raise InvalidEntryError("a job needs a kind, such as 'silent' or 'inspection'")
    if due_at is not None:
        check_time(due_at, "due_at of a job")
    device_index = edit.device(device)[0] if device else None
    if site:
        site_index = edit.site(site)[0]
    else:
        where = {} if device_index is None else content.site_of_device(edit.connection, [device_index])
        if device_index not in where:
            raise InvalidEntryError(f"a job needs a site, or a device that is installed; got device {device!r}")
        site_index = where[device_index][0]
    same = select(JobRow.id).where(JobRow.closed_at.is_(None), JobRow.kind == kind, JobRow.site == site_index)
    same = same.where(JobRow.device.is_(None) if device_index is None else JobRow.device == device_index)
    known = edit.connection.execute(same.order_by(JobRow.id)).scalars().first()
    if known is not None:
        return known
    number = edit.connection.execute(select(func.coalesce(func.max(JobRow.id), 0))).scalar_one() + 1
    values = {
        "id": number,
        "device": device_index,
        "site": site_index,
        "kind": kind,
        "text": text,
        "opened_at": opened_at,
        "opened_by": edit.by,
        "due_at": due_at,
        "closed_by": "",
        "note": "",
        "has_photo": False,
    }
    edit.connection.execute(insert(JobRow), [values])
    edit.note("added", "job", str(number), None, get_job(edit.connection, number))
    return number


def close_job(edit: Edit, number: int, *, note: str, photo: bytes | None, closed_at: int) -> None:
    """Close a job. Closing it again with the same note changes nothing: a phone may send twice."""
    check_text(note, "note of a job", longest=MAX_NOTE_CHARACTERS)
    if photo is not None:
        if len(photo) > MAX_PHOTO_BYTES:
            raise InvalidEntryError(f"the photo must have at most {MAX_PHOTO_BYTES} bytes, got {len(photo)}")
        if not photo.startswith(_PHOTOS):
            raise InvalidEntryError("the photo must be a JPEG, PNG or WebP")
    old = get_job(edit.connection, number)
    if old.closed_at is not None:
        if (old.closed_by, old.note) == (edit.by, note):
            return
        raise InvalidEntryError(f"job {number} was closed already, by {old.closed_by!r}")
    edit.connection.execute(
        update(JobRow)
        .where(JobRow.id == number)
        .values(closed_at=closed_at, closed_by=edit.by, note=note, has_photo=photo is not None)
    )
    if photo is not None:
        edit.connection.execute(insert(JobPhotoRow), [{"job": number, "photo": photo}])
    new = get_job(edit.connection, number)
    edit.note("closed", "job", str(number), old, new)


def get_job(connection: Connection, number: int, *, with_photo: bool = False) -> Job:
    """One job; raises if there is none of that number."""
    row = connection.execute(_query().where(JobRow.id == number)).one_or_none()
    if row is None:
        raise InvalidEntryError(f"there is no job {number}")
    job = _job(row)
    if with_photo:
        photo = connection.execute(select(JobPhotoRow.photo).where(JobPhotoRow.job == number)).scalar()
        job = msgspec.structs.replace(job, photo=photo)
    return job


def list_jobs(
    connection: Connection, *, only_open: bool, device: str | None, site: str | None, limit: int
) -> list[Job]:
    """Jobs without photos: open ones by due time, then those without, then the closed ones, the newest first."""
    query = _query()
    if only_open:
        query = query.where(JobRow.closed_at.is_(None))
    if device is not None:
        query = query.where(DeviceRow.id == device)
    if site is not None:
        query = query.where(SiteRow.id == site)
    query = query.order_by(
        JobRow.closed_at.is_not(None), JobRow.closed_at.desc(), JobRow.due_at.is_(None), JobRow.due_at, JobRow.id
    )
    return [_job(row) for row in connection.execute(query.limit(limit))]


def _query() -> content.Query:
    return (
        select(
            JobRow.id,
            DeviceRow.id.label("device"),
            SiteRow.id.label("site"),
            JobRow.kind,
            JobRow.text,
            JobRow.opened_at,
            JobRow.due_at,
            JobRow.closed_at,
            JobRow.closed_by,
            JobRow.note,
            JobRow.has_photo,
            JobRow.opened_by,
        )
        .join(SiteRow, SiteRow.dense_index == JobRow.site)
        .join(DeviceRow, DeviceRow.dense_index == JobRow.device, isouter=True)
    )


def _job(row: Any) -> Job:
    return Job(
        row[0], row.device or "", row.site, row.kind, row.text, row.opened_at, row.due_at, row.closed_at, row.closed_by,
        row.note, None, bool(row.has_photo), row.opened_by,
    )  # fmt: skip
