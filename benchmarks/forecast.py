"""How good the river forecast is on recorded floods that it was not trained on, beside the straight line.

Run: ``python -m benchmarks.forecast`` (add ``--markdown`` for the tables of docs/forecast.md).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

from benchmarks.recorded_floods import Case, cases
from processing.forecast import Forecast, Nowcast, forecast, line
from processing.forecast_fit import FitSettings, fit, flood_rows

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
        "line 30 min": line(stage, leads) - truth,
        "line 15 min": last_step - truth,
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


def report(case: Case, markdown: bool) -> None:
    model = fit(case.train, FitSettings(flood_stage_m=case.flood_stage_m, rising_m=case.rising_m))
    made, truth, methods, flood = errors(case, model)
    inputs = ["own stage"] + ["upstream"] * bool(model.upstream.size) + ["rain"] * bool(model.rain.size)
    print(f"\n{'### ' if markdown else ''}{case.name}\n")
    print(f"Inputs chosen: {', '.join(inputs)}. Floods to learn from: {model.floods}.")
    print("Used, by the floods held out in training: ", end="")
    verdicts = zip(model.leads.tolist(), model.used.tolist(), model.rmse_ratio.tolist(), strict=True)
    print(
        "; ".join(f"{n * MINUTES_PER_STEP} min {'yes' if used else 'no'} ({r:.2f})" for n, used, r in verdicts) + ".\n"
    )
    columns = (
        "rows",
        "lead",
        "n",
        *(f"RMSE {m}" for m in methods),
        "ratio",
        "MAE model",
        "MAE line",
        "bias",
        "in band",
    )
    print("| " + " | ".join(columns) + " |")
    if markdown:
        print("|" + "---|" * len(columns))
    for rows, chosen in (("flood", flood), ("all", np.ones(flood.shape, bool))):
        for i, lead in enumerate(model.leads.tolist()):
            error = {name: e[chosen & ~np.isnan(e[:, i]), i] for name, e in methods.items()}
            row = chosen & ~np.isnan(methods["model"][:, i])
            rmse = {name: float(np.sqrt(np.mean(e**2))) for name, e in error.items()}
            inside = (made.low_m[row, i] <= truth[row, i]) & (truth[row, i] <= made.high_m[row, i])
            cells = [rows, f"{lead * MINUTES_PER_STEP} min", str(int(row.sum()))]
            cells += [f"{100 * value:.2f}" for value in rmse.values()]
            cells += [f"{rmse['model'] / rmse['line 30 min']:.2f}"]
            cells += [f"{100 * float(np.mean(np.abs(error[m]))):.2f}" for m in ("model", "line 30 min")]
            cells += [f"{100 * float(np.mean(error['model'])):+.2f}", f"{float(np.mean(inside)):.0%}"]
            print("| " + " | ".join(cells) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print headings and table rules for the documentation")
    arguments = parser.parse_args()
    print("Errors in cm; ratio: RMSE of the model over that of the line of 30 min; the band is meant to hold 90 %.")
    every = list(cases())
    for case in every:
        report(case, arguments.markdown)
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
