"""Gate `spectrum`: are the top singular values of the hidden matrices alike at all widths?"""

from __future__ import annotations

import pandas as pd
from scipy import stats

from mutransfer_cli.check.measure import gate, measure, unmeasured
from mutransfer_cli.files.check import Gate
from mutransfer_cli.fit.result import LEVEL
from mutransfer_cli.fit.slopes import width_slopes

TOLERANCE = 0.1  # rules of weight decay lie 1/4 apart
QUANTITY = "exponent of the top singular values of hidden matrices"


def spectrum_gate(values: pd.DataFrame, tolerance: float = TOLERANCE) -> Gate:
    """Of trials of one base rate at their end (Fan et al. 2025, arXiv 2510.15262).

    The interval is that of the mean over matrices and seeds.

    Args:
        values: columns name, seed, width, value; hidden matrices only.
    """
    widths = sorted(values["width"].unique())
    if len(widths) < 2:
        why = f"it takes two widths or more with diagnostics, there are {len(widths)}"
        return gate("spectrum", [unmeasured(QUANTITY, why, 0.0, tolerance, "")])
    slopes = width_slopes(values).to_numpy()
    if len(slopes) < 2:
        why = "it takes two matrices or seeds for an interval"
        return gate("spectrum", [unmeasured(QUANTITY, why, 0.0, tolerance, "")])
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(slopes) - 1) * stats.sem(slopes))
    mean = float(slopes.mean())
    found = measure(
        QUANTITY,
        mean,
        (mean - half, mean + half),
        0.0,
        tolerance,
        deciding="more seeds narrow it",
    )
    return gate("spectrum", [found], evidence={"widths": ", ".join(map(str, widths))})
