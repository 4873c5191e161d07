"""What makes a Directory out of an earlier one: only the entries that are new or other.

A city registers devices all the time, and a Directory of a hundred thousand takes seconds to be read and checked. A
change of a few of them is put into a copy of the arrays instead, which takes a moment, and is small in the journal.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from telemetry.directory import (
    CLOCKS,
    Calibration,
    Datastream,
    Device,
    Directory,
    Installation,
    Payload,
    Site,
    all_names,
)
from telemetry.installations import OverlapError, build

Entry = TypeVar("Entry", Site, Device, Datastream)

_OF_DATASTREAM = (
    *("latitude", "longitude", "fail_min", "fail_max", "suspect_min", "suspect_max", "rate_max_per_s"),
    *("flat_tolerance", "flat_suspect_s", "flat_fail_s", "direction", "threshold", "severity", "deadband"),
    *("on_delay_ns", "off_delay_ns", "gate", "property_of"),
)
"""Arrays of the Directory over the datastream index, but for those of sites and installations."""


class DirectoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """New and changed entries, each with its index. Entries never vanish, and keep their ids."""

    base: int
    """Version of the Directory that it changes."""
    version: int
    """Version that comes of it."""
    sites: tuple[tuple[int, Site], ...] = ()
    devices: tuple[tuple[int, Device], ...] = ()
    datastreams: tuple[tuple[int, Datastream], ...] = ()
    installations: tuple[Installation, ...] = ()
    """All installations of ``datastreams``: of these, those of before are no longer."""
    calibrations: tuple[Calibration, ...] = ()
    """All calibrations of ``datastreams``, likewise."""
    payloads: tuple[Payload, ...] = ()
    """All of the new Directory."""

    def to_bytes(self) -> bytes:
        """As JSON; ``from_bytes`` gives an equal one."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> DirectoryChange:
        """The change that ``to_bytes`` wrote. Raises msgspec.DecodeError."""
        return msgspec.json.decode(data, type=DirectoryChange)

    def applied(self, old: Directory) -> Directory:
        """The new Directory: equal to one made of all entries, but for the order of installations and calibrations.

        Raises
        ------
        ValueError
            ``old`` is not the version that this changes, or what comes of it cannot be right.
        """
        if old.version != self.base:
            raise ValueError(f"this change is of directory version {self.base}, got version {old.version}")
        new = copy.copy(old)
        put = _Put(new)
        put.version = self.version
        put.sites = _changed(old.sites, self.sites, "site")
        put.devices = _changed(old.devices, self.devices, "device")
        put.datastreams = _changed(old.datastreams, self.datastreams, "datastream")
        put.payloads = self.payloads
        _new_ids(old.device_index, self.devices, len(old.devices), put)
        part = self._part(old, new)
        streams = np.array([i for i, _ in self.datastreams], dtype=np.intp)
        size = len(new.datastreams)
        site_of = _grown(old.site_of, size)
        if self.datastreams:
            site_index = {s.id: i for i, s in enumerate(new.sites)}
            site_of[streams] = [site_index[d.site] for _, d in self.datastreams]
        put.site_of = _fixed(site_of)
        for name in _OF_DATASTREAM:
            array = _grown(getattr(old, name), size)
            array[streams] = getattr(part, name)[: streams.size]
            setattr(put, name, array)
        for i, site in self.sites:
            here = site_of == i
            put.latitude[here], put.longitude[here] = site.latitude, site.longitude
        for name in _OF_DATASTREAM:
            _fixed(getattr(put, name))
        self._put_devices(old, new, put)
        self._put_installed(old, new, part, streams, put)
        return new

    def _part(self, old: Directory, new: Directory) -> Directory:
        """A Directory of the changed datastreams and of what they name: it checks, and has their rows of arrays."""
        devices = {d.id: d for _, d in self.devices}
        for name in {d.device for _, d in self.datastreams} | {x.device for x in self.installations}:
            if name and name not in devices and name in new.device_index:
                devices[name] = new.devices[new.device_index[name]]
        sites = {s.id: s for _, s in self.sites}
        missing = ({d.site for _, d in self.datastreams} | {d.site for d in devices.values() if d.site}) - sites.keys()
        if missing:
            sites |= {s.id: s for s in old.sites if s.id in missing}
        return Directory(
            self.version,
            new.city,
            new.utc_offset_h,
            tuple(sites.values()),
            tuple(devices.values()),
            tuple(d for _, d in self.datastreams),
            self.installations,
            self.calibrations,
        )

    def _put_devices(self, old: Directory, new: Directory, put: _Put) -> None:
        which = [i for i, _ in self.devices]
        silence = _grown(old.silence_after_ns, len(new.devices))
        silence[which] = [round(d.silence_after_s * 1e9) for _, d in self.devices]
        put.silence_after_ns = _fixed(silence)
        before = {i: old.devices[i] for i in which if i < len(old.devices)}
        if old.clock_rule is not None or any(d.clock != CLOCKS[0] for _, d in self.devices):
            none = np.zeros(len(old.devices), dtype=np.uint8)
            rule = _grown(none if old.clock_rule is None else old.clock_rule, len(new.devices))
            rule[which] = [CLOCKS.index(d.clock) for _, d in self.devices]
            put.clock_rule = _fixed(rule) if rule.any() else None
        if any(d.gateway for d in before.values()) or any(d.gateway for _, d in self.devices):
            gateways = old.gateways - {d.id for d in before.values()}
            put.gateways = gateways | {d.id for _, d in self.devices if d.gateway}
        payload_of = dict(old.payload_of)
        of_model = {p.model: p for p in self.payloads}
        if of_model.keys() - {p.model for p in old.payloads} or old.payloads != self.payloads:
            payload_of = {d.id: of_model[d.model] for d in new.devices if d.model in of_model}
        for _, device in self.devices:
            payload_of.pop(device.id, None)
            if device.model in of_model:
                payload_of[device.id] = of_model[device.model]
        put.payload_of = payload_of
        changed = [d for i, d in self.devices if i not in before or before[i].names != d.names]
        added = {d.id for i, d in self.devices if i not in before}
        lost = any(i in before and before[i].names and before[i].names != d.names for i, d in self.devices)
        if lost or added & old.named.keys():
            put.named, put.shared_names = all_names(new.devices, new.device_index)
        elif changed:
            put.named, put.shared_names = _more_names(old, changed, new.device_index)

    def _put_installed(
        self, old: Directory, new: Directory, part: Directory, streams: npt.NDArray[np.intp], put: _Put
    ) -> None:
        """Installations, and what follows from them."""
        ids = {d.id for _, d in self.datastreams}
        put.installations = (*[x for x in old.installations if x.datastream not in ids], *self.installations)
        put.calibrations = (*[c for c in old.calibrations if c.datastream not in ids], *self.calibrations)
        was = old.installed
        stays = ~np.isin(was.datastream, streams)
        devices = np.array([new.device_index[d.id] for d in part.devices], dtype=np.int32)
        device = np.concatenate([was.device[stays], devices[part.installed.device]])
        try:
            installed = build(
                device,
                np.concatenate([was.datastream[stays], streams.astype(np.int32)[part.installed.datastream]]),
                np.concatenate([was.start[stays], part.installed.start]),
                np.concatenate([was.end[stays], part.installed.end]),
                new.property_of,
                _calibration_arrays(new),
            )
        except OverlapError as error:
            name = new.devices[device[error.second]].id
            raise ValueError(f"device {name!r} feeds a {error.what} twice at the same time") from None
        touched = np.zeros(len(new.devices), dtype=np.bool_)
        touched[was.device[~stays]] = True
        touched[devices[part.installed.device]] = True
        touched[len(old.devices) :] = True
        index_of = dict(old.index_of)
        for i in np.flatnonzero(touched).tolist():
            index_of[new.devices[i].id] = {}
        new._put_installed(installed, index_of, touched)


class _Put:
    """Sets attributes of a frozen Directory, and reads them."""

    def __init__(self, directory: Directory) -> None:
        object.__setattr__(self, "directory", directory)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self.directory, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "directory"), name)


def _changed(old: tuple[Entry, ...], changes: Sequence[tuple[int, Entry]], what: str) -> tuple[Entry, ...]:
    if not changes:
        return old
    entries = list(old)
    for index, entry in sorted(changes, key=lambda pair: pair[0]):
        if index == len(entries):
            entries.append(entry)
        elif not 0 <= index < len(entries) or entries[index].id != entry.id:
            raise ValueError(f"{what} {entry.id!r} cannot have the index {index}")
        else:
            entries[index] = entry
    return tuple(entries)


def _new_ids(old: dict[str, int], devices: Sequence[tuple[int, Device]], size: int, put: _Put) -> None:
    added = {d.id: i for i, d in devices if i >= size}
    if added:
        if twice := added.keys() & old.keys():
            raise ValueError(f"device id {min(twice)!r} stands twice in the directory")
        put.device_index = old | added


def _more_names(
    old: Directory, devices: Sequence[Device], ids: dict[str, int]
) -> tuple[dict[str, str], frozenset[str]]:
    """As ``all_names``, where the devices have only names that they had not before."""
    named, shared = dict(old.named), set(old.shared_names)
    for device in devices:
        for name in device.names:
            small = name.lower()
            if small in shared:
                continue
            if named.get(small, device.id) != device.id:
                shared.add(small)
                del named[small]
            elif small not in ids:
                named[small] = device.id
    return named, frozenset(shared)


def _calibration_arrays(new: Directory) -> tuple[Any, ...]:
    calibrations = new.calibrations
    stream_index = {d.id: i for i, d in enumerate(new.datastreams)} if calibrations else {}
    return (
        np.array([new.device_index[c.device] for c in calibrations], np.int32),
        np.array([stream_index[c.datastream] for c in calibrations], np.int32),
        np.array([c.valid_from_ns for c in calibrations], np.int64),
        np.array([c.scale for c in calibrations], np.float64),
        np.array([c.offset for c in calibrations], np.float64),
    )


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """A copy that can be written, with room for ``size`` rows."""
    grown = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    grown[: array.shape[0]] = array
    return grown


def _fixed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.setflags(write=False)
    return array
