"""Look for mistakes in dashboards: structure, house rules, and every query asked of a real InfluxDB.

Structure is checked against the classes of grafana-foundation-sdk, which Grafana generates from its own schemas: every
key must be one they know and every value of the type they declare. That is not a Grafana server reading the file.

Queries are filled in as Grafana does (macros, variables with one, several and all values) and sent to ``/query``, which
InfluxDB 1.x, 2.x (by DBRP mapping) and 3.x answer. An error is a problem, and so is an empty answer: ask a database
that holds something of everything.
"""

from __future__ import annotations

import enum
import json
import re
import time
import types
import typing
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.grafana import generate
from dashboards.grafana.influxql import DATA_SOURCE_VARIABLE
from dashboards.grafana.panels import NO_COLOUR, SEVERITY_COLOURS, WIDTH
from storage import schema

MACROS = ("timeFilter", "__interval", "__to")
NOT_SHARED = re.compile(
    r"\b(SLIMIT|SOFFSET|CARDINALITY|SHOW\s+SERIES|INTEGRAL|SAMPLE|HOLT_WINTERS\w*)\b(?!\")", re.IGNORECASE
)
"""What InfluxDB 3 has not taken over from InfluxQL."""
UID_FORM = re.compile(r"[A-Za-z0-9_-]{1,40}")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_REGEX_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Problem:
    """Something to be mended."""

    dashboard: str
    """UID."""
    place: str
    """Title of the panel, or name of the variable or key."""
    what: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.place}: {self.what}"


@dataclass(frozen=True)
class InfluxQL:
    """Where to ask queries."""

    url: str
    database: str
    token: str = ""
    """Sent as ``Authorization: Token …`` if not empty."""

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of the answer. Raises ValueError with the server's words if it refuses the query."""
        form = urllib.parse.urlencode({"db": self.database, "q": query, "epoch": "ms"}).encode()
        headers = {"Authorization": f"Token {self.token}"} if self.token else {}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/query", data=form, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.code}: {error.read().decode(errors='replace').strip()}") from error
        results = answer.get("results", [])
        for result in (answer, *results):
            if "error" in result:
                raise ValueError(str(result["error"]))
        return [s for r in results for s in r.get("series", [])]


def check(
    influxql: InfluxQL | None = None,
    models: Mapping[str, dict[str, Any]] | None = None,
    *,
    until_ms: int | None = None,
    span_ms: int = 6 * 3_600_000,
) -> list[Problem]:
    """All problems of ``models`` (default: the dashboards as generated). Empty if there are none.

    A dashboard of the wrong structure is not looked at further.

    Parameters
    ----------
    influxql
        Where to ask every query; None leaves that part out.
    models
        Dashboards as plain JSON values, by UID.
    until_ms, span_ms
        Time range of the queries. [ms since 1970 UTC; default now] [ms]

    Raises
    ------
    OSError
        The database does not answer.
    """
    models = generate.dashboards() if models is None else models
    until = int(time.time() * 1000) if until_ms is None else until_ms
    problems: list[Problem] = []
    for uid, model in models.items():
        if misshapen := structure_problems(uid, model):
            problems += misshapen
            continue
        problems += lint_problems(uid, model)
        if influxql is not None:
            problems += query_problems(uid, model, influxql.ask, until - span_ms, until)
    return problems


# Structure.


def structure_problems(uid: str, model: dict[str, Any]) -> list[Problem]:
    """Keys that the dashboard model does not know, and values of another type than it declares."""
    register_default_plugins()
    try:
        read = Dashboard.from_json(model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [Problem(uid, "dashboard", f"cannot be read as a dashboard: {error!r}")]
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    found = [Problem(uid, path, "not a key of the dashboard model") for path in _lost(model, written, "")]
    return found + [Problem(uid, path, what) for path, what in _mistyped(read, Dashboard, "")]


def _lost(before: Any, after: Any, path: str) -> Iterator[str]:
    """Paths of what is in ``before`` and not in ``after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key}".lstrip(".")
            else:
                yield from _lost(value, after[key], f"{path}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list):
        for i, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from _lost(one, other, f"{path}[{i}]")


def _mistyped(value: Any, declared: Any, path: str) -> Iterator[tuple[str, str]]:
    """Paths of values that are not of the declared type, with what is wrong."""
    origin = typing.get_origin(declared)
    if declared in (object, Any):
        # What a panel's own plugin defines: its options and field settings.
        if hasattr(value, "from_json"):
            yield from _mistyped_object(value, type(value), path)
        return
    if origin in (typing.Union, types.UnionType):
        options = [list(_mistyped(value, option, path)) for option in typing.get_args(declared)]
        if all(options):
            yield min(options, key=len)[0]
    elif origin is list:
        if not isinstance(value, list):
            yield path, f"must be a list, got {value!r}"
            return
        for i, item in enumerate(value):
            yield from _mistyped(item, typing.get_args(declared)[0], f"{path}[{i}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield path, f"must be an object, got {value!r}"
            return
        for key, item in value.items():
            yield from _mistyped(item, typing.get_args(declared)[1], f"{path}.{key}")
    elif origin is typing.Literal:
        if value not in typing.get_args(declared):
            yield path, f"must be one of {typing.get_args(declared)}, got {value!r}"
    elif isinstance(declared, type) and issubclass(declared, enum.Enum):
        if value not in {m.value for m in declared}:
            yield path, f"must be one of {[m.value for m in declared]}, got {value!r}"
    elif declared is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield path, f"must be a number, got {value!r}"
    elif declared in (int, str, bool, type(None)):
        if not isinstance(value, declared) or (declared is int and isinstance(value, bool)):
            yield path, f"must be {declared.__name__}, got {value!r}"
    elif hasattr(declared, "from_json"):
        yield from _mistyped_object(value, declared, path)


def _mistyped_object(value: Any, declared: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        try:
            value = declared.from_json(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            yield path, f"must be {declared.__name__}: {error!r}"
            return
    if not isinstance(value, declared):
        yield path, f"must be {declared.__name__}, got {value!r}"
        return
    for name, hint in typing.get_type_hints(declared).items():
        yield from _mistyped(getattr(value, name, None), hint, f"{path}.{name}".lstrip("."))


# House rules.


def lint_problems(uid: str, model: dict[str, Any]) -> list[Problem]:
    """What breaks the rules of the house: see the messages."""
    return [Problem(uid, place, what) for place, what in _lints(uid, model)]


def panels_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something, those inside rows included; not the rows."""
    everything = [p for outer in model.get("panels", []) for p in (outer, *outer.get("panels", []))]
    return [p for p in everything if p["type"] != "row"]


def _lints(uid: str, model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not UID_FORM.fullmatch(model.get("uid", "")) or model["uid"] != uid:
        yield "uid", f"must be {uid!r}, of letters, digits, - and _, got {model.get('uid')!r}"
    if model.get("editable") is not False:
        yield "editable", "must be false: the code is the source"
    variables = {v["name"] for v in model["templating"]["list"]}
    asked = [(p.get("title") or "?", t["query"]) for p in panels_of(model) for t in p.get("targets", [])]
    asked += [(a["name"], a["target"]["query"]) for a in model["annotations"]["list"]]
    asked += [(v["name"], v["query"]) for v in model["templating"]["list"] if v["type"] == "query"]
    for place, query in asked:
        yield from ((place, what) for what in _query_lints(query, variables))
    used = {v for text in _texts(model) for v in _VARIABLE.findall(text)}
    for name in sorted(variables - used):
        yield name, "variable that nothing uses"
    seen: set[int] = set()
    for panel in panels_of(model):
        yield from ((panel.get("title") or "?", what) for what in _panel_lints(panel))
        if panel["id"] in seen:
            yield panel["title"], f"panel id {panel['id']} is used twice"
        seen.add(panel["id"])
    yield from _overlaps(model["panels"])
    known = {*SEVERITY_COLOURS.values(), NO_COLOUR}
    for colour in _colours(model):
        if colour not in known:
            yield "colour", f"{colour!r} is not one of {sorted(known)}"


def _panel_lints(panel: dict[str, Any]) -> Iterator[str]:
    for key in ("title", "description"):
        if not str(panel.get(key, "")).strip():
            yield f"has no {key}"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "has no unit"
    if panel["fieldConfig"]["defaults"].get("thresholds") is None:
        yield "has no thresholds (Grafana would put its own)"
    targets = panel.get("targets", [])
    if not targets:
        yield "asks nothing"
    for part in (panel, *targets):
        if part.get("datasource", {}).get("uid") != DATA_SOURCE_VARIABLE:
            yield f"data source must be {DATA_SOURCE_VARIABLE}, got {part.get('datasource')}"
    if len({t["refId"] for t in targets}) != len(targets):
        yield "two queries have one refId"
    for target in targets:
        if target.get("rawQuery") is not True or target.get("resultFormat") not in ("time_series", "table"):
            yield f"query {target['refId']} is not a raw query with a result format"


def _query_lints(query: str, variables: set[str]) -> Iterator[str]:
    if found := NOT_SHARED.search(query):
        yield f"InfluxDB 3 does not know {found.group()}: {query}"
    if not query.startswith("SHOW ") and "$timeFilter" not in query and "${__to}" not in query:
        yield f"not bounded in time: {query}"
    for name in _VARIABLE.findall(query):
        if name not in variables and name not in MACROS:
            yield f"unknown variable ${name}: {query}"
    measurements = re.findall(r'FROM "(\w+)"', query)
    known = set(re.findall(r'AS "(\w+)"', query)) | set(measurements)
    for measurement in measurements:
        if measurement not in schema.MEASUREMENTS:
            yield f"nothing writes measurement {measurement!r}: {query}"
        else:
            written = schema.MEASUREMENTS[measurement]
            known |= {*written.tags, *(f.name for f in written.fields)}
    for name in re.findall(r'"(\w+)"', query):
        if name not in known:
            yield f"nothing writes {name!r} of {measurements}: {query}"


def _overlaps(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        pos = panel["gridPos"]
        if pos["x"] + pos["w"] > WIDTH:
            yield panel["title"], f"reaches beyond {WIDTH} columns"
        cells = [(x, y) for x in range(pos["x"], pos["x"] + pos["w"]) for y in range(pos["y"], pos["y"] + pos["h"])]
        if other := next((taken[c] for c in cells if c in taken), None):
            yield panel["title"], f"lies over {other!r}"
        taken.update(dict.fromkeys(cells, panel["title"]))
        if panel["type"] == "row" and panel.get("panels"):
            yield from _overlaps(panel["panels"])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _colours(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("color", "iconColor", "fixedColor") and isinstance(item, str):
                yield item
            yield from _colours(item)
    elif isinstance(value, list):
        for item in value:
            yield from _colours(item)


# Queries.


def query_problems(
    uid: str,
    model: dict[str, Any],
    ask: Callable[[str], list[dict[str, Any]]],
    from_ms: int,
    until_ms: int,
) -> list[Problem]:
    """Ask everything that the dashboard asks, with all values chosen and with several; errors and empty answers."""
    problems: list[Problem] = []

    def answer(place: str, query: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
        filled = fill(query, values, from_ms, until_ms)
        try:
            series = ask(filled)
        except ValueError as error:
            problems.append(Problem(uid, place, f"{error}: {filled}"))
            return []
        if not any(_holds_values(s) for s in series):
            problems.append(Problem(uid, place, f"empty answer: {filled}"))
        return series

    every, several = {"__interval": "1m"}, {"__interval": "5m"}
    for variable in model["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "custom":
            every[name] = several[name] = variable["current"]["value"]
        elif variable["type"] == "query":
            series = answer(name, variable["query"], every)
            found = [str(row[-1]) for s in series for row in s["values"]]
            many = variable.get("multi", False)
            every[name] = variable["allValue"] if many else (found or [""])[0]
            several[name] = chosen(found) if many else every[name]
    asked = [(p["title"], t["query"], p.get("interval", "")) for p in panels_of(model) for t in p["targets"]]
    asked += [(a["name"], a["target"]["query"], "") for a in model["annotations"]["list"]]
    for place, query, least in asked:
        for values in (every, several):
            step = {"__interval": fill(least, values, from_ms, until_ms)} if least else {}
            answer(place, query, {**values, **step})
    return problems


def fill(query: str, values: Mapping[str, str], from_ms: int, until_ms: int) -> str:
    """``query`` with macros and variables filled in as Grafana fills them.

    Examples
    --------
    >>> fill('WHERE "site" =~ /^($site)$/ AND $timeFilter', {"site": "(a|b)"}, 0, 5000)
    'WHERE "site" =~ /^((a|b))$/ AND time >= 0ms and time <= 5000ms'
    >>> fill("time <= ${__to}ms", {}, 0, 5000)
    'time <= 5000ms'
    """
    known = {"timeFilter": f"time >= {from_ms}ms and time <= {until_ms}ms", "__to": str(until_ms), **values}
    return _VARIABLE.sub(lambda m: known.get(m.group(1), m.group()), query)


def chosen(values: list[str]) -> str:
    """Several values of a variable as Grafana writes them into InfluxQL: escaped, with bars, in parentheses.

    Examples
    --------
    >>> chosen(["a/b", "c"]), chosen(["a.b"])
    ('(a\\\\/b|c)', 'a\\\\.b')
    """
    escaped = [_REGEX_SPECIAL.sub(lambda m: f"\\{m.group()}", v) for v in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _holds_values(series: dict[str, Any]) -> bool:
    return any(v is not None for row in series.get("values", []) for v in row[1:])
