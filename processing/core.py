"""The core: ``step(state, directory, observations, now) -> (state, results)``.

Everything that decides comes in as an argument: readings, the directory, the time, the operator's actions. Fed again
with the same arguments, it gives the same results; that is how a killed pipeline resumes and how a recording replays.

Flags, windows and level alarms depend on the set of readings, not on their order: one that comes late is put where it
belongs, and what then turns out differently is told again (``processing.revision``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from processing.advance import advance, settle
from processing.alarms import NEVER, TransitionLog, acknowledge, follow_ladders, ladder_marks, marks, run_out
from processing.quality import gross_range
from processing.revision import revise
from processing.silence import DEAF, follow_watch, judge_brokers, judge_silence, listening_of
from processing.state import HALF, RING, State
from processing.windows import kinds_of_mean, sweep
from telemetry.alarms import Acknowledge, AlarmKind, AlarmState
from telemetry.brokers import BrokerLink
from telemetry.directory import Directory
from telemetry.observations import NS_PER_S, Observations
from telemetry.presence import Presence
from telemetry.quality import UNKNOWN
from telemetry.results import Results, Transitions, Windows

__all__ = ["HALF", "LATENESS_S", "RING", "State", "step"]

LATENESS_S = 5.0
"""Windows and delays wait this long for readings that are on their way."""

Bools = npt.NDArray[np.bool_]


def step(
    state: State,
    directory: Directory,
    observations: Observations,
    now: int,
    *,
    brokers: Sequence[BrokerLink] | None = None,
    listening_since: int | None = None,
    actions: Sequence[Acknowledge] = (),
    presence: Sequence[Presence] = (),
) -> tuple[State, Results]:
    """Take in a batch of readings and the time, and say what follows.

    Parameters
    ----------
    state : State
        From the step before, or ``State.for_directory``. It is used up: go on with the returned one.
    directory : Directory
        May be newer than in the step before, never older.
    observations : Observations
        In any order, duplicates included; may be empty, to let time pass.
    now : int
        The present. If it goes back, as a clock that is corrected does, nothing is undone. [ns since 1970 UTC]
    brokers : sequence of BrokerLink or None
        How we hear each broker, in the order of the settings. Silence of a device is judged by the broker through
        which it was last heard.
    listening_since : int or None
        In place of ``brokers``, where these are not known: since when every broker has been heard; None while one is
        not. There are no alarms of brokers then. [ns since 1970 UTC]
    actions : sequence of Acknowledge
        What operators did since the step before.
    presence : sequence of Presence
        Births and deaths of devices that were told of since the step before, in the order in which they came. A death
        is a silence alarm at once.

    Returns
    -------
    State
    Results
        Flags, windows and alarm changes. Delays take effect ``LATENESS_S`` after they have run out, dated when they
        did. A ladder or a limit that is changed by a newer directory takes effect at once, and settles what came
        before it. A reading that is older than others of its datastream is judged as if it had come in time, as long
        as no more than ``HALF`` readings of the datastream have overtaken it; what is different then is in
        ``Results.corrected``, in ``Results.windows`` and, with the state WITHDRAWN for what never was, in
        ``Results.transitions``. What comes later still is checked for range only, and named in ``Results.late``.
        Silence is a matter of when we heard, so there the order counts.

    Raises
    ------
    ValueError
        A datastream or device index lies outside the directory, or the directory has become smaller.
    """
    state = state.grown_to(directory)
    streams, devices = len(directory.datastreams), len(directory.devices)
    if len(observations) and not (observations.datastream.min() >= 0 and observations.datastream.max() < streams):
        raise ValueError(f"datastream index outside the directory's 0..{streams - 1} (version {directory.version})")
    if (stranger := next((p.device for p in presence if not 0 <= p.device < devices), None)) is not None:
        raise ValueError(
            f"device index {stranger} outside the directory's 0..{devices - 1} (version {directory.version})"
        )
    changes: list[Transitions] = []
    if directory.version != state.directory_version:
        changes += _follow(state, directory, now)
    order = np.lexsort((observations.observed_at, observations.datastream))
    batch = observations.take(order)
    duplicate, lost, revised = _sort_out(state, batch)
    flag = np.full(len(batch), UNKNOWN, dtype=np.uint8)
    if lost.any():
        flag[lost] = _range_of(directory, batch.take(lost))
    watermark = now - round(LATENESS_S * NS_PER_S)
    windows: list[Windows] = []
    levels: list[Transitions] = []
    rows = np.flatnonzero(~(duplicate | lost | revised))
    if rows.size:
        flag[rows], advanced = advance(state, directory, batch.take(rows), watermark)
        windows += advanced.windows
        levels += advanced.transitions
    rows = np.flatnonzero(revised)
    corrected = Observations.empty()
    if rows.size:
        flag[rows], revision = revise(state, directory, batch.take(rows), watermark)
        windows += revision.windows
        levels += revision.transitions
        corrected = revision.corrected
    if watermark > state.due_from:
        ran_out, state.due_from = run_out(state.level, directory, watermark)
        levels.append(ran_out)
    windows += _sweep(state, directory, watermark)
    device = directory.installed.device_at(batch.datastream, batch.observed_at)
    heard = np.flatnonzero(~duplicate & (device >= 0))
    if brokers is None:
        listening = np.array([DEAF if listening_since is None else listening_since], dtype=np.int64)
    else:
        listening = listening_of(brokers)
        state.brokers = state.brokers.grown_to(len(brokers))
        changes.append(judge_brokers(state.brokers, directory, brokers, now))
    silence = judge_silence(
        state.silence,
        directory,
        device[heard],
        batch.observed_at[heard],
        batch.received_at[heard],
        batch.broker[heard],
        watermark,
        listening,
        presence,
    )
    _keep_told(state, levels)
    changes += [*levels, silence]
    if actions:
        changes.append(_act(state, directory, actions, watermark))
    kept = np.flatnonzero(~duplicate)
    readings = batch.take(kept)
    results = Results(
        readings=Observations(
            readings.datastream,
            readings.observed_at,
            readings.received_at,
            readings.value,
            flag[kept],
            readings.broker,
            readings.remark,
        ),
        windows=Windows.concat(windows) if windows else Windows.empty(),
        transitions=Transitions.concat(changes) if changes else Transitions.empty(),
        duplicates=batch.datastream[duplicate],
        duplicate_devices=device[duplicate],
        late=batch.datastream[lost],
        late_devices=device[lost],
        duplicate_at=batch.observed_at[duplicate],
        late_at=batch.observed_at[lost],
        corrected=corrected,
    )
    return state, results


def _follow(state: State, directory: Directory, now: int) -> list[Transitions]:
    """Let the rules of a newer directory take effect."""
    # Other delays may be in force: look at everybody.
    # The devices of the first directory have been watched for as long as we listen.
    since = NEVER if state.directory_version < 0 else now
    state.directory_version = directory.version
    state.due_from = state.silence.due_from = NEVER
    ladder = ladder_marks(directory)
    rules = marks(
        ladder.shape[0],
        ladder.view(np.float64),
        directory.fail_min,
        directory.fail_max,
        directory.suspect_min,
        directory.suspect_max,
        directory.rate_max_per_s,
        directory.flat_tolerance,
        directory.flat_suspect_s,
        directory.flat_fail_s,
    )
    changes = [
        follow_ladders(state.level, directory, np.flatnonzero(ladder != state.ladder), now),
        follow_watch(state.silence, directory, now, since),
    ]
    settle(state, np.flatnonzero(rules != state.rules))
    state.ladder, state.rules = ladder, rules
    return changes


def _sort_out(state: State, batch: Observations) -> tuple[Bools, Bools, Bools]:
    """Say of each row of a sorted batch whether it is a duplicate, is lost, or belongs among what is known already.

    At most one of the three holds for a row; rows of which none does simply come next. A datastream's rows all come
    next or all are put in among the others.
    """
    n = len(batch)
    stream, at = batch.datastream, batch.observed_at
    duplicate = np.zeros(n, dtype=np.bool_)
    lost = np.zeros(n, dtype=np.bool_)
    revised = np.zeros(n, dtype=np.bool_)
    if not n:
        return duplicate, lost, revised
    duplicate[1:] = (stream[1:] == stream[:-1]) & (at[1:] == at[:-1])
    out_of_turn = (at <= state.newest_at[stream]) | (at <= state.live["level"]["run_out_at"][stream])
    older = np.flatnonzero(out_of_turn & ~duplicate)
    if older.size:
        seen = (state.ring.at[stream[older]] == at[older, None]).any(axis=1)
        beyond = ~seen & (at[older] <= state.base["newest_at"][stream[older]])
        duplicate[older[seen]] = True
        lost[older[beyond]] = True
        placed = older[~seen & ~beyond]
        if placed.size:
            touched = np.zeros(state.live.shape[0], dtype=np.bool_)
            touched[stream[placed]] = True
            revised = touched[stream] & ~duplicate & ~lost
    return duplicate, lost, revised


def _range_of(directory: Directory, late: Observations) -> npt.NDArray[np.uint8]:
    stream = late.datastream
    return gross_range(
        late.value,
        directory.fail_min[stream],
        directory.fail_max[stream],
        directory.suspect_min[stream],
        directory.suspect_max[stream],
    )


def _sweep(state: State, directory: Directory, watermark: int) -> list[Windows]:
    """Publish the windows whose end the watermark has passed since the step before."""
    # Days begin at no full multiple of their width: a minute is what all widths have in common.
    boundary = watermark // (60 * NS_PER_S) * 60 * NS_PER_S
    if boundary <= state.swept_to:
        return []
    state.swept_to = boundary
    kind = kinds_of_mean(directory)
    return [rows for window in state.windows if (rows := sweep(window, kind, watermark)) is not None]


def _keep_told(state: State, levels: list[Transitions]) -> None:
    """Remember the changes of level alarms that a late reading may still change."""
    levels = [t for t in levels if len(t)]
    if not levels:
        return
    told = Transitions.concat([state.told, *levels])
    may_change = told.at > state.base["occurrence"]["changed_at"][told.subject]
    state.told = told.take(may_change & (told.state != AlarmState.WITHDRAWN))


def _act(state: State, directory: Directory, actions: Sequence[Acknowledge], watermark: int) -> Transitions:
    occurrences = {
        AlarmKind.LEVEL: state.level.occurrence,
        AlarmKind.SILENCE: state.silence.occurrence,
        AlarmKind.BROKER: state.brokers,
    }
    logs = {kind: TransitionLog(kind, directory.version) for kind in occurrences}
    for action in actions:
        done = acknowledge(occurrences[action.kind], logs[action.kind], action)
        if done and action.kind == AlarmKind.LEVEL:
            i = action.subject
            newest = int(state.newest_at[i])
            state.acted.add(i, newest, watermark, action.at)
            for record in (state.middle, state.base):
                if record["newest_at"][i] == newest:
                    record[i] = state.live[i]
    state.acted.keep(state.acted.after > state.base["newest_at"][state.acted.subject])
    columns = {kind: log.columns() for kind, log in logs.items()}
    _keep_told(state, [columns[AlarmKind.LEVEL]])
    return Transitions.concat(list(columns.values()))
