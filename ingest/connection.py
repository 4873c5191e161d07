"""One MQTT 5 connection that never gives up: a thread that reads a broker's messages and hands them on in chunks.

The session is persistent, so the broker keeps what we have not acknowledged; acknowledgements are sent only when
``acknowledge`` is called, which the runtime does once the messages are in the journal. Reads are gathered over some
10 ms, since it is the wake-ups that cost, not the bytes. What the messages mean is left to ``receiver``.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mqtt5

from ingest.errors import SettingsError
from ingest.packets import Chunk, PacketStream, StreamBrokenError, pubacks
from ingest.settings import BrokerSettings

log = logging.getLogger(__name__)

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto tells how many messages it could not deliver to subscribers."""
STORED_TOPIC, RETAINED_TOPIC = "$SYS/broker/store/messages/count", "$SYS/broker/retained messages/count"
"""Where Mosquitto tells how many messages it holds, and how many of them are retained ones: the rest waits for somebody
to take or to acknowledge it."""
FIGURES = (DROPPED_TOPIC, STORED_TOPIC, RETAINED_TOPIC)
"""What a broker tells of itself."""
_FIGURE_NAMES = {name.encode(): name for name in FIGURES}
_QOS_0 = (0x30, 0x31)
"""First bytes of PUBLISH packets at QoS 0; the second is of a stored message."""
_COALESCE_S = 0.01
_COALESCE_FAST_S = 0.002
"""Where so much comes that one read was full: the socket's buffer must not hold the broker up."""
_READ_BYTES = 65_536
_READS_AT_ONCE = 16
_STEADY_S = 10.0
"""A connection that lasted this long counts as good: the next pause is short again."""
_SUBSCRIBE, _SUBSCRIBE_FIGURES, _UNSUBSCRIBE = 1, 2, 3
"""Packet ids of what we ask."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """How one broker is doing; counts are since the start of this process."""

    name: str
    address: str
    connected: bool
    """Connected and subscribed."""
    since_ns: int | None
    """Since when ``connected`` is what it is. [ns since 1970 UTC, the computer's clock]; None before the first try."""
    last_error: str | None
    """The latest trouble, in a sentence; stays after it is over."""
    last_error_ns: int | None
    messages: int
    bytes: int
    connects: int
    """How often we got connected; all but the first are reconnects."""
    resumed: bool | None
    """Whether the broker still had our session when we last connected. False on a restart of ours: what was sent while
    we were away is lost. None before the first connection."""
    sessions_lost: int
    """How often the broker had forgotten our session: what was sent while we were away is lost then."""
    broker_dropped: int | None
    """Messages that the broker says it dropped since we started, for any of its subscribers. None: it does not say."""
    waiting_bytes: int
    """Received and not yet polled."""
    waiting_messages: int = 0
    """Received and not yet polled."""
    broker_waiting: int | None = None
    """Messages that the broker says it holds for its subscribers, those on their way included; a few seconds old. We
    are one of them, so it is the most that waits there for us. None: it does not say."""


class _LostError(Exception):
    """The connection is over; the message is a sentence for people."""


class Connection:
    """A connection to one broker, and the thread that keeps it.

    Parameters
    ----------
    settings : BrokerSettings
    max_payload_bytes, max_waiting_bytes : int
        See ``settings.Limits``.
    deliver : function of (Connection, session number, Chunk)
        Called in the connection's thread.
    filters : sequence of str, optional
        What to subscribe to, instead of all that the settings say.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        max_payload_bytes: int,
        max_waiting_bytes: int,
        deliver: Callable[[Connection, int, Chunk], None],
        filters: Sequence[str] | None = None,
    ) -> None:
        self.settings = settings
        self.filters = settings.filters if filters is None else tuple(filters)
        self.messages = 0
        self.session = 0
        """Number of the present connection; an acknowledgement is only good on the one its message came by."""
        self._max_payload_bytes = max_payload_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._deliver = deliver
        self._tls = _tls_context(settings) if settings.tls else None
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{settings.name}", daemon=True)
        self._closing = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._mutex = threading.Lock()
        self._outgoing: list[bytes] = []
        self._connected = False
        self._since_ns: int | None = None
        self._last_error: str | None = None
        self._last_error_ns: int | None = None
        self._bytes = self._delivered_bytes = self._taken_bytes = 0
        self._delivered_messages = self._taken_messages = 0
        self._paused = False
        self._connects = self._sessions_lost = 0
        self._resumed: bool | None = None
        self._dropped: int | None = None
        self._dropped_last = 0
        self._figures: dict[str, int] = {}
        self._figures_refused = False
        self._to_leave: tuple[str, ...] = ()
        self.has_left = False
        """Whether the broker has heard that we want no more of what ``leave`` named."""

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect; the session stays at the broker. Acknowledgements already given are sent before."""
        self._closing.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout=self.settings.connect_timeout_s + 5)
        self._wake_reader.close()
        self._wake_writer.close()

    def acknowledge(self, session: int, packet_ids: bytes | bytearray) -> None:
        """Have the broker told that these messages, received on connection ``session``, are safe with us.

        ``packet_ids`` has two bytes for each.
        """
        if not packet_ids:
            return
        with self._mutex:
            if session != self.session:
                return  # The broker sends them again on the new connection.
            self._outgoing.append(pubacks(packet_ids))
        self._wake()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send something to the broker, once and at QoS 0; what can't be sent now is let go."""
        packet = mqtt5.PublishPacket(topic, payload).write()
        with self._mutex:
            if self._connected:
                self._outgoing.append(packet)
        self._wake()

    def leave(self, filters: Sequence[str]) -> None:
        """Unsubscribe; what the broker holds for us of these topics still comes. Once for a connection."""
        with self._mutex:
            self._to_leave = tuple(filters)
            if self._connected:
                self._outgoing.append(mqtt5.UnsubscribePacket(_UNSUBSCRIBE, list(filters)).write())
        self._wake()

    def taken(self, size: int, messages: int) -> None:
        """So much of what was delivered waits no longer."""
        self._taken_bytes += size
        self._taken_messages += messages
        if self._paused:
            self._wake()

    def _note_figure(self, topic: str, payload: bytes) -> None:
        """Take what the broker tells of itself on one of ``FIGURES``."""
        try:
            count = int(payload)
        except ValueError:
            return
        if topic != DROPPED_TOPIC:
            self._figures[topic] = count
        elif self._dropped is None:
            self._dropped = 0
        elif count < self._dropped_last:  # The broker began anew.
            self._dropped += count
        else:
            self._dropped += count - self._dropped_last
        if topic == DROPPED_TOPIC:
            self._dropped_last = count

    def status(self) -> BrokerStatus:
        """How it is doing."""
        return BrokerStatus(
            name=self.settings.name,
            address=self.settings.address,
            connected=self._connected,
            since_ns=self._since_ns,
            last_error=self._last_error,
            last_error_ns=self._last_error_ns,
            messages=self.messages,
            bytes=self._bytes,
            connects=self._connects,
            resumed=self._resumed,
            sessions_lost=self._sessions_lost,
            broker_dropped=self._dropped,
            waiting_bytes=self._delivered_bytes - self._taken_bytes,
            waiting_messages=self._delivered_messages - self._taken_messages,
            broker_waiting=self._broker_waiting(),
        )

    def _broker_waiting(self) -> int | None:
        if not self._connected or STORED_TOPIC not in self._figures:
            return None  # A figure from before it went away says nothing now.
        return max(0, self._figures[STORED_TOPIC] - self._figures.get(RETAINED_TOPIC, 0))

    # Everything below runs in the connection's thread.

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._converse()
            except _LostError as lost:
                self._note_error(str(lost))
            except Exception as error:  # A fault of ours must not end the city's ears.
                log.exception("broker %s: unexpected fault", self.settings.name)
                self._note_error(f"unexpected fault: {type(error).__name__}: {error}")
            lasted = time.monotonic() - began
            failures = 0 if lasted > _STEADY_S else failures + 1
            if self._closing.is_set():
                break
            pause_s = min(
                self.settings.backoff_max_s, self.settings.backoff_first_s * 2.0 ** min(max(failures - 1, 0), 20)
            )
            self._closing.wait(random.uniform(0, pause_s))

    def _note_error(self, sentence: str) -> None:
        if sentence != self._last_error or self._connected:
            log.warning("broker %s: %s", self.settings.name, sentence)
        self._last_error, self._last_error_ns = sentence, time.time_ns()
        self._set_connected(False)

    def _set_connected(self, connected: bool) -> None:
        if connected != self._connected or self._since_ns is None:
            self._since_ns = time.time_ns()
            self._connected = connected

    def _converse(self) -> None:
        """Connect, and stay until the connection is lost (``_LostError``) or closed by us."""
        sock = self._connect()
        conversation = _Conversation(self, sock)
        try:
            conversation.run()
        except ssl.SSLError as error:
            raise _LostError(_why_tls_failed(error, self.settings)) from error
        except (OSError, StreamBrokenError) as error:
            raise _LostError(f"the connection to {self.settings.address} broke: {error}") from error
        finally:
            if conversation.asked_for_figures and not self._closing.is_set():
                self._figures_refused = True
                log.info("broker %s ends the connection if asked for %s", self.settings.name, DROPPED_TOPIC)
            self._figures.clear()
            with self._mutex:
                self.session += 1
                self._outgoing.clear()
            self._set_connected(False)
            sock.close()

    def _connect(self) -> socket.socket:
        s = self.settings
        try:
            sock = socket.create_connection((s.host, s.port), timeout=s.connect_timeout_s)
        except ConnectionRefusedError as error:
            raise _LostError(f"connection refused at {s.address}: is the broker running?") from error
        except socket.gaierror as error:
            raise _LostError(f"the host name {s.host!r} is not known: {error.strerror}") from error
        except TimeoutError as error:
            raise _LostError(f"no answer from {s.address} within {s.connect_timeout_s:g} s") from error
        except OSError as error:
            raise _LostError(f"{s.address} can't be reached: {error.strerror or error}") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=s.host)
            sock.setblocking(False)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            why = error.verify_message
            if error.verify_code in _STRANGE_AUTHORITY:
                why = f"it is signed by an authority that we do not know ({why}): set ca_file"
            raise _LostError(f"TLS: the certificate of {s.address} is not trusted: {why}") from error
        except TimeoutError as error:
            sock.close()
            raise _LostError(f"TLS: no answer from {s.address}: is it a TLS port?") from error
        except ssl.SSLError as error:
            sock.close()
            raise _LostError(_why_tls_failed(error, s)) from error
        except OSError as error:
            sock.close()
            raise _LostError(f"TLS with {s.address} failed: {error}") from error
        return sock

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody to wake
            self._wake_writer.send(b"\0")


class _Conversation:
    """What is said on one connection."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self._c = connection
        self._sock = sock
        self._stream = PacketStream(connection._max_payload_bytes)
        self._out = bytearray()
        self._keep_alive_s: float = connection.settings.keep_alive_s
        self._began = self._last_sent = self._last_read = time.monotonic()
        self._greeted = False
        self.asked_for_figures = False

    def run(self) -> None:
        c, s = self._c, self._c.settings
        self._out += mqtt5.ConnectPacket(
            s.client_id,
            username=s.username,
            password=None if s.password is None else s.password.encode(),
            clean_start=False,
            keep_alive=s.keep_alive_s,
            session_expiry_interval=s.session_expiry_s,
            receive_max=s.receive_maximum,
        ).write()
        poller = select.poll()
        poller.register(c._wake_reader, select.POLLIN)
        while True:
            with c._mutex:
                for packets in c._outgoing:
                    self._out += packets
                c._outgoing.clear()
            if c._closing.is_set():
                self._say_goodbye()
                return
            self._keep_alive()
            self._send()
            c._paused = c._delivered_bytes - c._taken_bytes >= c._max_waiting_bytes
            if not c._paused and (size := self._read()):
                self._send()  # what was heard may have to be answered
                time.sleep(_COALESCE_S if size < _READ_BYTES else _COALESCE_FAST_S)
                continue
            events = (0 if c._paused else select.POLLIN) | (select.POLLOUT if self._out else 0)
            if events:
                poller.register(self._sock, events)
            else:  # Not even for errors: one that we can't see to while we pause would wake us without end.
                with contextlib.suppress(KeyError):
                    poller.unregister(self._sock)
            # A pause is looked at again soon: the wake-up may have come just before we began to wait for it.
            poller.poll(100 if c._paused else min(1000, self._keep_alive_s * 250))
            with contextlib.suppress(BlockingIOError):
                c._wake_reader.recv(4096)

    def _read(self) -> int:
        """Read what has come, up to a bound; how much it was. [bytes]"""
        c, size = self._c, 0
        for _ in range(_READS_AT_ONCE):
            try:
                data = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return size
            except ConnectionResetError:
                data = b""
            if not data:
                raise _LostError(self._why_closed())
            size += len(data)
            self._last_read = time.monotonic()
            chunk = Chunk(received_at=time.time_ns())
            try:
                control = self._stream.feed(data, chunk)
            finally:
                # Also before a broken stream ends the connection: what was whole is handed on.
                c._bytes += len(data)
                self._look_for_figures(chunk)
                if chunk.topics:
                    c._delivered_bytes += chunk.size
                    c._delivered_messages += len(chunk.topics)
                    c._deliver(c, c.session, chunk)
            for packet in control:
                self._hear(packet)
        return size

    def _look_for_figures(self, chunk: Chunk) -> None:
        """Take the broker's figures at once: they must not wait behind what is to be decoded. They are QoS 0."""
        for head in _QOS_0:
            place = chunk.heads.find(head)
            while place >= 0:
                name = _FIGURE_NAMES.get(chunk.topics[place])
                if name is not None:
                    self._c._note_figure(name, chunk.payloads[place])
                place = chunk.heads.find(head, place + 1)

    def _send(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self._out[:sent]
            self._last_sent = time.monotonic()

    def _keep_alive(self) -> None:
        now = time.monotonic()
        s = self._c.settings
        if not self._c._connected and now - self._began > s.connect_timeout_s:
            raise _LostError(
                f"{s.address} did not answer our greeting within {s.connect_timeout_s:g} s: an MQTT 5 broker?"
            )
        if not self._greeted:
            return
        if now - self._last_sent > self._keep_alive_s / 2 and not self._out:
            self._out += mqtt5.PingReqPacket().write()
        if self._c._paused:
            self._last_read = now  # We do not listen, so silence says nothing.
        elif now - self._last_read > 1.5 * self._keep_alive_s:
            raise _LostError(f"{s.address} has been silent for {1.5 * self._keep_alive_s:g} s")

    def _hear(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.ConnAckPacket):
            self._hear_connack(packet)
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._hear_suback(packet)
        elif isinstance(packet, mqtt5.UnsubAckPacket):
            self._c.has_left = True
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise _LostError(_why_disconnected(packet, self._c.settings))

    def _hear_connack(self, packet: mqtt5.ConnAckPacket) -> None:
        c, s = self._c, self._c.settings
        if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            raise _LostError(_why_refused(packet, s))
        self._greeted = True
        c._resumed = packet.session_present
        if packet.server_keep_alive is not None:
            self._keep_alive_s = packet.server_keep_alive or 3600.0
        if packet.session_expiry_interval is not None and packet.session_expiry_interval < s.session_expiry_s:
            log.warning(
                "broker %s keeps messages for us for %d s only, we asked for %d s",
                s.name,
                packet.session_expiry_interval,
                s.session_expiry_s,
            )
        if not packet.session_present and c._connects:
            c._sessions_lost += 1
            log.warning("broker %s has forgotten our session: what was sent while we were away is lost", s.name)
        if c.filters:
            filters = [_filter(topic, mqtt5.QoS.AT_LEAST_ONCE) for topic in c.filters]
            self._out += mqtt5.SubscribePacket(_SUBSCRIBE, filters).write()
        else:
            self._begin_listening()

    def _hear_suback(self, packet: mqtt5.SubAckPacket) -> None:
        c, s = self._c, self._c.settings
        if packet.packet_id != _SUBSCRIBE:
            self.asked_for_figures = False
            return
        for topic, code in zip(c.filters, packet.reason_codes, strict=False):
            if int(code) >= 0x80:  # an IntEnum by its type stub only: it has no order
                raise _LostError(f"the broker refuses the topic {topic}: {code.name.lower().replace('_', ' ')}")
            if code == mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE:
                log.warning("broker %s gives %s at QoS 0 only: messages can get lost", s.name, topic)
        self._begin_listening()

    def _begin_listening(self) -> None:
        c, s = self._c, self._c.settings
        with c._mutex:
            c._connects += 1
            c._set_connected(True)
            if c._to_leave and not c.has_left:
                self._out += mqtt5.UnsubscribePacket(_UNSUBSCRIBE, list(c._to_leave)).write()
        log.info(
            "broker %s: listening at %s, %s session",
            s.name,
            s.address,
            "resumed our" if c._resumed else "began a new",
        )
        if s.watch_drops and not c._figures_refused:
            # Asked for alone and last: some brokers disconnect whoever asks for it. They are asked only once.
            self.asked_for_figures = True
            figures = [_filter(topic, mqtt5.QoS.AT_MOST_ONCE) for topic in FIGURES]
            self._out += mqtt5.SubscribePacket(_SUBSCRIBE_FIGURES, figures).write()

    def _why_closed(self) -> str:
        address = self._c.settings.address
        if self._greeted:
            return f"{address} closed the connection"
        tls = "TLS settings" if self._c.settings.tls else "whether it wants TLS"
        return f"{address} closed the connection at our greeting: check {tls}, and that it speaks MQTT 5"

    def _say_goodbye(self) -> None:
        """Send what is still to be sent, and DISCONNECT; the session stays for as long as it was asked for."""
        with contextlib.suppress(OSError):
            self._sock.setblocking(True)
            self._sock.settimeout(2.0)
            self._sock.sendall(bytes(self._out) + mqtt5.DisconnectPacket().write())


def _filter(topic: str, qos: mqtt5.QoS) -> mqtt5.TopicFilter:
    return mqtt5.TopicFilter(
        topic,
        max_qos=qos,
        retain_as_published=False,  # so that the flag marks stored messages, and only those
        retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
    )


def _why_refused(packet: mqtt5.ConnAckPacket, settings: BrokerSettings) -> str:
    codes = mqtt5.ConnAckReasonCode
    if packet.reason_code in (codes.BAD_USER_NAME_OR_PASSWORD, codes.NOT_AUTHORIZED):
        who = "without a user name" if settings.username is None else f"as user {settings.username!r}"
        return f"bad user name or password: {settings.address} does not let us in {who}"
    if packet.reason_code == codes.UNSUPPORTED_PROTOCOL_VERSION:
        return f"{settings.address} does not speak MQTT 5"
    why = packet.reason_code.name.lower().replace("_", " ")
    return f"{settings.address} refused us: {why}" + (f" ({packet.reason_str})" if packet.reason_str else "")


def _why_disconnected(packet: mqtt5.DisconnectPacket, settings: BrokerSettings) -> str:
    if packet.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER:
        return f"another client has connected to {settings.address} with our client id {settings.client_id!r}"
    why = packet.reason_code.name.lower().replace("_", " ")
    return f"{settings.address} ended the connection: {why}" + (f" ({packet.reason_str})" if packet.reason_str else "")


_STRANGE_AUTHORITY = (18, 19, 20, 21)
"""OpenSSL's codes for a chain that ends at nobody we know. [openssl-verification-options(1)]"""
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it wants a certificate of ours, and there is none: set cert_file and key_file",
    "HANDSHAKE_FAILURE": "it does not accept our TLS; perhaps it wants a certificate of ours (cert_file and key_file)",
    "CERTIFICATE_EXPIRED": "our certificate (cert_file) has expired",
    "CERTIFICATE_REVOKED": "our certificate (cert_file) was revoked",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate (cert_file)",
    "UNSUPPORTED_CERTIFICATE": "it does not accept our certificate (cert_file): is it one for a client?",
    "BAD_CERTIFICATE": "it does not accept our certificate (cert_file)",
    "UNKNOWN_CA": "it does not know the authority that signed our certificate (cert_file)",
    "PROTOCOL_VERSION": "it speaks no version of TLS that we do",
    "WRONG_VERSION_NUMBER": "that is no TLS: is it a TLS port?",
}
"""End of OpenSSL's name for an alert of the other side → what it means for us. [RFC 8446, 6]"""


def _why_tls_failed(error: ssl.SSLError, settings: BrokerSettings) -> str:
    name = error.reason or ""
    for ending, sentence in _ALERTS.items():
        if name.endswith(ending):
            return f"TLS: {settings.address} ended the connection: {sentence}"
    return f"TLS with {settings.address} failed: {error}"


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f'the TLS files can\'t be used: {error} (broker "{settings.name}")') from error
    return context
