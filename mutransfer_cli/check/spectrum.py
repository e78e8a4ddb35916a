"""Gate `spectrum`: whether the hidden matrices have the same top singular values at all widths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from mutransfer_cli.check.coordinates import t_interval, width_slopes
from mutransfer_cli.check.measure import Gate, gate, measure, unmeasured
from mutransfer_cli.spec.measurements import DiagnosticsRecord
from mutransfer_cli.spec.records import Records, TrialRecord
from mutransfer_cli.spec.tables import measurement_frame

TOLERANCE = 0.1  # rules of weight decay lie 1/4 apart
QUANTITY = "exponent of the top singular values of hidden matrices"


def spectrum_gate(values: pd.DataFrame, tolerance: float = TOLERANCE) -> Gate:
    """Judge the exponent of top singular values at the end of training (Fan et al. 2025, arXiv
    2510.15262).

    The interval is that of the mean over matrices and seeds.

    Args:
        values: columns name, seed, width, value; hidden matrices of trials with one base rate.
    """
    widths = sorted(values["width"].unique())
    if len(widths) < 2:
        why = f"it takes two widths or more with diagnostics, there are {len(widths)}"
        return gate("spectrum", [unmeasured(QUANTITY, why, 0.0, tolerance)])
    slopes = width_slopes(values).to_numpy()
    if len(slopes) < 2:
        why = "it takes two matrices or seeds for an interval"
        return gate("spectrum", [unmeasured(QUANTITY, why, 0.0, tolerance)])
    mean, half = t_interval(slopes)
    found = measure(
        QUANTITY,
        mean,
        (mean - half, mean + half),
        0.0,
        tolerance,
        deciding="more seeds narrow it",
    )
    return gate("spectrum", [found], evidence={"widths": ", ".join(map(str, widths))})


def hidden_at_end(
    records: Records, trials: Sequence[TrialRecord], measurements: Iterable[DiagnosticsRecord]
) -> pd.DataFrame:
    """Top singular values of hidden matrices after the last measured step.

    Args:
        measurements: in the order of the steps of each trial; other trials' are ignored.
    """
    last = {one.trial: one for one in measurements}
    ends = [last[trial.trial] for trial in trials if trial.trial in last]
    top = measurement_frame(ends, trials, "top_singular_value")
    hidden = {p.name for p in records.header.base_plan if p.role == "hidden"}
    return top[top["name"].isin(hidden)]
