"""How good the river forecast is on recorded floods that it was not trained on, beside the straight line.

Run: ``python -m benchmarks.forecast``; it prints the tables of docs/forecast.md.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

from benchmarks.recorded_floods import Case, cases, hadfields_2007, short
from processing.forecast import STEP_NS, Forecast, Nowcast, forecast, line
from processing.forecast_fit import FitSettings, fit, flood_rows
from processing.indicators.stage import rate_of_rise

Floats = npt.NDArray[np.float64]
MINUTES_PER_STEP = 15


def errors(case: Case, model: Nowcast) -> tuple[Forecast, Floats, dict[str, Floats], npt.NDArray[np.bool_]]:
    """The forecasts, what came true, the (n, leads) errors of each method, and the rows of flood."""
    stage = case.test.stage_m
    made = forecast(model, case.test)
    truth = np.full((stage.shape[0], model.leads.shape[0]), np.nan)
    for i, lead in enumerate(model.leads.tolist()):
        truth[:-lead, i] = stage[lead:]
    leads = tuple(model.leads.tolist())
    last_step = stage[:, None] + np.diff(stage, prepend=np.nan)[:, None] * model.leads
    methods = {
        "model": made.stage_m - truth,
        "line": line(stage, leads) - truth,
        "line of 15 min": last_step - truth,
        "persistence": stage[:, None] - truth,
    }
    known = ~np.isnan(sum(methods.values()))  # all methods are judged by the same rows
    known[: case.judged_from] = False
    return (
        made,
        truth,
        {name: np.where(known, error, np.nan) for name, error in methods.items()},
        flood_rows(stage, FitSettings(flood_stage_m=case.flood_stage_m, rising_m=case.rising_m)),
    )


COLUMNS = (
    "lead",
    "to be used",
    "n",
    "RMSE model",
    "line",
    "line of 15 min",
    "persistence",
    "model/line",
    "MAE model",
    "line",
    "bias",
    "in band",
    "all: n",
    "RMSE model",
    "line",
    "persistence",
    "model/line",
    "in band",
)


def report(case: Case) -> None:
    """Print the table of one case."""
    model = fit(case.train, FitSettings(flood_stage_m=case.flood_stage_m, rising_m=case.rising_m))
    made, truth, methods, flood = errors(case, model)
    inputs = ["own stage"] + ["upstream"] * bool(model.upstream.size) + ["rain"] * bool(model.rain.size)
    high = f"at {case.flood_stage_m:g} m and above, or " if np.isfinite(case.flood_stage_m) else ""
    print(f"\n**{case.name}.** Inputs chosen: {', '.join(inputs)}; floods in the history: {model.floods};")
    print(f"rows of flood: {high}risen by {100 * case.rising_m:g} cm over half an hour.\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for i, lead in enumerate(model.leads.tolist()):
        verdict = f"{'yes' if model.used[i] else 'no'} ({model.rmse_ratio[i]:.3f})"
        cells = [f"{lead * MINUTES_PER_STEP} min", verdict]
        for rows in (flood, np.ones(flood.shape, np.bool_)):
            row = rows & ~np.isnan(methods["model"][:, i])
            rmse = {name: float(np.sqrt(np.mean(e[row, i] ** 2))) for name, e in methods.items()}
            mae = {name: float(np.mean(np.abs(e[row, i]))) for name, e in methods.items()}
            inside = (made.low_m[row, i] <= truth[row, i]) & (truth[row, i] <= made.high_m[row, i])
            ratio = f"{rmse['model'] / rmse['line']:.2f}"
            cells += [str(int(row.sum()))]
            if rows is flood:
                cells += [f"{100 * value:.2f}" for value in rmse.values()]
                cells += [ratio, f"{100 * mae['model']:.2f}", f"{100 * mae['line']:.2f}"]
                cells += [f"{100 * float(np.mean(methods['model'][row, i])):+.2f}"]
            else:
                cells += [f"{100 * rmse[name]:.2f}" for name in ("model", "line", "persistence")] + [ratio]
            cells += [f"{float(np.mean(inside)):.0%}"]
        print("| " + " | ".join(cells) + " |")


def slope_range(name: str, stage_m: Floats) -> None:
    """How often the rise over the next half hour lies in the range of the rate of rise, while the water rises."""
    for readings in (3, 5):
        newest = np.arange(readings - 1, stage_m.shape[0] - 2)
        rows = newest[:, None] - np.arange(readings)
        at, value = rows * STEP_NS, stage_m[rows]
        rise = rate_of_rise(at, value, np.ones(at.shape, np.bool_), at[:, 0], span_ns=(readings - 1) * STEP_NS)
        next_m_per_h = (stage_m[newest + 2] - stage_m[newest]) / 0.5
        known = (stage_m[newest] - stage_m[newest - 2] >= 0.02) & ~np.isnan(next_m_per_h + rise.m_per_h)
        inside = (rise.low_m_per_h <= next_m_per_h) & (next_m_per_h <= rise.high_m_per_h)
        told = float(rise.coverage[known].mean())
        print(f"{name}: {readings} readings, {int(known.sum())} cases, range of {told:.0%}: {inside[known].mean():.0%}")


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("Errors in cm. To be used: the gate's verdict, with model/line in the floods held out in training.")
    print("The line is that of 30 min; the band is meant to hold 90 %.")
    every = list(cases())
    for case in every:
        report(case)
    print("\nRise over the next half hour in the range of the rate of rise, where risen by 2 cm in half an hour:")
    slope_range("Hadfields, 2007", hadfields_2007()[1])
    slope_range("Rotherham, 2019", short("don_rotherham_2019"))
    longest = every[1]
    start = time.process_time()
    model = fit(longest.train)
    fitted = time.process_time()
    newest = slice(-model.steps_needed, None)
    for _ in range(20):
        forecast(model, type(longest.train)(longest.train.stage_m[newest]))
    done = time.process_time()
    print(f"\nFit of {longest.train.stage_m.shape[0]} steps: {fitted - start:.2f} s of one core; ", end="")
    print(f"one forecast from the newest {model.steps_needed} steps: {(done - fitted) / 20 * 1000:.2f} ms.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
