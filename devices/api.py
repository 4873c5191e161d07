"""The JSON API of the register: everything that the technician's page and the command line can do.

Errors are plain sentences in ``detail``: 404 there is none; 409 it is there already; 422 what was given can't be right;
503 the database or the broker does not answer. Changes go through the Registry, which the running pipeline follows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from devices import fleet as tell
from devices.bulk import export_devices, export_districts, import_devices, import_districts
from devices.credentials.errors import CredentialsError, UnusableNameError
from devices.entities import CalibrationEntry, DeviceDetails, DeviceState, District
from devices.errors import DevicesError, InvalidEntryError, RegistryUnavailableError
from devices.fleet import Fleet
from devices.orders import (
    AtOrder,
    CalibrationOrder,
    CloseOrder,
    DeviceChange,
    DistrictOrder,
    ImportOrder,
    JobOrder,
    MoveOrder,
    NoOrder,
    RegisterOrder,
    SiteFields,
    StateOrder,
    ThresholdsOrder,
    photo_bytes,
    time_ns,
)
from devices.registering import AlreadyThereError, InstalledElsewhereError, NoSuchError, register
from devices.watch import as_dict, judge
from devices.worklist import close, closed_dict, job_number, worklist
from telemetry.observations import rfc3339
from telemetry.properties import PROPERTIES
from web.access import Visitor, requires

Reader = Annotated[Visitor, requires("viewer")]
Technician = Annotated[Visitor, requires("technician")]
Latitude = Annotated[float | None, Query(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float | None, Query(ge=-180, le=180, allow_inf_nan=False)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Language = Annotated[Literal["id", "en"], Query(description="Of texts for people.")]
Words = Annotated[str, Query(max_length=200)]

_SAID = {
    404: {"description": "There is none."},
    409: {"description": "It is there already, or does not fit what is there."},
    422: {"description": "What was given can't be right; `detail` says what and why."},
    503: {"description": "The database or the broker does not answer now; try again later."},
}


def add_device_api(app: FastAPI, fleet: Fleet) -> None:
    """Hang the routes under ``/api`` into an application of ``web.app.create_app``."""
    app.include_router(device_routes(fleet))

    @app.exception_handler(DevicesError)
    async def refused(_: Request, error: DevicesError) -> JSONResponse:
        content: dict[str, Any] = {"detail": str(error)}
        if isinstance(error, InstalledElsewhereError):  # the page says it in its own language
            content |= {"code": "installed_elsewhere", "values": error.values}
        elif isinstance(error, CredentialsError):
            content |= {"code": "no_login"}
        return JSONResponse(content, status_code=status_of(error))


def status_of(error: DevicesError) -> int:
    """The status that says best what went wrong."""
    if isinstance(error, NoSuchError):
        return 404
    if isinstance(error, AlreadyThereError):
        return 409
    if isinstance(error, (InvalidEntryError, UnusableNameError)):
        return 422
    if isinstance(error, (RegistryUnavailableError, CredentialsError)):
        return 503
    return 409


def device_routes(fleet: Fleet) -> APIRouter:
    """All routes."""
    api = APIRouter(prefix="/api", responses={k: v for k, v in _SAID.items() if k in (422, 503)})
    _add_city(api, fleet)
    _add_devices(api, fleet)
    _add_credentials(api, fleet)
    _add_sites(api, fleet)
    _add_jobs(api, fleet)
    _add_bulk(api, fleet)
    return api


def who(visitor: Visitor) -> str:
    """The name beside a change."""
    return visitor.name or "technician"


# ------------------------------------------------------------------------------------------------------------- the city


def _add_city(api: APIRouter, fleet: Fleet) -> None:
    registry = fleet.registry

    @api.get("/fleet", summary="The city, the catalogue of models, and the observed properties", tags=["devices"])
    def the_fleet(_: Reader) -> Response:
        """`credentials`: how logins of devices are made here; null: not by Pantau."""
        return _json(tell.about_city(fleet))

    @api.get("/models", summary="Device models", tags=["devices"])
    def models(_: Reader) -> Response:
        """What a device of each model observes, and how often it sends."""
        return _json({"models": [tell.model_dict(m) for m in fleet.models.values()]})

    @api.get("/map", summary="What is drawn under the sites, as GeoJSON", tags=["sites"])
    def the_map(_: Reader) -> Response:
        """The base map of the configuration, else the borders of the districts."""
        return _json(tell.the_map(fleet))

    @api.get("/districts", summary="Districts", tags=["sites"])
    def districts(_: Reader) -> Response:
        """With their borders as GeoJSON text."""
        return _json({"districts": registry.districts()})

    @api.put("/districts/{code}", summary="Add or change a district", tags=["sites"])
    def put_district(code: str, order: DistrictOrder, visitor: Technician) -> Response:
        """`code`: the administrative code, such as 32.73.07."""
        entry = District(code, order.name, order.geojson)
        return _json({"version": registry.put_district(entry, by=who(visitor)), "district": entry})

    @api.get("/audit", summary="Every change of the register, newest first", tags=["audit"])
    def audit(
        _: Reader,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        subject: Annotated[str | None, Query(max_length=200)] = None,
        before: Annotated[int | None, Query(ge=0, le=2**31, description="`next` of the page before.")] = None,
        limit: Limit = 100,
    ) -> Response:
        """`before` and `after` of an entry are JSON texts; empty: it was not there, or is gone."""
        found = registry.audit(kind=_db(kind), subject=_db(subject), limit=limit, before=before)
        return _json(
            {
                "audit": [
                    {
                        "number": number,
                        "at": rfc3339(entry.at_ns),
                        "by": entry.by,
                        "action": entry.action,
                        "kind": entry.kind,
                        "subject": entry.subject,
                        "before": entry.before,
                        "after": entry.after,
                    }
                    for number, entry in found
                ],
                "next": found[-1][0] if len(found) == limit else None,
            }
        )


# -------------------------------------------------------------------------------------------------------------- devices


def _add_devices(api: APIRouter, fleet: Fleet) -> None:
    registry = fleet.registry

    @api.get("/devices", summary="Devices: found by words, or all of them page by page", tags=["devices"])
    def devices(
        _: Reader,
        q: Words = "",
        after: Annotated[str, Query(max_length=200, description="`next` of the page before; not with `q`.")] = "",
        limit: Limit = 50,
    ) -> Response:
        """`q`: parts of id, serial number, EUI, or the site's id or name; best first. Without it: all, by id."""
        found = registry.search(_db(q), limit) if q.strip() else registry.devices(after=_db(after), limit=limit)
        silent = fleet.silent_s()
        return _json(
            {
                "devices": [
                    tell.device_dict(f.device, silent) | {"site": None if f.site is None else tell.site_dict(f.site)}
                    for f in found
                ],
                "next": found[-1].device.id if len(found) == limit and not q.strip() else None,
            }
        )

    @api.post("/devices", summary="Register a device", status_code=201, responses=_said(404, 409), tags=["devices"])
    def register_device(order: RegisterOrder, visitor: Technician, language: Language = "id") -> Response:
        """Entry, place, datastreams and login in one go. The same again changes nothing (200, `already`).

        `credentials` are shown this once. `problems`: what did not work besides; the device is registered all the same.
        `live_since` is what `GET /api/devices/{id}/live` takes.
        """
        since = None if fleet.watch is None else rfc3339(fleet.watch.now())
        done = register(fleet, order, by=who(visitor))
        login = done.credentials
        content = tell.details_dict(done.details) | {
            "already": done.already,
            "replaced": order.replaces,
            "credentials": None
            if login is None
            else tell.credentials_dict(login, language, tell.first_property(done.details)),
            "problems": done.problems,
            "live_since": since,
        }
        return _json(content, 200 if done.already else 201)

    @api.get("/devices/{device}", summary="Everything about a device", responses=_said(404), tags=["devices"])
    def the_device(device: str, _: Reader) -> Response:
        """`has_login`: null where nobody can tell."""
        return _json(tell.details_dict(_device(fleet, device)) | {"has_login": fleet.has_login(device)})

    @api.patch("/devices/{device}", summary="Change a device's entry", responses=_said(404), tags=["devices"])
    def change_device(device: str, order: DeviceChange, visitor: Technician) -> Response:
        """What is left out stays."""
        found = _device(fleet, device).device
        changes: dict[str, Any] = {k: v for k, v in order.model_dump().items() if v is not None}
        if "state" in changes:
            changes["state"] = DeviceState(changes["state"])
        version = registry.put_device(msgspec.structs.replace(found, **changes), by=who(visitor))
        return _changed(fleet, device, version)

    @api.post("/devices/{device}/state", summary="What is expected of it", responses=_said(404), tags=["devices"])
    def set_state(device: str, order: StateOrder, visitor: Technician) -> Response:
        """Only an active device can be silent. `retired` takes it down now, and revokes its login."""
        _device(fleet, device)
        version = registry.set_state(device, DeviceState(order.state), by=who(visitor))
        return _changed(fleet, device, version, revoke=order.state == "retired")

    @api.post("/devices/{device}/move", summary="To another site", responses=_said(404), tags=["devices"])
    def move(device: str, order: MoveOrder, visitor: Technician) -> Response:
        """It observes the same there, in that site's datastreams."""
        _device(fleet, device)
        if registry.site(_db(order.site)) is None:
            raise NoSuchError(f"there is no site {order.site!r}")
        at = fleet.now() if order.at is None else time_ns(order.at)
        return _changed(fleet, device, registry.move(device, order.site, at, by=who(visitor)))

    @api.post("/devices/{device}/retire", summary="Take a device down for good", responses=_said(404), tags=["devices"])
    def retire(device: str, order: AtOrder, visitor: Technician) -> Response:
        """Its datastreams and their history stay; its login is revoked."""
        _device(fleet, device)
        at = fleet.now() if order.at is None else time_ns(order.at)
        return _changed(fleet, device, registry.retire(device, at, by=who(visitor)), revoke=True)

    @api.get("/devices/{device}/live", summary="Does it work?", responses=_said(404), tags=["devices"])
    def live(
        device: str,
        _: Reader,
        since: Annotated[str | None, Query(max_length=40, description="Since when somebody looks; RFC 3339.")] = None,
        language: Language = "en",
    ) -> Response:
        """Newest readings, and what is wrong in plain words. To be asked about once a second.

        `state`: waiting, receiving, trouble; unwatched: no pipeline runs here.
        """
        found = _device(fleet, device)
        if fleet.watch is None:
            return _json({"state": "unwatched", "readings": [], "findings": []})
        since_ns = None if since is None else _time("since", since)
        utc_offset_h = (registry.city() or ("", 0.0))[1]
        verdict = judge(
            fleet.watch,
            device,
            since=since_ns,
            utc_offset_h=utc_offset_h,
            silence_after_s=found.device.silence_after_s,
        )
        return _json(as_dict(fleet.watch, verdict, since_ns, language))

    @api.post(
        "/devices/{device}/calibrations", summary="Calibrate", status_code=201, responses=_said(404), tags=["devices"]
    )
    def calibrate(device: str, order: CalibrationOrder, visitor: Technician) -> Response:
        """From `valid_from` on, by time of observation, a value becomes value · scale + offset."""
        _device(fleet, device)
        if order.property not in PROPERTIES:
            raise InvalidEntryError(f"property {order.property!r} is not an observed property")
        at = fleet.now() if order.valid_from is None else time_ns(order.valid_from)
        entry = CalibrationEntry(device, order.property, order.scale, order.offset, at)
        return _changed(fleet, device, registry.put_calibration(entry, by=who(visitor)), status=201)


def _add_credentials(api: APIRouter, fleet: Fleet) -> None:
    @api.post("/devices/{device}/credentials", summary="A new login", responses=_said(404), tags=["credentials"])
    def make(device: str, order: NoOrder, visitor: Technician, language: Language = "id") -> Response:
        """The first one or, if it has one, a new password: the old one ends at once. Shown this once."""
        found = _device(fleet, device)
        if found.device.state == DeviceState.RETIRED:
            raise AlreadyThereError(f"device {device!r} is retired; it gets no login")
        if fleet.issuer is None:
            raise HTTPException(409, "Pantau makes no logins of devices here ([credentials] in the configuration)")
        since = None if fleet.watch is None else rfc3339(fleet.watch.now())
        login = fleet.issuer.create(device)
        return _json(
            {
                "credentials": tell.credentials_dict(login, language, tell.first_property(found)),
                "live_since": since,
            }
        )

    @api.post("/devices/{device}/credentials/revoke", summary="Cut it off", responses=_said(404), tags=["credentials"])
    def revoke(device: str, order: NoOrder, visitor: Technician) -> Response:
        """Its login ends, and the broker disconnects it within seconds. `revoked`: whether it had one."""
        _device(fleet, device)
        if fleet.issuer is None:
            raise HTTPException(409, "Pantau makes no logins of devices here ([credentials] in the configuration)")
        return _json({"revoked": fleet.issuer.revoke(device)})


# ---------------------------------------------------------------------------------------------------------------- sites


def _add_sites(api: APIRouter, fleet: Fleet) -> None:
    registry = fleet.registry

    @api.get("/sites", summary="Sites: near a position, or by words", tags=["sites"])
    def sites(
        _: Reader,
        latitude: Latitude = None,
        longitude: Longitude = None,
        q: Words = "",
        limit: Limit = 50,
    ) -> Response:
        """With `latitude` and `longitude`: the nearest first, with distance and devices. Else those that hold `q`."""
        if (latitude is None) != (longitude is None):
            raise HTTPException(422, "give latitude and longitude together")
        if latitude is None or longitude is None:
            return _json({"sites": [tell.site_dict(s) for s in registry.search_sites(_db(q), limit)]})
        near = registry.near(latitude, longitude, limit)
        entries = registry.entries([d for n in near for d in n.devices])
        silent = fleet.silent_s()
        return _json(
            {
                "sites": [
                    tell.site_dict(n.site)
                    | {
                        "distance_m": round(n.distance_m, 1),
                        "devices": [tell.device_dict(entries[d], silent) for d in n.devices if d in entries],
                    }
                    for n in near
                ]
            }
        )

    @api.get("/sites/{site}", summary="A site with its datastreams", responses=_said(404), tags=["sites"])
    def the_site(site: str, _: Reader) -> Response:
        """Datastreams stay when devices are swapped."""
        found = registry.site(_db(site))
        if found is None:
            raise NoSuchError(f"there is no site {site!r}")
        streams = [tell.datastream_dict(d) for d in registry.datastreams(site)]
        return _json({"site": tell.site_dict(found), "datastreams": streams})

    @api.put("/sites/{site}", summary="Add or change a site", tags=["sites"])
    def put_site(site: str, order: SiteFields, visitor: Technician) -> Response:
        """All fields as they shall be. A position with latitude and longitude swapped is refused."""
        entry = order.entry(site)
        return _json({"version": registry.put_site(entry, by=who(visitor)), "site": tell.site_dict(entry)})

    @api.get(
        "/datastreams/{datastream:path}/thresholds",
        summary="All versions of thresholds",
        responses=_said(404),
        tags=["sites"],
    )
    def thresholds(datastream: str, _: Reader) -> Response:
        """Oldest first; the last one is in force."""
        _datastream(datastream)
        return _json({"versions": [tell.version_dict(v) for v in registry.ladders(datastream)]})

    @api.put(
        "/datastreams/{datastream:path}/thresholds",
        summary="New thresholds",
        responses=_said(404),
        tags=["sites"],
    )
    def set_thresholds(datastream: str, order: ThresholdsOrder, visitor: Technician) -> Response:
        """A new version with its author and reason; in force in the running pipeline within two seconds."""
        _datastream(datastream)
        version = registry.set_ladder(datastream, order.ladder(), author=who(visitor), reason=order.reason)
        return _json({"version": version})

    def _datastream(name: str) -> None:
        if registry.datastream(_db(name)) is None:
            raise NoSuchError(f"there is no datastream {name!r}")


# ----------------------------------------------------------------------------------------------------------------- jobs


def _add_jobs(api: APIRouter, fleet: Fleet) -> None:
    registry = fleet.registry

    @api.get("/jobs", summary="What is silent, faulty or due", tags=["jobs"])
    def jobs(
        _: Reader,
        latitude: Latitude = None,
        longitude: Longitude = None,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        limit: Limit = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Open jobs, and what the pipeline finds by itself (`found`); the nearest first if a position is given."""
        if (latitude is None) != (longitude is None):
            raise HTTPException(422, "give latitude and longitude together")
        position = None if latitude is None or longitude is None else (latitude, longitude)
        found = worklist(fleet, position=position, kind=kind)
        more = offset + limit < len(found)
        return _json(
            {
                "jobs": found[offset : offset + limit],
                "total": len(found),
                "next": offset + limit if more else None,
            }
        )

    @api.get("/jobs/closed", summary="Jobs that are done, newest first", tags=["jobs"])
    def closed(_: Reader, device: Annotated[str | None, Query(max_length=200)] = None, limit: Limit = 100) -> Response:
        """With note, and where the photo is."""
        # The register lists open jobs before closed ones; of the open ones there may be many.
        found = registry.jobs(only_open=False, device=_db(device), limit=limit + 2000)
        return _json({"jobs": [closed_dict(j) for j in found if j.closed_at is not None][:limit]})

    @api.post("/jobs", summary="Open a job", status_code=201, tags=["jobs"])
    def open_job(order: JobOrder, visitor: Technician) -> Response:
        """At a device, or a site. An open job of the same kind there is given back instead of a second one."""
        due = None if order.due_at is None else time_ns(order.due_at)
        number = registry.open_job(
            kind=order.kind, text=order.text, by=who(visitor), device=order.device, site=order.site, due_at=due
        )
        return _json(closed_dict(registry.job(number)), 201)

    @api.post("/jobs/{job}/close", summary="A job is done", responses=_said(404), tags=["jobs"])
    def close_job(job: str, order: CloseOrder, visitor: Technician) -> Response:
        """`job`: its number, or `silent:<device>` or `faulty:<device>` of what the pipeline found."""
        done = close(fleet, _db(job), by=who(visitor), note=order.note, photo=photo_bytes(order.photo))
        return _json(closed_dict(done))

    @api.get("/jobs/{job}/photo", summary="The photo of a job", responses=_said(404), tags=["jobs"])
    def photo(job: str, _: Reader) -> Response:
        """JPEG, PNG or WebP."""
        found = registry.job(job_number(fleet, job)).photo
        if found is None:
            raise NoSuchError(f"job {job} has no photo")
        kind = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png"}.get(found[:2], "image/webp")
        return Response(found, media_type=kind, headers={"Content-Disposition": "inline"})


# ----------------------------------------------------------------------------------------------------------------- bulk


def _add_bulk(api: APIRouter, fleet: Fleet) -> None:
    @api.post("/import", summary="Import devices and sites, or districts", tags=["bulk"])
    def bulk_import(order: ImportOrder, visitor: Technician) -> Response:
        """All or nothing, and repeatable. 422 with `problems` by row and column if anything is wrong.

        A dry run (the default) tells what would change. Logins are not made: `pantau devices credentials create`.
        """
        if order.what == "districts":
            if order.format != "geojson":
                raise HTTPException(422, "districts are imported from GeoJSON, not from CSV")
            report = import_districts(fleet.registry, order.content, by=who(visitor), dry_run=order.dry_run)
        else:
            report = import_devices(fleet.registry, order.content, order.format, by=who(visitor), dry_run=order.dry_run)
        wrong = len(report.problems) + report.more_problems
        content = msgspec.to_builtins(report)
        del content["devices"]  # the caller has them
        if wrong:
            first = report.problems[0]
            place = f"row {first.row}" + (f", column {first.column}" if first.column else "")
            content["detail"] = f"nothing was imported: {wrong} problems; the first: {place}: {first.message}"
        return _json(content, 422 if wrong else 200)

    @api.get("/export", summary="Export devices and sites, or districts", tags=["bulk"])
    def bulk_export(
        _: Reader,
        form: Annotated[Literal["csv", "geojson"], Query(alias="format")] = "csv",
        what: Literal["devices", "districts"] = "devices",
    ) -> Response:
        """In the formats that can be imported again."""
        if what == "districts":
            form, text = "geojson", export_districts(fleet.registry)
        else:
            text = export_devices(fleet.registry, form)
        kind = "text/csv; charset=utf-8" if form == "csv" else "application/geo+json"
        headers = {"Content-Disposition": f'attachment; filename="{what}.{form}"'}
        return Response(text, media_type=kind, headers=headers)


# -------------------------------------------------------------------------------------------------------------- private


def _said(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: _SAID[code] for code in codes}


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def _device(fleet: Fleet, name: str) -> DeviceDetails:
    found = fleet.registry.device(_db(name))
    if found is None:
        raise NoSuchError(f"there is no device {name!r}")
    return found


def _changed(fleet: Fleet, device: str, version: int, *, status: int = 200, revoke: bool = False) -> Response:
    problems = []
    if revoke and fleet.issuer is not None:
        try:
            fleet.issuer.revoke(device)
        except CredentialsError as error:
            problems.append(f"the login of {device} could not be revoked: {error}")
    content = {"version": version, "problems": problems} | tell.details_dict(_device(fleet, device))
    return _json(content, status)


def _time(name: str, text: str) -> int:
    try:
        return time_ns(text)
    except ValueError as error:
        raise HTTPException(422, f"{name}: {error}") from None


def _db(text: Any) -> Any:
    """Text that a database can look for; what it can't keep is in no entry."""
    if isinstance(text, str):
        return text.replace("\x00", "�").encode("utf-8", "replace").decode()
    return text
