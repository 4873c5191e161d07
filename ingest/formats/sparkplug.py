"""Sparkplug B 3.0: edge nodes that number their messages, say when they are born and when they die, and use aliases.

One object follows the sessions of all edge nodes of one broker's feed. It takes metrics that are observed properties
as readings, tells births and deaths to the core, and asks a node for its births again (``Node Control/Rebirth``) where
something of it was missed: no birth, a gap in the sequence numbers, an alias that no birth gave, data after a death.

What it remembers lives in memory: after a restart the first message of each node asks for its births. docs/formats.md
says how devices and properties are found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingest.dead_letters import Reason
from ingest.formats.sparkplug_payload import (
    DataType,
    MalformedError,
    number,
    parse,
    properties,
    rebirth_request,
    text,
)
from ingest.readings import LAST_NS, Fragment, Readings, RefusedError, iso, short
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S
from telemetry.properties import PROPERTIES, conversion

log = logging.getLogger(__name__)

REBIRTH_AFTER_S = 10.0
"""A node is asked for its births again at most so often, by the time of reception."""
REBIRTH_AFTER_MAX_S = 640.0
"""As long as no birth comes, the pause doubles with each request, up to this."""
MAX_METRICS = 20_000
"""In one message, members of templates included."""
MAX_NAME_BYTES = 1_000
"""Of a metric, and of the path of a template's member."""
MAX_REMEMBERED_BYTES = 256 * 1024 * 1024
"""About, of what births said. Beyond it the nodes are forgotten whose births are the oldest; they are asked again."""

_NS_PER_MS = 1_000_000
_OF_NODE = frozenset({"NBIRTH", "NDEATH", "NDATA", "NCMD"})
_OF_DEVICE = frozenset({"DBIRTH", "DDEATH", "DDATA", "DCMD"})
_BD_SEQ = "bdSeq"
_ADMINISTRATIVE = ("Node Control/", "Device Control/", "Properties/")
_UNIT_KEYS = ("engunit", "unit")
_UNUSABLE = {0: "BAD", 500: "STALE"}
"""Values of the property ``Quality``. [Sparkplug 3.0, 6.4.12]"""
_METRIC_BYTES, _ALIAS_BYTES, _SENDER_BYTES = 300, 100, 1_500
"""What one takes in memory, about."""


class _Known(NamedTuple):
    """What a birth said of one metric."""

    name: str
    datatype: int
    unit: str | None


class _Target(NamedTuple):
    """The observed property that a metric of this name is."""

    feed: int | None
    """None: the device has no datastream of it."""
    property: str
    unit: str | None
    """As the device's model says; None: it says nothing."""


@dataclass(slots=True)
class _Sender:
    """An edge node, or a device behind one."""

    names: tuple[str, str]
    """By which it may be registered, the full one first."""
    born: bool = False
    """Its birth was seen, and no death since."""
    by_name: dict[str, _Known] = field(default_factory=dict)
    by_alias: dict[int, _Known] = field(default_factory=dict)
    size: int = _SENDER_BYTES
    """What it takes in memory, about. [bytes]"""
    directory: Directory | None = None
    """In which the next ones were looked up."""
    device: str | None = None
    """Id of the registered device."""
    targets: dict[str, _Target | None] = field(default_factory=dict)

    def look_up(self, directory: Directory) -> str | None:
        """The id of the registered device; None if there is none."""
        if self.directory is not directory:
            self.directory, self.device = directory, None
            self.targets.clear()
            for name in self.names:
                device = name if name in directory.feed_of else directory.named.get(name.lower())
                if device is not None:
                    self.device = device
                    break
        return self.device

    def target(self, name: str) -> _Target | None:
        """What a metric of this name observes; None: no observed property."""
        if name in self.targets:
            return self.targets[name]
        target = self._find_target(name)
        if name in self.by_name:
            self.targets[name] = target
        return target

    def _find_target(self, name: str) -> _Target | None:
        assert self.directory is not None
        assert self.device is not None
        feeds = self.directory.feed_of[self.device]
        payload = self.directory.payload_of.get(self.device)
        for entry in () if payload is None else payload.fields:
            if entry.source == name:
                return _Target(feeds.get(entry.property), entry.property, entry.unit)
        for candidate in (name, name.rpartition("/")[2]):
            if candidate in PROPERTIES:
                return _Target(feeds.get(candidate), candidate, None)
        return None

    def end(self) -> None:
        """It died: what its birth said counts no more."""
        self.born = False
        self.by_name, self.by_alias, self.targets, self.size = {}, {}, {}, _SENDER_BYTES

    def begin(self, payload: Any) -> None:
        """It was born: take note of the metrics that the birth announces."""
        self.end()
        for name, metric in _flat(payload.metrics):
            if name is not None:
                known = self.by_name[name] = _Known(name, metric.datatype, _unit(metric))
                self.size += _METRIC_BYTES + len(name)
                if metric.HasField("alias"):
                    self.by_alias[metric.alias] = known
                    self.size += _ALIAS_BYTES
        self.born = True


@dataclass(slots=True)
class _Node:
    """The session of one edge node."""

    own: _Sender
    devices: dict[str, _Sender] = field(default_factory=dict)
    dead: bool = False
    """Its death was told, and no birth since."""
    bd_seq: int | None = None
    """Of its last birth."""
    seq: int | None = None
    """Of its last message."""
    asked_at: int | None = None
    """When it was last asked for its births. [ns since 1970 UTC]"""
    unanswered: int = 0
    """How often it was asked since its last birth."""
    size: int = 0
    """What it took in memory at the last look, about. [bytes]"""

    @property
    def senders(self) -> Iterator[_Sender]:
        yield self.own
        yield from self.devices.values()


class Sparkplug:
    """The format of topics ``spBv1.0/<group>/<type>/<edge node>[/<device>]``."""

    remembers = True
    """Its messages can't be shared out among processes."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._size = 0
        self._of_nodes: tuple[Directory, dict[str, list[str]]] | None = None
        self.lost = 0
        """Messages that never came, by the gaps in the sequence numbers."""

    def decode(self, topic: str, payload: bytes, readings: Readings) -> None:
        """See ``Format``. A dead letter that is read again changes nothing of what is known of its sender."""
        try:
            self._decode(topic, payload, readings)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)

    def _decode(self, topic: str, data: bytes, readings: Readings) -> None:
        levels = topic.split("/")
        if levels[0] == "STATE" or levels[:2] == ["spBv1.0", "STATE"]:
            readings.nothing()  # a host application tells that it is there
            return
        kind = levels[2] if len(levels) > 2 else ""
        fits = (kind in _OF_NODE and len(levels) == 4) or (kind in _OF_DEVICE and len(levels) == 5)
        if levels[0] != "spBv1.0" or not fits or not all(levels) or "+" in topic or "#" in topic:
            raise RefusedError(
                Reason.WRONG_TOPIC,
                f"topic must be spBv1.0/<group>/<type of message>/<edge node>[/<device>], got {short(topic)}",
            )
        if kind.endswith("CMD"):
            readings.nothing()
            return
        try:
            payload = parse(data)
        except MalformedError as error:
            raise RefusedError(Reason.MALFORMED_PROTOBUF, str(error)) from error
        if readings.again:
            self._read_again(kind, levels, payload, readings)
            return
        where = (levels[1], levels[3])
        node = self._nodes.get(where)
        if node is None:
            node = self._nodes[where] = _Node(_node_sender(levels))
        try:
            if kind == "NDEATH":
                missed = self._end_node(where, node, payload, readings)
            else:
                missed = self._follow(where, node, kind, payload)
                missed = self._hear(where, node, kind, levels, payload, readings) or missed
            if missed:
                self._ask(where, node, readings, missed)
        finally:
            self._make_room(where, node)

    # ---------------------------------------------------------------------------------------------------- sessions

    def _follow(self, where: tuple[str, str], node: _Node, kind: str, payload: Any) -> str:
        """Keep count of a node's messages; returns what is amiss, or ""."""
        seq, before = payload.seq if payload.HasField("seq") else None, node.seq
        node.seq = seq
        if seq is None or before is None or kind == "NBIRTH" or seq == before:  # the same again: delivered twice
            return ""
        missing = (seq - before - 1) % 256
        if not missing:
            return ""
        self.lost += missing
        log.warning("Sparkplug: edge node %s/%s: messages lost after number %d: %d", *where, before, missing)
        return f"{missing} of its messages were lost"

    def _hear(
        self, where: tuple[str, str], node: _Node, kind: str, levels: list[str], payload: Any, readings: Readings
    ) -> str:
        """Take a birth, data, or the death of a device; returns what is amiss, or ""."""
        missed = ""
        sender = node.own if kind[0] == "N" else node.devices.get(levels[4])
        if sender is None:
            sender = node.devices[levels[4]] = _device_sender(levels)
        if kind == "NBIRTH":
            self._nodes[where] = self._nodes.pop(where)  # the youngest is the last to be forgotten
            node.devices.clear()  # they are born again after it
            node.dead, node.bd_seq, node.unanswered = False, _bd_seq(payload), 0
        elif not node.own.born:
            missed = "it goes on after its death" if node.dead else "its birth was not seen"
        device = sender.look_up(readings.directory)
        if kind == "DDEATH":
            sender.end()
            if device is not None:
                readings.presence(device, False, None)
            readings.nothing()
            return missed
        birth = kind.endswith("BIRTH")
        if birth:
            if device is not None:
                readings.presence(device, True, None)
            sender.begin(payload)
        elif not sender.born:
            missed = missed or f"the birth of {sender.names[1]} was not seen"
        if self._take(sender, payload, readings, birth=birth):
            missed = missed or "it uses an alias that no birth gave"
        return missed

    def _end_node(self, where: tuple[str, str], node: _Node, payload: Any, readings: Readings) -> str:
        """A death certificate: counts unless it belongs to another session than the one that is known."""
        readings.nothing()
        told = _bd_seq(payload)
        if node.dead or (node.own.born and told != node.bd_seq):
            log.info("Sparkplug: death of an earlier session of %s/%s, bdSeq %s, is ignored", *where, told)
            return ""
        unknown = not node.own.born
        dead = dict.fromkeys(s.device for s in node.senders if s.look_up(readings.directory) is not None)
        dead |= dict.fromkeys(self._registered_behind(where, readings.directory))
        for device in dead:
            if device is not None:
                readings.presence(device, False, None)
        for sender in node.senders:
            sender.end()
        node.dead, node.seq = True, None
        # It may be the last will of an earlier session, found after our own restart: who lives answers at once.
        return "its death was told, but its birth was not seen" if unknown else ""

    def _registered_behind(self, where: tuple[str, str], directory: Directory) -> list[str]:
        """Ids of the devices that are registered by ``group/node/device`` of this node."""
        if self._of_nodes is None or self._of_nodes[0] is not directory:
            behind: dict[str, list[str]] = {}
            for name, device in [*((d.id.lower(), d.id) for d in directory.devices), *directory.named.items()]:
                if name.count("/") == 2:
                    behind.setdefault(name.rpartition("/")[0], []).append(device)
            self._of_nodes = (directory, behind)
        return self._of_nodes[1].get("/".join(where).lower(), [])

    def _make_room(self, where: tuple[str, str], node: _Node) -> None:
        """Forget the nodes with the oldest births while all take more than they may."""
        size = sum(s.size + 3 * len(s.names[0]) for s in node.senders)
        self._size += size - node.size
        node.size = size
        while self._size > MAX_REMEMBERED_BYTES:
            self._size -= self._nodes.pop(next(iter(self._nodes))).size

    def _ask(self, where: tuple[str, str], node: _Node, readings: Readings, why: str) -> None:
        """Ask a node for its births, unless that was done a short while ago or nothing of it is registered."""
        now = readings.received_at if readings.received_at is not None else 0
        pause_s = min(REBIRTH_AFTER_S * 2 ** max(0, min(node.unanswered, 20) - 1), REBIRTH_AFTER_MAX_S)
        if node.asked_at is not None and 0 <= now - node.asked_at < pause_s * NS_PER_S:
            return
        directory = readings.directory
        if all(s.look_up(directory) is None for s in node.senders) and not self._registered_behind(where, directory):
            return
        node.asked_at, node.unanswered = now, node.unanswered + 1
        log.info("Sparkplug: edge node %s/%s is asked for its births: %s", *where, why)
        readings.request(f"spBv1.0/{where[0]}/NCMD/{where[1]}", rebirth_request(now // _NS_PER_MS))

    # ---------------------------------------------------------------------------------------------------- readings

    def _read_again(self, kind: str, levels: list[str], payload: Any, readings: Readings) -> None:
        """Take the readings of a dead letter with what is known of its sender by now."""
        if kind.endswith("DEATH"):
            readings.nothing()
            return
        node = self._nodes.get((levels[1], levels[3]))
        if kind[0] == "N":
            sender = node.own if node is not None else _node_sender(levels)
        else:
            sender = (node.devices.get(levels[4]) if node is not None else None) or _device_sender(levels)
        sender.look_up(readings.directory)
        self._take(sender, payload, readings, birth=kind.endswith("BIRTH"))

    def _take(self, sender: _Sender, payload: Any, readings: Readings, *, birth: bool) -> bool:
        """Add or refuse the readings of a message; returns whether something in it could not be understood yet."""
        before = (len(readings), len(readings.dead_letters))
        payload_ms = payload.timestamp if payload.HasField("timestamp") else None
        unknown_alias: int | None = None
        nameless = observes = untyped = False
        for given, metric in _flat(payload.metrics):
            known = sender.by_alias.get(metric.alias) if metric.HasField("alias") else None
            name = given if given is not None else known.name if known is not None else None
            if name is None:
                if metric.HasField("alias"):
                    unknown_alias = metric.alias
                else:
                    nameless = True
                continue
            if sender.device is None:
                observes = observes or (name != _BD_SEQ and not name.startswith(_ADMINISTRATIVE))
                continue
            target = sender.target(name)
            if target is None or metric.is_transient or metric.template_value.is_definition:
                continue
            if known is None or known.name != name:
                known = sender.by_name.get(name)
            try:
                _take_one(sender.device, target, name, metric, known, payload_ms, readings, birth=birth)
            except _UntypedError:
                untyped = True
        if sender.device is None and (observes or unknown_alias is not None):
            readings.refuse(
                Reason.UNKNOWN_DEVICE,
                f"no device is registered by the name {short(sender.names[0])} or {short(sender.names[1])}",
                device=sender.names[0],
            )
        elif unknown_alias is not None:
            readings.refuse(
                Reason.UNKNOWN_ALIAS,
                f"alias {unknown_alias} was not given by a birth of {short(sender.names[0])} that was seen",
                device=sender.device,
            )
        elif untyped:
            readings.refuse(
                Reason.UNKNOWN_ALIAS,
                f"a whole number has no datatype, and no birth of {short(sender.names[0])} was seen that gives it",
                device=sender.device,
            )
        elif nameless:
            readings.refuse(Reason.WRONG_TYPE, "a metric has neither name nor alias", device=sender.device)
        if before == (len(readings), len(readings.dead_letters)):
            readings.nothing()
        return unknown_alias is not None or untyped


class _UntypedError(Exception):
    """A whole number that can't be read before its datatype is known."""


def _take_one(
    device: str,
    target: _Target,
    name: str,
    metric: Any,
    known: _Known | None,
    payload_ms: int | None,
    readings: Readings,
    *,
    birth: bool,
) -> None:
    """Add or refuse one metric that is an observed property."""
    observed_ms = metric.timestamp if metric.HasField("timestamp") else None
    if observed_ms is None and not metric.is_historical:
        observed_ms = payload_ms
    kind = metric.WhichOneof("value")
    if birth and (kind is None or metric.is_null):
        return  # it has no value yet
    observed_at = None if observed_ms is None else observed_ms * _NS_PER_MS
    datatype = metric.datatype or (known.datatype if known is not None else DataType.UNKNOWN)
    value = number(metric, datatype)
    unit = _chosen_unit(target, _unit(metric) or (known.unit if known is not None else None))
    if value is None and datatype == DataType.UNKNOWN and kind in ("int_value", "long_value"):
        raise _UntypedError
    item: dict[str, Any] = {"device": device, "property": target.property, "value": value}
    fragment: Fragment = (item, None)
    if unit is not None:
        item["unit"] = unit
    if observed_at is not None:
        item["time"] = observed_at if observed_at >= 10**17 else iso(observed_at)
    try:
        if target.feed is None:
            raise RefusedError(
                Reason.UNKNOWN_PROPERTY, f"this device has no datastream of {target.property} (metric {short(name)})"
            )
        if kind is None or metric.is_null:
            raise RefusedError(Reason.MISSING_VALUE, f"metric {short(name)} is null or has no value")
        if metric.properties.keys and (quality := _quality(metric)) is not None:
            raise RefusedError(Reason.MISSING_VALUE, f"metric {short(name)}: its sender calls the value {quality}")
        if value is None:
            item["value"] = told = _told(metric, kind, datatype)
            raise RefusedError(Reason.WRONG_TYPE, f"metric {short(name)} must be a number, got {told}")
        if observed_at is None and metric.is_historical:
            raise RefusedError(Reason.NO_TIME, f"metric {short(name)} is historical, but has no timestamp")
        if observed_at is not None and observed_at > LAST_NS:
            raise RefusedError(
                Reason.TIME_IN_FUTURE, f"timestamp of metric {short(name)} is {observed_ms} ms: after the year 2261"
            )
        readings.add(target.feed, target.property, value, unit, observed_at, fragment)
    except RefusedError as refused:
        readings.refuse(refused.reason, refused.detail, device=device, fragment=fragment)


def _node_sender(levels: list[str]) -> _Sender:
    return _Sender((f"{levels[1]}/{levels[3]}", levels[3]))


def _device_sender(levels: list[str]) -> _Sender:
    return _Sender((f"{levels[1]}/{levels[3]}/{levels[4]}", levels[4]))


def _flat(metrics: Any) -> list[tuple[str | None, Any]]:
    """(name or None, metric) of all metrics; members of a template's instance are named ``instance/member``.

    Raises
    ------
    RefusedError
        There are too many, or a name is too long.
    """
    found: list[tuple[str | None, Any]] = []
    _flatten(metrics, "", found)
    return found


def _flatten(metrics: Any, path: str, found: list[tuple[str | None, Any]]) -> None:
    if len(found) + len(metrics) > MAX_METRICS:
        raise RefusedError(Reason.PAYLOAD_TOO_LARGE, f"payload must hold at most {MAX_METRICS} metrics, and holds more")
    for metric in metrics:
        name = None
        if metric.name:
            if len(metric.name) + len(path) > MAX_NAME_BYTES:
                raise RefusedError(
                    Reason.WRONG_TYPE,
                    f"name of a metric must be at most {MAX_NAME_BYTES} bytes, got {len(metric.name) + len(path)}",
                )
            name = path + text(metric.name)
        found.append((name, metric))
        if name is not None and metric.HasField("template_value"):
            _flatten(metric.template_value.metrics, f"{name}/", found)


def _bd_seq(payload: Any) -> int | None:
    for metric in payload.metrics:
        if metric.name == _BD_SEQ.encode():
            value: int = metric.int_value if metric.HasField("int_value") else metric.long_value
            return value
    return None


def _unit(metric: Any) -> str | None:
    """The unit that the metric's properties tell."""
    if not metric.properties.keys:
        return None
    told = properties(metric)
    return next((text(told[key].string_value) for key in _UNIT_KEYS if key in told and told[key].string_value), None)


def _chosen_unit(target: _Target, told: str | None) -> str | None:
    """The unit that the message tells, unless only that of the model is one of the property's."""
    if told is None or (target.unit is not None and conversion(target.property, told) is None):
        return target.unit
    return told


def _quality(metric: Any) -> str | None:
    """What the sender says against the value."""
    told = properties(metric).get("quality")
    return None if told is None or not told.HasField("int_value") else _UNUSABLE.get(told.int_value)


def _told(metric: Any, kind: str, datatype: int) -> str:
    """What came in place of a number, for a person."""
    if kind == "string_value":
        return f"the text {short(text(metric.string_value[:400]))}"
    return DataType(datatype).name.lower() if datatype in tuple(DataType) else f"a value of datatype {datatype}"
