"""The receiver: all brokers of a city, joined into batches of Observations.

It finds the device of each message by its topic, has the payload decoded, keeps the simulated clock where there is one,
and hands back the acknowledgements once the caller has made a batch durable.
"""

from __future__ import annotations

import bisect
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from ingest.connection import FIGURES, BrokerStatus, Connection
from ingest.dead_letters import DeadLetter, Kept, Reason
from ingest.errors import SettingsError
from ingest.formats import FORMATS, Format, pantau_json
from ingest.mending import Retaken
from ingest.packets import MALFORMED, OVERSIZE, RETAINED_BIT, USUAL_HEADS, Chunk
from ingest.rates import Rates
from ingest.readings import LAST_NS, Readings, RefusedError, short
from ingest.senders import Senders
from ingest.settings import BrokerSettings, ClockSource, Limits
from telemetry.brokers import UNKNOWN_BROKER, BrokerLink, listening_since
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.presence import Presence

CLOCK = "clock"
"""The last level of the clock's topic; no device can have this name."""
_FIGURES = frozenset(topic.encode() for topic in FIGURES)
_TIMELESS = "the broker's clock has not spoken yet: publish it before readings"
_USUAL_HEAD = 0x32
_TOPICS_REMEMBERED = 200_000
_TOGETHER_BYTES = 200_000
"""About so much is decoded together."""
_FEW = 8
"""So many messages are taken one by one where they can't be taken together."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What came in one ``Receiver.poll``."""

    observations: Observations
    dead_letters: list[DeadLetter]
    clock: int | None
    """Latest time that the broker's clock has told so far. [ns since 1970 UTC]; None with the system's clock."""
    messages: int
    brokers: tuple[BrokerLink, ...]
    """How each broker is heard, in the order of the settings and in the pipeline's clock."""
    receipts: list[tuple[Connection, int, bytearray]] = field(repr=False)
    """For ``Receiver.acknowledge``."""
    presences: tuple[Presence, ...] = ()
    """Births and deaths of devices, as they or their gateways tell them, in the order in which they came."""
    messages_by_broker: tuple[int, ...] = ()
    """In the order of the settings."""
    retaken: Retaken | None = None
    """The dead letters that were taken again, where this is what they gave and not what came."""

    @property
    def listening_since_ns(self) -> int | None:
        """Since when all brokers are connected; None while one is not. [ns since 1970 UTC]"""
        return listening_since(self.brokers)

    def refused(self) -> Counter[tuple[str | None, Reason]]:
        """(device, reason) → readings or messages refused."""
        found: Counter[tuple[str | None, Reason]] = Counter()
        for letter in self.dead_letters:
            found[letter.device, letter.reason] += letter.times
        return found


class Receiver:
    """Receives from all brokers.

    Parameters
    ----------
    brokers : sequence of BrokerSettings
        With different names.
    limits : Limits
    city : str
        Only topics of this city are taken.
    clock_source : ClockSource
    filters : name of a broker → topic filters, optional
        What to subscribe to there, instead of all that its settings say.
    counts_clock : bool
        Whether clock messages count as messages; not where another process takes them too.

    Notes
    -----
    ``poll`` and ``acknowledge`` belong to one thread; ``status`` may be called from any.
    """

    def __init__(
        self,
        brokers: Sequence[BrokerSettings],
        limits: Limits | None = None,
        *,
        city: str,
        clock_source: ClockSource = ClockSource.SYSTEM,
        filters: Mapping[str, Sequence[str]] | None = None,
        counts_clock: bool = True,
    ) -> None:
        if not brokers:
            raise SettingsError("brokers must name at least one broker, got none")
        for what in ("name", "client_id"):
            names = Counter((getattr(b, what), b.address if what == "client_id" else "") for b in brokers)
            twice = [name for (name, _), count in names.items() if count > 1]
            if twice:
                raise SettingsError(f"{what} of each broker must be different, got {twice[0]!r} twice")
        if len(brokers) > UNKNOWN_BROKER:
            raise SettingsError(f"brokers must be at most {UNKNOWN_BROKER}, got {len(brokers)}")
        self._limits = limits if limits is not None else Limits()
        self.rates = Rates(self._limits)
        """Of the devices."""
        self._city = city
        self._prefix = f"pantau/v1/{city}/".encode()
        self._clock_source = ClockSource(clock_source)
        self._chunks: deque[tuple[Connection, int, Chunk]] = deque()
        self._arrived = threading.Event()
        self._connections = [
            Connection(
                b,
                self._limits.max_payload_bytes,
                self._limits.max_waiting_bytes,
                self._deliver,
                None if filters is None else filters.get(b.name),
            )
            for b in brokers
        ]
        self._directory: Directory | None = None
        self._routes = {connection: _Routes(connection.settings) for connection in self._connections}
        self._senders = {c: Senders(partial(self._plain, routes)) for c, routes in self._routes.items()}
        self._counts_clock = counts_clock
        self._clock: int | None = None
        self._fault_logged = False
        self._connection_of = {connection.settings.name: connection for connection in self._connections}
        self._number = {connection: i for i, connection in enumerate(self._connections)}
        self._seen: list[tuple[bool, int] | None] = [None] * len(self._connections)
        """Whether each broker was connected at the last look, and in which session."""
        self._since: list[int | None] = [None] * len(self._connections)
        """By the broker's clock: since when that is so."""
        self._one_stream = self._clock_source is ClockSource.BROKER and len(self._connections) == 1
        self.clock_speed = 1.0
        """How fast the broker's clock says it runs. [times real time]"""
        self.clock_steps_back = 0
        """Clock messages that were ignored because they told an earlier time."""

    def go_on_listening(self, since_ns: int) -> None:
        """Before ``start``: the broker has been heard since then, by its own clock, before this process began.

        It counts only with the broker's clock and one broker, and if the broker still has our session: then nothing
        was missed. [ns since 1970 UTC]
        """
        if self._one_stream:
            self._since[0], self._seen[0] = since_ns, (True, -1)

    def start(self) -> None:
        """Begin to connect to all brokers."""
        for connection in self._connections:
            connection.start()

    def close(self) -> None:
        """Disconnect from all brokers; they keep for us what is not acknowledged."""
        for connection in self._connections:
            connection.close()

    def poll(self, directory: Directory, now_ns: int | None, timeout_s: float) -> Batch | None:
        """What has come since the last call, or None if nothing came within ``timeout_s``.

        Parameters
        ----------
        directory : Directory
            In which the readings are looked up.
        now_ns : int or None
            The time by which readings are judged. [ns since 1970 UTC] With the broker's clock, clock messages move it
            on within the batch. None: not known yet, no check of times.
        timeout_s : float
        """
        chunks = self._take(timeout_s)
        self._follow_listening(now_ns)
        if not chunks:
            return None
        if directory is not self._directory:
            self._directory = directory
            for senders in self._senders.values():
                senders.forget()
        by_broker = self._clock_source is ClockSource.BROKER
        now = self._later(now_ns) if by_broker else now_ns
        readings = Readings(directory, self._limits)
        messages_by_broker = [0] * len(self._connections)
        for connection, parts in _joined(chunks):
            number, place = self._number[connection], 0
            messages = Chunk(0) if len(parts) > 1 else parts[0]
            received: list[tuple[int, int]] = []
            for part in parts:
                received.append((place, part.received_at))
                if len(parts) > 1:
                    messages.append(part)
                place += len(part.topics)
            first = readings.announce(connection.settings.name, messages.topics, messages.payloads, number)
            if by_broker:
                readings.begin(now, now, first)
            else:
                for place, received_at in reversed(received):  # the first one stays
                    readings.begin(received_at, now, first + place)
            of_others, now = self._read_all(connection, messages, None if by_broker else received, readings, first, now)
            connection.messages += len(messages.topics) - of_others
            messages_by_broker[number] += len(messages.topics) - of_others
        total = sum(messages_by_broker)
        receipts = [
            (connection, session, chunk.packet_ids) for connection, session, chunk in chunks if chunk.packet_ids
        ]
        if not total and not receipts:
            return None
        self._follow_listening(now)
        for message, request_topic, request in readings.requests:
            self._connection_of[readings.broker_of(message)].publish(request_topic, request)
        observations, excess = self.rates.judge(readings.finish(), directory)
        return Batch(
            observations=observations,
            dead_letters=readings.dead_letters + excess,
            clock=self._clock if by_broker else None,
            messages=total,
            brokers=self.brokers,
            receipts=receipts,
            presences=tuple(readings.presences),
            messages_by_broker=tuple(messages_by_broker),
        )

    def take_again(self, directory: Directory, letters: Sequence[Kept], now_ns: int | None) -> Batch:
        """What dead letters give when they are read like messages that come now, but at their own time of reception.

        By that time their readings are judged too. What they say of presence, or ask of the sender, was of then and is
        left aside.

        Parameters
        ----------
        directory : Directory
        letters : sequence of Kept
            Those that can be taken again.
        now_ns : int or None
            By this, readings of letters without a time of reception are judged. [ns since 1970 UTC]
        """
        readings = Readings(directory, self._limits, again=True)
        numbers = {connection.settings.name: i for connection, i in self._number.items()}
        before, self._directory = self._directory, directory
        # Those in use: what a format has learned of senders since may be what a letter needs.
        routes = {connection.settings.name: self._routes[connection] for connection in self._connections}
        for kept in letters:
            letter = kept.letter
            topic = letter.topic.encode("utf-8", "backslashreplace")
            number = numbers.get(letter.broker, UNKNOWN_BROKER)
            readings.message = readings.announce(letter.broker, [topic], [letter.payload], number)
            readings.begin(letter.received_at, now_ns if letter.received_at is None else letter.received_at)
            try:
                self._read_again(letter, topic, readings, routes.get(letter.broker))
            except Exception as error:
                log.exception("dead letter %d made the decoder fail", kept.id)
                readings.refuse(Reason.FAULT, f"the decoder failed: {type(error).__name__}: {error}")
        self._directory = before
        observations = readings.finish()
        ids = [kept.id for kept in letters]
        refused = [(ids[m], x) for m, x in zip(readings.refused_of, readings.dead_letters, strict=True)]
        return Batch(
            observations=observations,
            dead_letters=[],
            clock=None,
            messages=0,
            brokers=self.brokers,
            receipts=[],
            retaken=Retaken(letters, refused),
        )

    def _read_again(self, letter: DeadLetter, topic: bytes, readings: Readings, routes: _Routes | None) -> None:
        feed = None if routes is None else routes.feed_of(letter.topic)
        of_pantau = letter.topic.count("/") == 3 and letter.topic.startswith("pantau/v1/")
        if letter.fragment:
            if not of_pantau or feed is not None:
                readings.read_as("pantau_json")  # came on a feed, whose senders may speak for every device
            try:
                _, streams = readings.find(letter.device or "")
            except RefusedError as refused:
                if b'"device"' not in letter.payload:
                    readings.refuse(refused.reason, refused.detail)
                    return
                streams = {}
            pantau_json.decode(letter.payload, streams, readings)
        elif routes is not None and (of_pantau or feed is not None):
            if letter.topic.endswith(f"/{CLOCK}") and of_pantau:
                readings.refuse(letter.reason, letter.detail)
                return
            self._handle_unusual(topic, letter.payload, _USUAL_HEAD, None, readings, timeless=False, routes=routes)
        elif letter.format in FORMATS:
            readings.read_as(letter.format)
            FORMATS[letter.format]().decode(letter.topic, letter.payload, readings)
        else:
            readings.refuse(letter.reason, letter.detail)

    def acknowledge(self, batch: Batch) -> None:
        """Tell the brokers that the messages of ``batch`` are safe; call it once they are."""
        joined: dict[tuple[Connection, int], bytearray] = {}
        for connection, session, packet_ids in batch.receipts:
            joined.setdefault((connection, session), bytearray()).extend(packet_ids)
        for (connection, session), packet_ids in joined.items():
            connection.acknowledge(session, packet_ids)

    def wake(self) -> None:
        """Have a ``poll`` that waits return at once. For any thread."""
        self._arrived.set()

    def leave(self, broker: str, filters: Sequence[str]) -> None:
        """Unsubscribe from these filters at a broker, for good; what it holds for us of them still comes."""
        self._connection_of[broker].leave(filters)

    def has_left(self, broker: str) -> bool:
        """Whether the broker has heard of ``leave``."""
        return self._connection_of[broker].has_left

    def status(self) -> list[BrokerStatus]:
        """How each broker is doing, in the order of the settings."""
        return [connection.status() for connection in self._connections]

    @property
    def brokers(self) -> tuple[BrokerLink, ...]:
        """How each broker is heard, in the order of the settings and in the pipeline's clock.

        While we are deaf, silence of a device says nothing. With the broker's clock this is as of the last ``poll``,
        and without a time until that clock has spoken.
        """
        by_broker = self._clock_source is ClockSource.BROKER
        links = []
        for i, connection in enumerate(self._connections):
            status = connection.status()
            seen = self._seen[i]
            connected = status.connected if not by_broker else seen is not None and seen[0]
            since = self._since[i] if by_broker else status.since_ns
            links.append(BrokerLink(connected, since, connection.settings.alarm_after_s))
        return tuple(links)

    @property
    def listening_since_ns(self) -> int | None:
        """Since when all brokers are connected, in the pipeline's clock; None while one is not. [ns since 1970 UTC]"""
        return listening_since(self.brokers)

    def _deliver(self, connection: Connection, session: int, chunk: Chunk) -> None:
        self._chunks.append((connection, session, chunk))
        self._arrived.set()

    def _take(self, timeout_s: float) -> list[tuple[Connection, int, Chunk]]:
        """The chunks of the next batch."""
        if not self._arrived.wait(timeout_s):
            return []
        if self._limits.gather_s:
            time.sleep(self._limits.gather_s)
        self._arrived.clear()
        taken = []
        messages = 0
        while self._chunks:
            item = self._chunks.popleft()
            taken.append(item)
            messages += len(item[2].topics)
            if messages >= self._limits.max_batch_messages:
                break
        if self._chunks:
            self._arrived.set()
        for connection, _, chunk in taken:
            connection.taken(chunk.size, len(chunk.topics))
        return taken

    def _later(self, now_ns: int | None) -> int | None:
        """The broker's clock, which a caller that remembers a later time moves on."""
        if now_ns is not None and (self._clock is None or now_ns > self._clock):
            self._clock = now_ns
        return self._clock

    def _tick(self, told: int, now: int | None) -> int | None:
        if now is not None and told <= now:
            self.clock_steps_back += told < now
            return now
        self._clock = told
        return told

    def _follow_listening(self, now: int | None) -> None:
        """Note, by the broker's clock, when each broker got connected or lost."""
        for i, connection in enumerate(self._connections):
            session, status = connection.session, connection.status()
            seen, before = (status.connected, session), self._seen[i]
            if self._one_stream and self._since[i] is not None:
                if not seen[0]:
                    continue  # its clock comes the same way as its readings: while we hear nothing, no time passes
                if seen != before and not status.resumed:
                    self._since[i] = self._clock if self._clock is not None else now
                self._seen[i] = seen
                continue
            still_lost = before is not None and not before[0] and not seen[0]  # another attempt failed
            if self._since[i] is None or (seen != before and not still_lost):
                self._since[i] = self._clock if self._clock is not None else now
            self._seen[i] = seen

    def _handle_unusual(
        self,
        topic: bytes,
        payload: bytes,
        head: int,
        note: str | None,
        readings: Readings,
        timeless: bool,
        routes: _Routes,
    ) -> int | None:
        """Whatever is not a live message of a device that was seen before; returns the time of a clock message.

        ``timeless``: the broker's clock has not spoken yet, so nothing can say whether a reading's time is right.
        """
        try:
            if head == MALFORMED:
                raise RefusedError(Reason.MALFORMED_PACKET, note or "a packet can't be read")
            try:
                name = topic.decode()
            except UnicodeDecodeError as error:
                raise RefusedError(Reason.WRONG_TOPIC, f"the topic is not UTF-8: {error}") from error
            feed = routes.feed_of(name)
            if feed is not None:
                readings.read_as(feed.name)
                self._check_size(payload, head, note)
                if head & RETAINED_BIT:
                    raise RefusedError(Reason.RETAINED, "the broker stored this message earlier: it must not look new")
                if timeless:
                    raise RefusedError(Reason.NO_TIME, _TIMELESS)
                feed.format.decode(name, payload, readings)
                return None
            streams = self._find(name, payload, head, note)
            if streams is None:
                try:
                    told, self.clock_speed = pantau_json.decode_clock(payload)
                except RefusedError:
                    if self._counts_clock:
                        raise
                    return self._clock  # whoever counts the clock's messages refuses this one
                return told
            if timeless:
                raise RefusedError(Reason.NO_TIME, _TIMELESS)
            of_model = readings.directory.payload_of.get(name.rpartition("/")[2])
            if of_model is None or of_model.format not in FORMATS or of_model.format == "pantau_json":
                pantau_json.decode(payload, streams, readings)
            else:
                routes.of_model(of_model.format).decode(name, payload, readings)
        except RefusedError as refused:
            readings.refuse(refused.reason, refused.detail)
        return None

    def _read_all(
        self,
        connection: Connection,
        messages: Chunk,
        received: list[tuple[int, int]] | None,
        readings: Readings,
        first: int,
        now: int | None,
    ) -> tuple[int, int | None]:
        """Read messages of one broker, as many of them together as can be.

        Parameters
        ----------
        messages : Chunk
        received : list of (int, int), optional
            From which place on messages were received when. [ns since 1970 UTC] None: by the broker's clock.
        first : int
            Number of the first message.
        now : int or None
            [ns since 1970 UTC]

        Returns
        -------
        How many of them do not count as messages, and ``now`` as the broker's clock has moved it.
        """
        usual, size_limit, extra = USUAL_HEADS, self._limits.max_payload_bytes, 0
        senders, routes = self._senders[connection], self._routes[connection]
        timeless = received is None and now is None
        spans = [(0, len(messages.topics))]
        while spans:
            begin, end = spans.pop()
            if not timeless and self._take_together(messages, begin, end, senders, readings, first):
                continue
            if end - begin > _FEW:  # perhaps only one of them is to blame
                middle = (begin + end) // 2
                spans += [(middle, end), (begin, middle)]
                continue
            for place in range(begin, end):
                topic, payload, head = messages.topics[place], messages.payloads[place], messages.heads[place]
                readings.message = first + place
                if received is not None:
                    readings.received_at = received[bisect.bisect_right(received, (place, LAST_NS)) - 1][1]
                try:
                    streams = senders.streams(topic) if head in usual else None
                    if streams is not None and len(payload) <= size_limit and not timeless:
                        pantau_json.decode(payload, streams, readings)
                    elif topic in _FIGURES:
                        extra += 1  # the connection has taken it
                    else:
                        note = messages.notes.get(place)
                        ticked = self._handle_unusual(topic, payload, head, note, readings, timeless, routes)
                        if ticked is not None:
                            now = self._tick(ticked, now)
                            extra += not self._counts_clock
                            if timeless:  # from this on we listen, however much more this batch holds
                                self._follow_listening(now)
                            timeless = False
                            readings.begin(now, now, readings.message)
                except Exception as error:
                    # A fault of ours. The message would come again and again if it ended the pipeline.
                    if not self._fault_logged:
                        log.exception("a message on topic %r made the decoder fail", topic)
                    self._fault_logged = True
                    readings.refuse(Reason.FAULT, f"the decoder failed: {type(error).__name__}: {error}")
        return extra, now

    def _take_together(
        self, chunk: Chunk, begin: int, end: int, senders: Senders, readings: Readings, first: int
    ) -> bool:
        """Take messages of nothing but plain readings of known devices, the usual case, at once; whether they were.

        ``first`` is the number of the chunk's first message.
        """
        topics, payloads, heads = chunk.topics, chunk.payloads, chunk.heads
        if end - begin < len(topics):
            topics, payloads, heads = topics[begin:end], payloads[begin:end], heads[begin:end]
        if not topics or senders.streams(topics[0]) is None:
            return False
        if heads.count(_USUAL_HEAD) != len(heads) and not USUAL_HEADS.issuperset(heads):
            return False
        try:
            return pantau_json.decode_together(payloads, topics, senders, readings, first + begin)
        except Exception:  # a fault of ours: one by one it is found whose message it was
            if not self._fault_logged:
                log.exception("messages that came together made the decoder fail")
            self._fault_logged = True
            return False

    def _plain(self, routes: _Routes, topic: bytes) -> Mapping[str, int] | None:
        """The feeds of the topic's device, if it is known and sends Pantau JSON on a topic of Pantau's."""
        assert self._directory is not None
        if not topic.startswith(self._prefix):
            return None
        try:
            device = topic[len(self._prefix) :].decode()
        except UnicodeDecodeError:
            return None
        streams = self._directory.feed_of.get(device)
        if streams is None or device == CLOCK or "/" in device:
            return None
        if routes.has_feeds and routes.feed_of(topic.decode()) is not None:
            return None
        of_model = self._directory.payload_of.get(device)
        other = of_model is not None and of_model.format in FORMATS and of_model.format != "pantau_json"
        return None if other else streams

    def _check_size(self, payload: bytes, head: int, note: str | None) -> None:
        if head == OVERSIZE:
            raise RefusedError(Reason.PAYLOAD_TOO_LARGE, note or "payload is too large")
        if len(payload) > self._limits.max_payload_bytes:
            raise RefusedError(
                Reason.PAYLOAD_TOO_LARGE,
                f"payload must be at most {self._limits.max_payload_bytes} bytes, got {len(payload)}",
            )

    def _find(self, topic: str, payload: bytes, head: int, note: str | None) -> Mapping[str, int] | None:
        """The feeds of the topic's device, or None if this is the clock's topic."""
        levels = topic.split("/")
        if len(levels) != 4 or levels[:2] != ["pantau", "v1"]:
            raise RefusedError(Reason.WRONG_TOPIC, f"topic must be pantau/v1/<city>/<device>, got {short(topic)}")
        _, _, city, device = levels
        if city != self._city:
            raise RefusedError(Reason.WRONG_CITY, f"city must be {self._city}, got {short(city)}")
        self._check_size(payload, head, note)
        if device == CLOCK:
            if self._clock_source is ClockSource.BROKER:
                return None
            raise RefusedError(Reason.WRONG_TOPIC, "a clock message, but the clock's source is the system")
        if head & RETAINED_BIT:
            raise RefusedError(
                Reason.RETAINED, "the broker stored this message earlier: publish readings without retain"
            )
        assert self._directory is not None
        streams = self._directory.feed_of.get(device)
        if streams is None:
            raise RefusedError(Reason.UNKNOWN_DEVICE, f"device {short(device)} is not registered in {self._city}")
        return streams


def _joined(
    chunks: Sequence[tuple[Connection, int, Chunk]],
) -> Iterator[tuple[Connection, list[Chunk]]]:
    """The chunks of each broker that follow each other, up to a size that a processor's cache holds."""
    parts: list[Chunk] = []
    size = 0
    for i, (connection, _, chunk) in enumerate(chunks):
        parts.append(chunk)
        size += chunk.size
        if i + 1 == len(chunks) or chunks[i + 1][0] is not connection or size >= _TOGETHER_BYTES:
            yield connection, parts
            parts, size = [], 0


class _Feed(NamedTuple):
    name: str
    """Of the format."""
    format: Format


class _Routes:
    """Which format reads which topic of one broker."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._feeds = [(feed.topic.split("/"), _Feed(feed.format, FORMATS[feed.format]())) for feed in settings.feeds]
        self.has_feeds = bool(self._feeds)
        self._seen: dict[str, _Feed | None] = {}
        self._of_model: dict[str, Format] = {}

    def feed_of(self, topic: str) -> _Feed | None:
        """The first feed that the topic matches."""
        if not self._feeds:
            return None
        if topic not in self._seen:
            if len(self._seen) >= _TOPICS_REMEMBERED:
                self._seen.clear()
            levels = topic.split("/")
            self._seen[topic] = next((feed for wanted, feed in self._feeds if matches(wanted, levels)), None)
        return self._seen[topic]

    def of_model(self, format_name: str) -> Format:
        """What reads the payloads of devices on their own topics."""
        if format_name not in self._of_model:
            self._of_model[format_name] = FORMATS[format_name]()
        return self._of_model[format_name]


def matches(wanted: Sequence[str], topic: Sequence[str]) -> bool:
    """Whether the levels of a topic match those of a filter. [MQTT 5.0, 4.7]

    Examples
    --------
    >>> matches(["a", "+", "#"], ["a", "b", "c", "d"]), matches(["a", "#"], ["a"]), matches(["#"], ["$SYS", "x"])
    (True, True, False)
    """
    if topic[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        topic = topic[: len(wanted)]
    return len(wanted) == len(topic) and all(w in ("+", t) for w, t in zip(wanted, topic, strict=True))
