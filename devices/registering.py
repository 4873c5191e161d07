"""Registering a device in one go: entry, place, datastreams, login. A phone on a bad network may ask for it twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec

from devices.credentials import Credentials
from devices.credentials.errors import CredentialsError
from devices.entities import (
    CalibrationEntry,
    DeviceDetails,
    DeviceEntry,
    DeviceState,
    NewDatastream,
    SiteEntry,
)
from devices.errors import DevicesError, InvalidEntryError
from devices.fleet import Fleet
from devices.models import DeviceModel
from devices.orders import RegisterOrder, device_id, time_ns
from telemetry.observations import NS_PER_S

log = logging.getLogger(__name__)

BEFORE_S = 3600.0
"""A device is switched on before it is saved; at a place where nothing was measured yet, so much earlier counts. [s]"""


class AlreadyThereError(DevicesError, ValueError):
    """It does not fit what is there: such as a device that is registered elsewhere."""


class InstalledElsewhereError(AlreadyThereError):
    """Another device of this id, or this device at another site, is registered already."""

    def __init__(self, device: str, site: str) -> None:
        super().__init__(f"device {device!r} is registered already, at site {site!r}")
        self.values = {"device": device, "site": site}


class NoSuchError(DevicesError, LookupError):
    """There is no such device, site or job."""


@dataclass(frozen=True)
class Registered:
    """What came of it."""

    details: DeviceDetails
    already: bool
    """It was so before: nothing was changed."""
    credentials: Credentials | None
    problems: tuple[str, ...]
    """What did not work besides, such as the login at the broker; the device is registered all the same."""


def register(fleet: Fleet, order: RegisterOrder, *, by: str) -> Registered:
    """Do what the order says.

    Raises
    ------
    AlreadyThereError
        The id belongs to a device that is installed, and not just as the order says.
    NoSuchError
        Its site, model, or the device that it replaces is not there.
    InvalidEntryError
        What is given can't be right.
    """
    if sum(x is not None for x in (order.site, order.new_site, order.replaces)) > 1:
        raise InvalidEntryError("give one of site, new_site and replaces")
    name = order.id or device_id(order.serial or order.eui)
    if not name:
        raise InvalidEntryError("a device needs a serial number, an EUI or an id")
    registry = fleet.registry
    existing = registry.device(name)
    place = order.new_site.id if order.new_site is not None else order.site
    if existing is not None and existing.site is not None:
        if not _same(fleet, existing, order, place):
            raise InstalledElsewhereError(name, existing.site.name)
        return Registered(existing, True, None, ())
    model = _model(fleet, order, existing)
    if order.replaces is not None and not order.model:
        old = registry.device(order.replaces)
        model = None if old is None else fleet.models.get(old.device.model)
    entry = _entry(name, order, model, existing)
    at = _time(fleet, order)
    if order.replaces is not None:
        if registry.device(order.replaces) is None:
            raise NoSuchError(f"there is no device {order.replaces!r} to be replaced")
        registry.replace(order.replaces, entry, at, by=by, old_state=DeviceState(order.old_state))
    elif place is None:
        registry.put_device(entry, by=by)
    else:
        site: SiteEntry | str
        if order.new_site is not None:
            site = order.new_site.entry(order.new_site.id)
        else:
            site = place
            if registry.site(place) is None:
                raise NoSuchError(f"there is no site {place!r}")
        if order.at is None and not registry.datastreams(place):
            at -= round(BEFORE_S * NS_PER_S)
        registry.register(entry, site, by=by, at_ns=at, datastreams=_datastreams(order, model))
    if model is not None and order.height is not None:
        for p in model.properties:
            scale, offset = p.calibration(order.height)
            if (scale, offset) != (1.0, 0.0):
                registry.put_calibration(CalibrationEntry(name, p.property, scale, offset, at), by=by)
    problems: list[str] = []
    credentials = _login(fleet, name, order, problems)
    details = registry.device(name)
    assert details is not None
    return Registered(details, False, credentials, tuple(problems))


def _same(fleet: Fleet, existing: DeviceDetails, order: RegisterOrder, place: str | None) -> bool:
    """Whether the device already stands as the order says: an answer was lost, and the phone asks again."""
    assert existing.site is not None
    if (order.model and order.model != existing.device.model) or (
        order.serial and order.serial != existing.device.serial
    ):
        return False
    if order.replaces is None:
        return place == existing.site.id
    old = fleet.registry.installations(order.replaces)
    return bool(old) and old[-1].end_ns is not None and old[-1].site == existing.site.id


def _model(fleet: Fleet, order: RegisterOrder, existing: DeviceDetails | None) -> DeviceModel | None:
    wanted = order.model or ("" if existing is None else existing.device.model)
    found = fleet.models.get(wanted)
    if found is None and order.model and order.datastreams is None and order.replaces is None:
        raise NoSuchError(
            f"there is no model {order.model!r} in the catalogue; choose one, or say by datastreams what it observes"
        )
    return found


def _entry(name: str, order: RegisterOrder, model: DeviceModel | None, existing: DeviceDetails | None) -> DeviceEntry:
    entry = DeviceEntry(name) if existing is None else existing.device
    silence = order.silence_after_s
    if silence is None and existing is None and model is not None:
        silence = model.silence_after_s
    changes: dict[str, Any] = {
        "serial": order.serial or entry.serial,
        "eui": order.eui or entry.eui,
        "model": order.model or entry.model or ("" if model is None else model.id),
        "firmware": order.firmware or entry.firmware,
        "state": DeviceState(order.state),
        "silence_after_s": entry.silence_after_s if silence is None else silence,
        "alias": order.alias or entry.alias,
        "gateway": entry.gateway if order.gateway is None else order.gateway,
        "clock": order.clock or entry.clock,
        "interval_s": entry.interval_s if order.interval_s is None else order.interval_s,
    }
    return msgspec.structs.replace(entry, **changes)


def _time(fleet: Fleet, order: RegisterOrder) -> int:
    """When it was installed; never later than now, whatever the phone's clock says."""
    now = fleet.now()
    return now if order.at is None else min(now, time_ns(order.at))


def _datastreams(order: RegisterOrder, model: DeviceModel | None) -> list[NewDatastream] | None:
    if order.datastreams is not None:
        return [d.entry() for d in order.datastreams]
    if model is None:
        return None
    return model.datastreams(order.height)


def _login(fleet: Fleet, name: str, order: RegisterOrder, problems: list[str]) -> Credentials | None:
    if fleet.issuer is None:
        return None
    if order.replaces is not None and order.old_state == "retired":
        try:
            fleet.issuer.revoke(order.replaces)
        except CredentialsError as error:
            problems.append(f"the login of {order.replaces} could not be revoked: {error}")
    if not order.credentials:
        return None
    try:
        return fleet.issuer.create(name)
    except CredentialsError as error:
        log.warning("no login for device %s: %s", name, error)
        problems.append(f"the device is registered, but its login could not be made: {error}")
        return None
