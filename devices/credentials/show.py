"""Credentials as people and firmware need them: text, a QR code, and snippets to paste, in Indonesian and English.

The QR code holds JSON, ``{"pantau": 1, "host": …, "port": …, "tls": …, "username": …, "password": …, "client_id": …,
"topic": …}``, for a setup program on the phone. Nothing here is written to a file or a log.
"""

from __future__ import annotations

import functools
import io
import json
import shlex
from pathlib import Path

import segno

from devices.credentials import Credentials
from web.languages import load_catalogues

TEXTS = Path(__file__).parent / "languages"
QR_VERSION = 1

SNIPPETS = {"arduino": "Arduino (ESP32)", "micropython": "MicroPython", "shell": "mosquitto_pub"}
"""Kinds of firmware snippets → what they are called."""


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    return load_catalogues([TEXTS])


def _say(language: str, key: str, **values: str) -> str:
    return _texts()[language][f"credentials.{key}"].format(**values)


def fields(credentials: Credentials, language: str) -> list[tuple[str, str]]:
    """Label and value of each thing that somebody types into a device, in the order of most setup pages."""
    c = credentials
    rows = [
        ("host", c.host),
        ("port", str(c.port)),
        ("tls", _say(language, "show.tls.yes" if c.tls else "show.tls.no")),
        ("client_id", c.client_id),
        ("username", c.username),
        ("password", c.password),
        ("topic", c.topic),
    ]
    if c.speaks_for:
        rows.append(("speaks_for", ", ".join(c.speaks_for)))
    if c.certificate_pem:
        rows.append(("certificate", _say(language, "show.certificate.yes")))
    return [(_say(language, f"show.{key}"), value) for key, value in rows]


def text(credentials: Credentials, language: str) -> str:
    """Plain text, to read aloud or print.

    Examples
    --------
    >>> c = Credentials("awlr-1", "awlr-1", "secret", "mqtt.example", 8883, True, "pantau/v1/kota/awlr-1", "awlr-1")
    >>> print(text(c, "en").splitlines()[2])
    Broker:     mqtt.example
    """
    rows = fields(credentials, language)
    width = max(len(label) for label, _ in rows) + 2
    lines = [f"{label + ':':<{width}}{value}" for label, value in rows]
    title = _say(language, "show.title", device=credentials.device)
    return "\n".join([title, "", *lines, "", _say(language, "show.once")]) + "\n"


def qr_payload(credentials: Credentials) -> str:
    """What the QR code holds."""
    c = credentials
    return json.dumps(
        {
            "pantau": QR_VERSION,
            "host": c.host,
            "port": c.port,
            "tls": c.tls,
            "username": c.username,
            "password": c.password,
            "client_id": c.client_id,
            "topic": c.topic,
        },
        # ASCII alone: readers guess differently at other characters.
        separators=(",", ":"),
    )


def qr_svg(credentials: Credentials) -> str:
    """The QR code as an SVG element for a page: black on white whatever the page's colours, or readers fail."""
    out = io.BytesIO()
    _qr(credentials).save(
        out, kind="svg", xmldecl=False, svgns=True, border=4, dark="#000", light="#fff", omitsize=True
    )
    return out.getvalue().decode("utf-8")


def qr_terminal(credentials: Credentials) -> str:
    """The QR code in characters of half height, for a terminal with a dark or a light ground."""
    out = io.StringIO()
    _qr(credentials).terminal(out, border=4, compact=True)
    return out.getvalue()


def _qr(credentials: Credentials) -> segno.QRCode:
    return segno.make(qr_payload(credentials), error="m", micro=False)


def snippet(
    credentials: Credentials, language: str, kind: str = "arduino", *, property_name: str = "water_level_m"
) -> str:
    """Firmware that sends one property with these credentials, ready to paste.

    Parameters
    ----------
    language : str
        Of the comments: ``id`` or ``en``.
    kind : str
        One of ``SNIPPETS``.
    property_name : str
        The observed property that it sends.
    """
    make = {"arduino": _arduino, "micropython": _micropython, "shell": _shell}[kind]
    return make(credentials, language, property_name)


def _c_string(value: str) -> str:
    """A C string literal. Other than ASCII goes as octal bytes: always three digits, so that nothing runs together."""
    parts = []
    for byte in value.encode():
        character = chr(byte)
        if character in '"\\?':
            parts.append("\\" + character)
        elif 32 <= byte < 127:
            parts.append(character)
        else:
            parts.append(f"\\{byte:03o}")
    return '"' + "".join(parts) + '"'


def _c_pem(name: str, pem: str) -> str:
    lines = "\n".join(f'  {_c_string(line)[:-1]}\\n"' for line in pem.splitlines())
    return f"const char {name}[] =\n{lines};\n"


def _arduino(c: Credentials, language: str, property_name: str) -> str:
    tls = c.tls
    pems = "".join(
        _c_pem(name, pem)
        for name, pem in (("BROKER_CA", c.ca_pem), ("CLIENT_CERT", c.certificate_pem), ("CLIENT_KEY", c.key_pem))
        if pem and tls
    )
    setup = ""
    if tls:
        setup += (
            "  net.setCACert(BROKER_CA);\n"
            if c.ca_pem
            else f"  net.setInsecure();  // {_say(language, 'snippet.insecure')}\n"
        )
        setup += "  net.setCertificate(CLIENT_CERT);\n  net.setPrivateKey(CLIENT_KEY);\n" if c.certificate_pem else ""
    return f"""\
// {_say(language, "show.title", device=c.device)}
// {_say(language, "snippet.libraries")}
// {_say(language, "snippet.qos")}
#include <WiFi.h>
{"#include <WiFiClientSecure.h>" if tls else "#include <WiFiClient.h>"}
#include <PubSubClient.h>

// {_say(language, "snippet.wifi")}
const char WIFI_NAME[] = "";
const char WIFI_PASSWORD[] = "";

const char HOST[] = {_c_string(c.host)};
const int PORT = {c.port};
const char CLIENT_ID[] = {_c_string(c.client_id)};
const char USERNAME[] = {_c_string(c.username)};
const char PASSWORD[] = {_c_string(c.password)};
const char TOPIC[] = {_c_string(c.topic)};
{pems}
// {_say(language, "snippet.interval")}
const unsigned long INTERVAL_S = 60;

{"WiFiClientSecure" if tls else "WiFiClient"} net;
PubSubClient mqtt(net);

float measure() {{
  return 0.0;  // {_say(language, "snippet.values")}
}}

void setup() {{
  Serial.begin(115200);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
{setup}  mqtt.setServer(HOST, PORT);
  mqtt.setBufferSize(512);
}}

void loop() {{
  if (WiFi.status() != WL_CONNECTED) {{
    delay(500);
    return;
  }}
  if (!mqtt.connected() && !mqtt.connect(CLIENT_ID, USERNAME, PASSWORD)) {{
    Serial.printf("mqtt: %d\\n", mqtt.state());
    delay(5000);
    return;
  }}
  mqtt.loop();
  static unsigned long sent = 0;
  if (sent == 0 || millis() - sent >= INTERVAL_S * 1000UL) {{
    sent = millis();
    // {_say(language, "snippet.time")}
    char payload[128];
    snprintf(payload, sizeof payload, "{{\\"values\\":{{\\"{property_name}\\":%.3f}}}}", measure());
    mqtt.publish(TOPIC, payload);
  }}
}}
"""


def _micropython(c: Credentials, language: str, property_name: str) -> str:
    tls = ""
    if c.tls:
        tls = ", ssl=True, ssl_params={"
        options = [f'"server_hostname": {c.host!r}']
        if c.ca_pem:
            options += ['"cadata": CA', '"cert_reqs": ssl.CERT_REQUIRED']
        if c.certificate_pem:
            options += ['"cert": CERTIFICATE', '"key": KEY']
        tls += ", ".join(options) + "}"
    pems = "".join(
        f"{name} = {pem.encode()!r}\n"
        for name, pem in (("CA", c.ca_pem), ("CERTIFICATE", c.certificate_pem), ("KEY", c.key_pem))
        if pem and c.tls
    )
    return f"""\
# {_say(language, "show.title", device=c.device)}
import json
import time
{"import ssl" + chr(10) if c.ca_pem and c.tls else ""}from umqtt.simple import MQTTClient

TOPIC = {c.topic!r}
# {_say(language, "snippet.interval")}
INTERVAL_S = 60
{pems}

def measure():
    return 0.0  # {_say(language, "snippet.values")}


client = MQTTClient({c.client_id!r}, {c.host!r}, port={c.port}, user={c.username!r}, password={c.password!r},
                    keepalive=120{tls})
client.connect()
while True:
    # {_say(language, "snippet.time")}
    client.publish(TOPIC, json.dumps({{"values": {{{property_name!r}: measure()}}}}), qos=1)
    time.sleep(INTERVAL_S)
"""


def _shell(c: Credentials, language: str, property_name: str) -> str:
    q = shlex.quote
    before, options = "", ""
    if c.tls:
        if c.ca_pem:
            before += f"# {_say(language, 'snippet.ca')}\ncat > ca.pem <<'END'\n{c.ca_pem.strip()}\nEND\n"
            options += " --cafile ca.pem"
        else:
            options += " --tls-use-os-certs"
        if c.certificate_pem:
            before += f"# {_say(language, 'snippet.certificate')}\n"
            options += " --cert client.pem --key client.key"
    payload = q(json.dumps({"values": {property_name: 0.0}}))
    return f"""\
# {_say(language, "show.title", device=c.device)}
{before}# {_say(language, "snippet.values")}
# {_say(language, "snippet.time")}
mosquitto_pub -h {q(c.host)} -p {c.port}{options} -i {q(c.client_id)} \\
  -u {q(c.username)} -P {q(c.password)} \\
  -q 1 -t {q(c.topic)} -m {payload}
"""
