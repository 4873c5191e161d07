"""``pantau devices …``: the register from the command line; all that the technician's page can do.

It works on the register itself, so also while no pipeline runs; a running one follows within two seconds. What only a
running pipeline knows (which device is silent, whether a new one works) is asked from its page.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import getpass
import io
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantau.startup import StartupError

if TYPE_CHECKING:
    from devices.credentials import Credentials
    from devices.fleet import Fleet
    from pantau.settings import Settings

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str, str], argparse.ArgumentParser]
Option = Callable[[argparse.ArgumentParser], None]
Told = tuple[dict[str, Any], str]

TOKEN_VARIABLE = "PANTAU_TOKEN"
"""Environment variable that holds an API token, where the pages want a login."""
CLOCKS = ("utc", "local", "none")
LOGIN_FIELDS = ("device", "username", "password", "host", "port", "tls", "topic", "client_id")
LOGINS_AT_ONCE = 200
STATES = ("planned", "active", "maintenance", "retired")
WATCH_S = 1.0
EXAMPLES = """pantau devices register --serial AWLR-0231 --model generic-river-level --site dago
  pantau devices register --serial R-7 --model generic-rain-gauge --new-site Pasteur --position=-6.8935,107.588
  pantau devices replace AWLR-0231 --serial AWLR-0317
  pantau devices list pasteur
  pantau devices import devices.csv --dry-run"""


def add_devices_command(add: Add, config: Option, as_json: Option) -> None:
    """Add the command and its actions to the parser of the command line."""
    sub = add("devices", run_devices, "the register: devices, sites, jobs, logins, import and export", EXAMPLES)
    actions = sub.add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")

    def action(name: str, text: str, within: Any = actions) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = within.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        config(parser)
        as_json(parser)
        return parser

    def what(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--serial", default="", help="serial number")
        parser.add_argument("--eui", default="", help="LoRaWAN's DevEUI")
        parser.add_argument("--id", default="", help="becomes part of its topic (default: the serial number or EUI)")
        parser.add_argument("--model", default="", help="of the catalogue (pantau devices models)")
        parser.add_argument("--firmware", default="")
        parser.add_argument("--alias", default="", help="what messages call it besides: a URN, SenML or Sparkplug name")
        parser.add_argument(
            "--gateway", action=argparse.BooleanOptionalAction, help="its messages may speak for other devices"
        )
        parser.add_argument(
            "--clock", choices=CLOCKS, help="its times: right (utc); local time sent as UTC (local); not used (none)"
        )
        parser.add_argument("--interval", dest="interval_s", type=float, help="how often it sends [s]")
        parser.add_argument("--height", type=float, help="of a sensor that looks down, above the gauge's zero [m]")
        parser.add_argument("--at", help="since when it is there, RFC 3339 (default: now)")
        parser.add_argument("--no-login", action="store_true", help="make no login at the broker")

    found = action("list", "list devices, or find them by words")
    found.add_argument("words", nargs="*", help="parts of id, serial number, EUI, or the site's name")
    found.add_argument("--limit", type=int, default=100, help="at most so many (default 100)")
    action("show", "show everything about a device").add_argument("device")
    action("models", "list the models of the catalogue")
    register = action("register", "register a device, with its place, datastreams and login")
    what(register)
    place = register.add_mutually_exclusive_group()
    place.add_argument("--site", help="id of a known site")
    place.add_argument("--new-site", metavar="NAME", help="name of a new site; needs --position")
    register.add_argument("--position", metavar="LAT,LON", help="of the new site, in degrees: --position=-6.88,107.61")
    register.add_argument("--site-id", default="", help="id of the new site (default: made from its name)")
    replace = action("replace", "put a device in the place of another; the history goes on")
    replace.add_argument("old", help="id of the device that is replaced")
    what(replace)
    replace.add_argument("--keep-old", action="store_true", help="the old one goes to maintenance, not into retirement")
    move = action("move", "take a device to another site")
    move.add_argument("device")
    move.add_argument("site")
    move.add_argument("--at", help="when, RFC 3339 (default: now)")
    retire = action("retire", "take a device down for good; its history stays")
    retire.add_argument("device")
    retire.add_argument("--at", help="when, RFC 3339 (default: now)")
    change = action("change", "change what is written of a device; what is not named stays")
    change.add_argument("device")
    for key in ("serial", "eui", "model", "firmware", "alias"):
        change.add_argument(f"--{key}")
    change.add_argument("--gateway", action=argparse.BooleanOptionalAction, help="its messages may speak for others")
    change.add_argument("--clock", choices=CLOCKS, help="what its times mean, see register")
    change.add_argument("--interval", dest="interval_s", type=float, help="how often it sends [s]")
    change.add_argument("--silence-after", dest="silence_after_s", type=float, help="seconds until it counts as silent")
    state = action("state", "say what is expected of a device")
    state.add_argument("device")
    state.add_argument("state", choices=STATES)
    calibrate = action("calibrate", "from a time on, value = value * scale + offset")
    calibrate.add_argument("device")
    calibrate.add_argument("property")
    calibrate.add_argument("--scale", type=float, default=1.0)
    calibrate.add_argument("--offset", type=float, default=0.0, help="in the property's unit")
    calibrate.add_argument("--from", dest="at", help="by time of observation, RFC 3339 (default: now)")
    watch = action("watch", "does it work? asks the running pipeline until the first reading, or what is wrong")
    watch.add_argument("device")
    watch.add_argument("--timeout", type=float, default=60.0, help="seconds (default 60)")
    bring = action("import", "import devices and sites (CSV, GeoJSON) or districts (GeoJSON), all or nothing")
    bring.add_argument("file", type=Path)
    bring.add_argument("--districts", action="store_true", help="the file holds districts")
    bring.add_argument(
        "--dry-run", action="store_true", help="tell what would change and what is wrong; change nothing"
    )
    bring.add_argument(
        "--logins", type=Path, metavar="FILE", help="make logins for imported devices that have none, into this CSV"
    )
    take = action("export", "export devices and sites, or districts, in the formats of import")
    take.add_argument("file", type=Path, nargs="?", help="*.csv or *.geojson (default: CSV to standard output)")
    take.add_argument("--districts", action="store_true")
    jobs = action("jobs", "list what is silent, faulty or due")
    jobs.add_argument("--near", metavar="LAT,LON", help="the nearest first: --near=-6.88,107.61")
    opened = action("open-job", "write down something to be done")
    opened.add_argument("device")
    opened.add_argument("kind", help="such as inspection, calibration")
    opened.add_argument("--text", default="")
    opened.add_argument("--due", help="RFC 3339")
    closed = action("close-job", "a job is done")
    closed.add_argument("job", help="its number, or silent:<device>, faulty:<device>")
    closed.add_argument("--note", required=True, help="what was done")
    closed.add_argument("--photo", type=Path, help="a JPEG, PNG or WebP")
    audit = action("audit", "list changes, the newest first")
    audit.add_argument("--subject", help="only those of this device, site, …")
    audit.add_argument("--limit", type=int, default=20)
    logins = actions.add_parser("credentials", help="logins of devices at the broker")
    parts = logins.add_subparsers(title="actions", required=True, metavar="ACTION", dest="part")
    create = action("create", "make logins; passwords are shown this once", parts)
    create.add_argument("devices", nargs="*", metavar="device")
    create.add_argument("--missing", action="store_true", help="for every installed device that has none, as CSV")
    create.add_argument("--file", type=Path, help="write the CSV there, readable for you alone, as they are made")
    action("rotate", "a new password; the old one ends at once", parts).add_argument("device")
    action("revoke", "cut a device off", parts).add_argument("device")
    action("list", "list the devices that have a login", parts)
    action("check", "can logins be made now?", parts)


def run_devices(chosen: argparse.Namespace) -> int:
    """Do one action; returns the exit code. Raises what ``pantau.startup.EXPECTED`` lists."""
    from pantau.settings import load

    settings = load(chosen.config)
    name = chosen.action if chosen.action != "credentials" else f"credentials {chosen.part}"
    with _fleet(settings) as fleet:
        told, text = _ACTIONS[name](fleet, settings, chosen)
    code = told.pop("exit_code", 0)
    print(json.dumps(told, indent=2, ensure_ascii=False) if chosen.json else text)
    return int(code)


@contextlib.contextmanager
def _fleet(settings: Settings) -> Iterator[Fleet]:
    from devices.fleet import Fleet
    from devices.registry import Registry
    from pantau.logins import issuer_of

    settings.data.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(Registry(settings.data.registry)) as registry:
        if registry.city() is None:
            registry.put_city(settings.city.name, settings.city.utc_offset_h, by="setup")
        yield Fleet(registry, issuer_of(settings))


def _by() -> str:
    return f"console:{getpass.getuser()}"[:64]


# -------------------------------------------------------------------------------------------------------------- devices


def _list(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.fleet import device_dict

    limit = max(1, chosen.limit)
    words = " ".join(chosen.words)
    found = fleet.registry.search(words, limit) if words.strip() else fleet.registry.devices(limit=limit)
    rows = [device_dict(f.device) | {"site": None if f.site is None else f.site.id} for f in found]
    lines = [
        f"{f.device.id:<24} {f.device.state:<12} {(f.site.name if f.site else '-'):<28} {f.device.model}" for f in found
    ]
    return {"devices": rows}, "\n".join(lines) or "no device"


def _details(fleet: Fleet, name: str) -> Any:
    found = fleet.registry.device(name)
    if found is None:
        raise StartupError(f"there is no device {name!r} (pantau devices list)")
    return found


def _show(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.fleet import details_dict

    told = details_dict(_details(fleet, chosen.device)) | {"has_login": fleet.has_login(chosen.device)}
    device, site = told["device"], told["site"]
    lines = [f"{key + ':':<18}{value}" for key, value in device.items() if value != ""]
    where = "nowhere" if site is None else f"{site['name']} ({site['latitude']}, {site['longitude']})"
    lines += [f"{'site:':<18}{where}"]
    lines += [f"{'observes:':<18}{d['property']} ({d['id']})" for d in told["datastreams"]]
    lines += [f"{'installed:':<18}{i['site']} {i['start']} to {i['end'] or 'now'}" for i in told["installations"]]
    lines += [
        f"{'calibrated:':<18}{c['property']} × {c['scale']:g} + {c['offset']:g} from {c['valid_from']}"
        for c in told["calibrations"]
    ]
    if told["has_login"] is not None:
        lines.append(f"{'login:':<18}{'yes' if told['has_login'] else 'no'}")
    return told, "\n".join(lines)


def _models(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.fleet import model_dict

    rows = [model_dict(m) for m in fleet.models.values()]
    return {"models": rows}, "\n".join(f"{r['id']:<26} {(r['vendor'] + ' ' + r['name']).strip()}" for r in rows)


def _register(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.orders import device_id

    order: dict[str, Any] = {}
    if chosen.site is not None:
        order["site"] = chosen.site
    elif chosen.new_site is not None:
        if chosen.position is None:
            raise StartupError("--new-site needs --position, such as --position=-6.88,107.61")
        latitude, longitude = _position(chosen.position)
        name = chosen.site_id or device_id(chosen.new_site).lower()
        order["new_site"] = {"id": name, "name": chosen.new_site, "latitude": latitude, "longitude": longitude}
    return _registered(fleet, chosen, order)


def _replace(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    _details(fleet, chosen.old)
    state = "maintenance" if chosen.keep_old else "retired"
    return _registered(fleet, chosen, {"replaces": chosen.old, "old_state": state})


def _registered(fleet: Fleet, chosen: argparse.Namespace, order: dict[str, Any]) -> Told:
    from pydantic import ValidationError

    from devices.fleet import details_dict
    from devices.orders import RegisterOrder
    from devices.registering import register

    names = ("id", "serial", "eui", "model", "firmware", "height", "at", "alias", "gateway", "clock", "interval_s")
    for key in names:
        order[key] = getattr(chosen, key)
    try:
        whole = RegisterOrder(**order, credentials=not chosen.no_login)
    except ValidationError as error:
        raise StartupError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from None
    done = register(fleet, whole, by=_by())
    for problem in done.problems:
        print(f"pantau: {problem}", file=sys.stderr)
    device, site = done.details.device.id, done.details.site
    told = details_dict(done.details) | {"already": done.already, "problems": list(done.problems)}
    what = "is registered already" if done.already else "is registered"
    text = f"{device} {what}" + (f" at {site.name}" if site else "")
    if done.credentials is not None:
        told["credentials"] = _login_dict(done.credentials)
        text += "\n\n" + _login_text(done.credentials)
    return told | {"exit_code": 1 if done.problems else 0}, text


def _move(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    _details(fleet, chosen.device)
    version = fleet.registry.move(chosen.device, chosen.site, _time(chosen.at), by=_by())
    return {"version": version}, f"{chosen.device} is at {chosen.site} now"


def _retire(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    _details(fleet, chosen.device)
    version = fleet.registry.retire(chosen.device, _time(chosen.at), by=_by())
    revoked = fleet.issuer is not None and fleet.issuer.revoke(chosen.device)
    text = f"{chosen.device} is retired" + ("; its login is revoked" if revoked else "")
    return {"version": version, "revoked": revoked}, text


def _change(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    import msgspec

    from devices.fleet import device_dict

    keys = ("serial", "eui", "model", "firmware", "alias", "gateway", "clock", "interval_s", "silence_after_s")
    entry = _details(fleet, chosen.device).device
    changes = {key: getattr(chosen, key) for key in keys if getattr(chosen, key) is not None}
    entry = msgspec.structs.replace(entry, **changes)
    version = fleet.registry.put_device(entry, by=_by())
    return device_dict(entry) | {"version": version}, f"{chosen.device} is changed"


def _state(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.entities import DeviceState

    _details(fleet, chosen.device)
    version = fleet.registry.set_state(chosen.device, DeviceState(chosen.state), by=_by())
    if chosen.state == "retired" and fleet.issuer is not None:
        fleet.issuer.revoke(chosen.device)
    return {"version": version, "state": chosen.state}, f"{chosen.device} is {chosen.state} now"


def _calibrate(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.entities import CalibrationEntry
    from devices.fleet import calibration_dict

    _details(fleet, chosen.device)
    at = _time(chosen.at) or time.time_ns()
    entry = CalibrationEntry(chosen.device, chosen.property, chosen.scale, chosen.offset, at)
    version = fleet.registry.put_calibration(entry, by=_by())
    told = calibration_dict(entry) | {"version": version}
    return told, f"{chosen.device} {chosen.property}: × {chosen.scale:g} + {chosen.offset:g} from {told['valid_from']}"


def _watch(fleet: Fleet, settings: Settings, chosen: argparse.Namespace) -> Told:
    _details(fleet, chosen.device)
    path = f"/api/devices/{urllib.parse.quote(chosen.device, safe='')}/live"
    now = _ask(settings, "/api/fleet")["now"]
    until = time.monotonic() + chosen.timeout
    live: dict[str, Any] = {}
    while True:
        live = _ask(settings, f"{path}?since={urllib.parse.quote(now)}")
        if live["state"] != "waiting" or time.monotonic() >= until:
            break
        time.sleep(WATCH_S)
    lines = [f"{r['property']} {r['value']:g} {r['unit']}, quality {r['quality']}" for r in live["readings"]]
    lines += [f["text"] for f in live["findings"]]
    text = "\n".join([{"waiting": "no message came"}.get(live["state"], live["state"]), *lines])
    return live | {"exit_code": 0 if live["state"] == "receiving" else 1}, text


# ----------------------------------------------------------------------------------------------------------------- bulk


def _import(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    import msgspec

    from devices.bulk import import_devices, import_districts

    try:
        text = chosen.file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StartupError(f"{chosen.file} is not UTF-8 text: {error}") from error
    if chosen.logins is not None:
        known = _issuer(fleet).known()
        if chosen.logins.exists():
            raise StartupError(f"{chosen.logins} is there already: logins are written into a new file")
    if chosen.districts:
        report = import_districts(fleet.registry, text, by=_by(), dry_run=chosen.dry_run)
    else:
        is_csv = chosen.file.suffix.lower() == ".csv"
        report = import_devices(fleet.registry, text, "csv" if is_csv else "geojson", by=_by(), dry_run=chosen.dry_run)
    told = msgspec.to_builtins(report)
    told.pop("devices")
    wrong = len(report.problems) + report.more_problems
    if wrong:
        lines = [
            f"row {p.row}{f', column {p.column}' if p.column else ''}: {p.message}" if p.row else p.message
            for p in report.problems
        ]
        lines += [f"… and {report.more_problems} more"] if report.more_problems else []
        return told | {"exit_code": 1}, "\n".join([*lines, f"nothing was imported: {wrong} problems"])
    changes = ", ".join(f"{n} {what}" for what, n in sorted(report.changes.items())) or "nothing new"
    if chosen.logins is not None and not chosen.districts and not chosen.dry_run:
        made = _logins_into(chosen.logins, fleet, [name for name in report.devices if name not in known])
        told["logins"] = made
        changes += f"; {made} logins in {chosen.logins}"
    return told, f"{report.rows} rows: {'would change: ' if chosen.dry_run else ''}{changes}"


def _export(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.bulk import export_devices, export_districts

    name = "" if chosen.file is None else chosen.file.suffix.lower()
    if chosen.districts:
        text = export_districts(fleet.registry)
    else:
        text = export_devices(fleet.registry, "geojson" if name in (".geojson", ".json") else "csv")
    if chosen.file is None:
        return {"content": text}, text.rstrip("\n")
    chosen.file.write_text(text, encoding="utf-8")
    return {"file": str(chosen.file)}, f"written: {chosen.file}"


# ----------------------------------------------------------------------------------------------------------------- jobs


def _jobs(fleet: Fleet, settings: Settings, chosen: argparse.Namespace) -> Told:
    from devices.worklist import worklist

    position = None if chosen.near is None else _position(chosen.near)
    query = "" if position is None else f"&latitude={position[0]}&longitude={position[1]}"
    try:
        found = _ask(settings, f"/api/jobs?limit=1000{query}")["jobs"]
        note = ""
    except StartupError as error:
        found = worklist(fleet, position=position)
        note = f"pantau: only jobs that were written down; what is silent or faulty is not known: {error}"
    if note:
        print(note, file=sys.stderr)
    lines = [
        f"{j['id']:<28} {j['kind']:<12} {(j['site'] or {}).get('name', '-'):<26} "
        f"{'' if j['due_at'] is None else 'due ' + j['due_at']} {j['text']}".rstrip()
        for j in found
    ]
    return {"jobs": found}, "\n".join(lines) or "no jobs"


def _open_job(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.worklist import closed_dict

    number = fleet.registry.open_job(
        kind=chosen.kind, text=chosen.text, by=_by(), device=chosen.device, due_at=_time(chosen.due)
    )
    return closed_dict(fleet.registry.job(number)), f"job {number}"


def _close_job(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from devices.worklist import close, closed_dict

    photo = None if chosen.photo is None else chosen.photo.read_bytes()
    done = close(fleet, chosen.job, by=_by(), note=chosen.note, photo=photo)
    return closed_dict(done), f"job {done.id} is closed"


def _audit(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    from telemetry.observations import rfc3339

    rows = [
        {"number": n, "at": rfc3339(e.at_ns), "by": e.by, "action": e.action, "kind": e.kind, "subject": e.subject}
        | {"before": e.before, "after": e.after}
        for n, e in fleet.registry.audit(subject=chosen.subject, limit=max(1, chosen.limit))
    ]
    lines = [f"{r['at']} {r['by']:<20} {r['action']:<10} {r['kind']:<14} {r['subject']}" for r in rows]
    return {"audit": rows}, "\n".join(lines) or "nothing was changed yet"


# --------------------------------------------------------------------------------------------------------------- logins


def _issuer(fleet: Fleet) -> Any:
    if fleet.issuer is None:
        raise StartupError(
            'Pantau makes no logins of devices: set kind in the section "credentials" of the configuration'
        )
    return fleet.issuer


def _create(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    issuer = _issuer(fleet)
    names = list(chosen.devices)
    if chosen.missing:
        known = issuer.known()
        names += [name for name in _installed(fleet) if name not in known]
    elif not names:
        raise StartupError("name devices, or give --missing")
    for name in chosen.devices:
        _details(fleet, name)
    if chosen.file is not None:
        n = _logins_into(chosen.file, fleet, names)
        return {"logins": n, "file": str(chosen.file)}, f"{n} logins in {chosen.file}"
    made = issuer.create_many(names)
    out = io.StringIO()
    fields = LOGIN_FIELDS
    if chosen.missing:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows([getattr(c, f) for f in fields] for c in made)
    else:
        out.write("\n".join(_login_text(c) for c in made))
    return {"credentials": [_login_dict(c) for c in made]}, out.getvalue().rstrip("\n")


def _logins_into(path: Path, fleet: Fleet, names: list[str]) -> int:
    """Make logins and write them into a new CSV that only its owner reads, so that none is lost if it breaks off."""
    issuer = _issuer(fleet)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise StartupError(f"{path} is there already: logins are written into a new file") from None
    done = 0
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LOGIN_FIELDS)
        for first in range(0, len(names), LOGINS_AT_ONCE):
            made = issuer.create_many(names[first : first + LOGINS_AT_ONCE])
            writer.writerows([getattr(c, f) for f in LOGIN_FIELDS] for c in made)
            file.flush()
            os.fsync(file.fileno())
            done += len(made)
    return done


def _rotate(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    _details(fleet, chosen.device)
    made = _issuer(fleet).rotate(chosen.device)
    return {"credentials": _login_dict(made)}, _login_text(made)


def _revoke(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    revoked = _issuer(fleet).revoke(chosen.device)
    return {"revoked": revoked}, f"{chosen.device} {'is cut off' if revoked else 'had no login'}"


def _known(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    names = sorted(_issuer(fleet).known())
    return {"devices": names}, "\n".join(names) or "no device has a login"


def _check(fleet: Fleet, _: Settings, chosen: argparse.Namespace) -> Told:
    issuer = _issuer(fleet)
    problem = issuer.check()
    text = problem or " ".join([f"logins can be made ({issuer.kind})", issuer.note("en")]).strip()
    return {"kind": issuer.kind, "problem": problem, "exit_code": 1 if problem else 0}, text


def _installed(fleet: Fleet) -> Iterator[str]:
    after = ""
    while page := fleet.registry.devices(after=after, limit=1000):
        yield from (f.device.id for f in page if f.site is not None and f.device.state != "retired")
        after = page[-1].device.id


def _login_dict(c: Credentials) -> dict[str, Any]:
    names = ("device", "username", "password", "host", "port", "tls", "topic", "client_id", "ca_pem")
    return {n: getattr(c, n) for n in (*names, "certificate_pem", "key_pem")}


def _login_text(c: Credentials) -> str:
    from devices.credentials.show import qr_terminal, text

    shown = text(c, "en")
    return shown + (qr_terminal(c) if sys.stdout.isatty() else "")


# -------------------------------------------------------------------------------------------------------------- private


def _time(text: str | None) -> int | None:
    from devices.orders import time_ns

    try:
        return None if text is None else time_ns(text)
    except ValueError as error:
        raise StartupError(str(error)) from None


def _position(text: str) -> tuple[float, float]:
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        raise StartupError(
            f"a position must be latitude,longitude in degrees, such as -6.88,107.61; got {text!r}"
        ) from None
    return latitude, longitude


def _ask(settings: Settings, path: str) -> Any:
    """The running pipeline's page. Raises StartupError."""
    url = settings.page.url
    token = os.environ.get(TOKEN_VARIABLE, "")
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10, context=settings.page.tls_context()) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise StartupError(
                f"{url} lets only accounts in: set {TOKEN_VARIABLE} to a token that may read "
                "(pantau accounts create-token)"
            ) from error
        raise StartupError(f"{url}{path} answers {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise StartupError(f"no pipeline answers at {url}: {error}") from error


_ACTIONS: dict[str, Callable[[Fleet, Settings, argparse.Namespace], Told]] = {
    "list": _list,
    "show": _show,
    "models": _models,
    "register": _register,
    "replace": _replace,
    "move": _move,
    "retire": _retire,
    "state": _state,
    "change": _change,
    "calibrate": _calibrate,
    "watch": _watch,
    "import": _import,
    "export": _export,
    "jobs": _jobs,
    "open-job": _open_job,
    "close-job": _close_job,
    "audit": _audit,
    "credentials create": _create,
    "credentials rotate": _rotate,
    "credentials revoke": _revoke,
    "credentials list": _known,
    "credentials check": _check,
}
