"""Every query of every dashboard answers from a real InfluxDB; planted mistakes are found."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dashboards.grafana import checks, generate
from dashboards.grafana.checks import InfluxQL
from storage.influx import InfluxStore
from storage.settings import StoreSettings
from telemetry.properties import PROPERTIES
from tests.dashboards.grafana import synthetic
from tests.real_parts.influxdb import InfluxDB

UNTIL_MS = synthetic.END * 1000


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxQL]:
    with InfluxDB(tmp_path_factory.mktemp("influxdb")) as server:
        at = InfluxQL(server.url, "pantau")
        at.ask("CREATE DATABASE pantau")
        store = InfluxStore(StoreSettings(kind="influxdb", url=server.url, api="v1", bucket="pantau"))
        store.write(synthetic.batch())
        store.close()
        yield at


@pytest.mark.influxdb
def test_every_query_of_the_committed_dashboards_answers(influx: InfluxQL) -> None:
    problems = checks.check(influx, until_ms=UNTIL_MS, span_ms=synthetic.HOURS * 3_600_000)
    assert [str(p) for p in problems] == []


@pytest.mark.influxdb
def test_every_query_of_a_citys_own_dashboards_answers(influx: InfluxQL) -> None:
    models = generate.dashboards(synthetic.directory())
    problems = checks.check(influx, models, until_ms=UNTIL_MS, span_ms=synthetic.HOURS * 3_600_000)
    assert [str(p) for p in problems] == []


@pytest.mark.influxdb
def test_answers_are_those_counted_by_hand(influx: InfluxQL) -> None:
    model = generate.dashboards()["pantau-flood"]
    values = {"city": "kota banjir", "district": ".*", "site": ".*", "lookback": "30d", "width": "15m"}

    def rows(title: str, until_ms: int = UNTIL_MS) -> list[list[Any]]:
        panel = next(p for p in checks.panels_of(model) if p["title"].startswith(title))
        query = panel["targets"][0]["query"]
        return [r for s in influx.ask(checks.fill(query, values, UNTIL_MS - 21_600_000, until_ms)) for r in s["values"]]

    # Three flood properties at each site; datastream i of the directory rises to step i % 4, where 3 is back to normal.
    flood = [i for i, d in enumerate(synthetic.directory().datastreams) if PROPERTIES[d.property].domain == "flood"]
    for title, step in (("Waspada", 0), ("Siaga", 1), ("Awas", 2)):
        expected = sum(i % 4 == step for i in flood)
        assert [r[1] for r in rows(title)] == ([expected] if expected else []), title
    assert len(rows("Alarm terbuka")) == sum(i % 4 != 3 for i in flood)
    # One minute after the first alarms of all came up, every flood datastream stands at the first step.
    early = (synthetic.START + 1060) * 1000
    assert [r[1] for r in rows("Waspada", early)] == [len(flood)]
    assert rows("Awas", early) == []


@pytest.mark.influxdb
def test_noise_is_averaged_as_energy(influx: InfluxQL) -> None:
    model = generate.dashboards()["pantau-street"]
    panel = next(p for p in checks.panels_of(model) if p["title"].startswith("Kebisingan"))
    values = {"city": "kota banjir", "district": ".*", "site": "pos\\/2", "__interval": "6h"}
    from_ms = synthetic.START * 1000
    answer = influx.ask(checks.fill(panel["targets"][0]["query"], values, from_ms, UNTIL_MS))
    batch = synthetic.batch()
    stream = [d.id for d in batch.directory.datastreams].index("1.laeq_db")
    good = (batch.readings.datastream == stream) & (batch.readings.flag < 4)
    buckets = (batch.readings.observed_at[good] // 10**9) // 21_600
    expected = [
        10 * np.log10(np.mean(10 ** (batch.readings.value[good][buckets == b] / 10))) for b in np.unique(buckets)
    ]
    assert [r[1] for s in answer for r in s["values"]] == pytest.approx(expected)


@pytest.mark.influxdb
def test_wrong_query_and_empty_answer_are_problems(influx: InfluxQL) -> None:
    model = generate.dashboards()["pantau-traffic"]
    broken = copy.deepcopy(model)
    checks.panels_of(broken)[3]["targets"][0]["query"] = 'SELECT mean( FROM "window" WHERE $timeFilter'
    found = checks.query_problems("x", broken, influx.ask, UNTIL_MS - 21_600_000, UNTIL_MS)
    assert found and all("error parsing query" in p.what for p in found)
    found = checks.query_problems("x", model, influx.ask, 0, 1000)
    assert found and all("empty answer" in p.what for p in found)


PLANTED = {
    "unknown key": (lambda m: m["panels"][0].update(colour="red"), "not a key of the dashboard model"),
    "wrong type": (lambda m: m["panels"][0]["gridPos"].update(w="12"), "must be int"),
    "wrong enumerated value": (
        lambda m: m["panels"][4]["fieldConfig"]["defaults"]["custom"].update(drawStyle="x"),
        "x",
    ),
    "fixed data source": (
        lambda m: m["panels"][4]["targets"][0]["datasource"].update(uid="abc"),
        "data source must be",
    ),
    "no description": (lambda m: m["panels"][4].update(description=" "), "has no description"),
    "no unit": (lambda m: m["panels"][4]["fieldConfig"]["defaults"].pop("unit"), "has no unit"),
    "colour of its own": (
        lambda m: m["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["steps"][1].update(color="purple"),
        "'purple' is not one of",
    ),
    "field that nothing writes": (
        lambda m: m["panels"][4]["targets"][0].update(query='SELECT "valu" FROM "reading" WHERE $timeFilter'),
        "nothing writes 'valu'",
    ),
    "not in InfluxDB 3": (
        lambda m: m["panels"][4]["targets"][0].update(
            query='SELECT integral("value") FROM "reading" WHERE $timeFilter'
        ),
        "InfluxDB 3 does not know",
    ),
    "unbounded": (
        lambda m: m["panels"][4]["targets"][0].update(query='SELECT "value" FROM "reading"'),
        "not bounded in time",
    ),
    "unknown variable": (
        lambda m: m["panels"][4]["targets"][0].update(query='SELECT "value" FROM "reading" WHERE $timeFiltr'),
        "unknown variable $timeFiltr",
    ),
    "overlap": (lambda m: m["panels"][1]["gridPos"].update(x=0), "lies over"),
    "editable": (lambda m: m.update(editable=True), "must be false"),
    "other uid": (lambda m: m.update(uid="a b"), "must be 'pantau-flood'"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistake_is_found(name: str) -> None:
    plant, message = PLANTED[name]
    model = generate.dashboards()["pantau-flood"]
    plant(model)
    found = checks.check(models={"pantau-flood": model})
    assert any(message in p.what for p in found), found


def test_dashboards_have_no_problems() -> None:
    assert checks.check() == []
    assert checks.check(models=generate.dashboards(synthetic.directory())) == []
