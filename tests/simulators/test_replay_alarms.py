"""The recordings that come with Pantau, through the real core (without broker and pages), and their scores.

Expected times are read off each truth.json, whose windows were computed from the files by other code.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from processing.core import State, step
from simulators.recording import Recording, load_recording
from simulators.replay_report import score_by_severity
from telemetry.alarms import AlarmKind
from telemetry.directory import Directory
from telemetry.observations import Observations, rfc3339
from telemetry.results import Transitions

RECORDINGS = Path(__file__).parents[2] / "simulators" / "recordings"
H = 3600.0


def alarms_of(recording: Recording, steps_per_batch: int) -> list[dict]:
    """Alarms of the core, in the form of ``GET /api/alarms``, as far as scoring needs it."""
    directory = Directory(
        1, recording.city, recording.utc_offset_h, recording.sites, recording.devices, recording.datastreams
    )
    state = State.for_directory(directory)
    found: list[Transitions] = []
    stored = 0
    edges = [*np.unique(recording.observed_at, return_index=True)[1][::steps_per_batch], len(recording)]
    for a, b in pairwise(edges):
        part = Observations.of(recording.datastream[a:b], recording.observed_at[a:b], recording.value[a:b])
        now = int(recording.observed_at[b - 1])
        state, results = step(state, directory, part, now, listening_since=recording.start)
        stored += len(results.readings)
        found.append(results.transitions)
    assert stored == len(recording)
    t = Transitions.concat(found)
    alarms: dict[tuple[int, int, int], dict] = {}
    for i in range(len(t)):
        level = t.kind[i] == AlarmKind.LEVEL
        subject = directory.datastreams[t.subject[i]].id if level else directory.devices[t.subject[i]].id
        alarm = alarms.setdefault(
            (int(t.kind[i]), int(t.subject[i]), int(t.raised_at[i])),
            {"kind": "level" if level else "silence", "subject": subject, "transitions": []},
        )
        alarm["transitions"].append({"at": rfc3339(int(t.at[i])), "severity": int(t.severity[i])})
    return list(alarms.values())


@pytest.mark.parametrize("steps_per_batch", [300, 5000])
def test_don_2007_floods_are_warned_of_in_time(steps_per_batch):
    recording = load_recording(RECORDINGS / "don_hadfields_2007")
    alarms = alarms_of(recording, steps_per_batch)
    waspada, siaga, awas = score_by_severity(alarms, recording, recording.end)
    # 2.9 m from 06-15 07:00 and from 06-25 12:15; 2.0 m from 04:00 and 10:00; 1.5 m from 01:00 and 09:00.
    assert (awas.hits, awas.misses, awas.false_alarms, awas.leads_s) == (2, 0, 0, (0.0, 0.0))
    assert (siaga.hits, siaga.misses, siaga.false_alarms, siaga.leads_s) == (2, 0, 0, (3 * H, 2.25 * H))
    # 1.5 m was also passed on 01-18 and on 06-15 18:30, after the first flood: two rises without a flood.
    assert (waspada.hits, waspada.misses, waspada.false_alarms, waspada.leads_s) == (2, 0, 2, (6 * H, 3.25 * H))
    assert (waspada.pod, waspada.far, waspada.csi, waspada.bias) == (1.0, 0.5, 0.5, 2.0)
    # The two missing runs of the year, each longer than the two hours of silence_after_s after the last reading.
    silences = [a["transitions"][0]["at"] for a in alarms if a["kind"] == "silence"]
    assert silences == ["2007-11-21T11:00:00Z", "2007-11-30T11:30:00Z"]


def test_calder_2025_stays_quiet():
    recording = load_recording(RECORDINGS / "calder_2025")
    assert [a for a in alarms_of(recording, 100) if a["kind"] == "level"] == []


def test_short_floods_are_all_found():
    recording = load_recording(RECORDINGS / "floods_short")
    awas = [
        (a["subject"], next(c["at"][:4] for c in a["transitions"] if c["severity"] == 3))
        for a in alarms_of(recording, 100)
        if any(c["severity"] == 3 for c in a["transitions"])
    ]
    # Peaks above the flood level: Rotherham 2007 and 2019 (1.9 m), Hadfields 2019 (2.9 m).
    assert {("don-rotherham.water_level_m", "2007"), ("don-rotherham.water_level_m", "2019")} <= set(awas)
    assert ("don-hadfields.water_level_m", "2019") in awas


def test_marylebone_2015_names_every_hour_over_the_limit():
    recording = load_recording(RECORDINGS / "marylebone_2015")
    alarms = [a for a in alarms_of(recording, 100) if a["kind"] == "level"]
    index = [s.id for s in recording.datastreams].index("marylebone-air.no2_ug_m3")
    mine = recording.datastream == index
    over = recording.value[mine] > 200
    # Each run of hours over the limit is one alarm. The truth counts 58 hours.
    assert over.sum() == 58
    assert len(alarms) == (np.diff(over.astype(int)) == 1).sum()
    assert max(c["severity"] for a in alarms for c in a["transitions"]) == 2
