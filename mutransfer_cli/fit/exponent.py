"""The fit of one axis: a table of trials in, optima and exponent with interval out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.fit.bowl import Bowl, Cells, fit_bowls
from mutransfer_cli.fit.scaling import MIN_WIDTHS, Law, fit_law

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

LEVEL = 0.95


@dataclass(frozen=True)
class Fit:
    """The exponent of one hyperparameter's optimum in width.

    Attributes:
        axis: the hyperparameter.
        status: `ok`, or `insufficient` when fewer than three widths have a usable optimum.
        sentence: the status for a person, with what to do.
        level: of every interval.
        bowls: by width, log2 units.
        law: the line across widths; None when insufficient.
    """

    axis: str
    status: Literal["ok", "insufficient"]
    sentence: str
    level: float
    bowls: dict[int, Bowl]
    law: Law | None


def fit_exponent(
    trials: pd.DataFrame,
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "eval_loss",
) -> Fit:
    """Fits log2 optimum of `axis` against log2 width.

    Args:
        trials: one row a trial with columns `width`, `axis` (positive) and `loss` (nats; NaN or
            infinite for a diverged trial), and `seed` where there are several. Rows that repeat
            all of these are replicates.
        others: columns of further axes; at each value of `axis` the best of them counts.
    """
    trials = profile(trials, axis, others, loss)
    cells = {
        width: _cells(trials[trials["width"] == width], axis, loss)
        for width in sorted(int(width) for width in trials["width"].unique())
    }
    bowls, freedom = fit_bowls(cells, LEVEL)
    good = [(width, bowl) for width, bowl in bowls.items() if bowl.status == "ok"]
    if len(good) < MIN_WIDTHS:
        return Fit(axis, "insufficient", _why_insufficient(axis, bowls), LEVEL, bowls, None)
    law = fit_law(
        np.log2([width for width, _ in good]),
        np.array([bowl.optimum for _, bowl in good], dtype=np.float64),
        np.array([bowl.standard_error for _, bowl in good], dtype=np.float64),
        freedom,
        LEVEL,
    )
    sentence = (
        f"the optimal {axis} goes as width^{law.exponent:+.3f} "
        f"({LEVEL:.0%} interval {law.exponent - law.half_width:+.3f} to "
        f"{law.exponent + law.half_width:+.3f}, {law.widths} widths)"
    )
    if law.widths == MIN_WIDTHS:
        sentence += "; scatter between widths cannot be learned from 3 widths: add widths"
    return Fit(axis, "ok", sentence, LEVEL, bowls, law)


def profile(trials: pd.DataFrame, axis: str, others: Sequence[str], loss: str) -> pd.DataFrame:
    """The rows of the best combination of `others` at each width and value of `axis`.

    Best is the least mean loss over seeds; a combination in which a trial diverged comes last.
    """
    if not others:
        return trials
    cell = ["width", axis]
    ranked = trials[loss].where(np.isfinite(trials[loss]), np.inf)
    means = ranked.groupby([trials[key] for key in [*cell, *others]]).mean()
    best = means.groupby(level=cell).idxmin()
    return trials.set_index([*cell, *others]).loc[list(best)].reset_index()


def _cells(at_width: pd.DataFrame, axis: str, loss: str) -> Cells:
    x = np.log2(at_width[axis].to_numpy(dtype=np.float64)).round(6)
    seed = at_width["seed"].to_numpy() if "seed" in at_width else np.zeros(len(x), dtype=int)
    value = at_width[loss].to_numpy(dtype=np.float64)
    diverged = np.unique(x[~np.isfinite(value)])
    good = ~np.isin(x, diverged)
    cells, index, count = np.unique(x[good], return_inverse=True, return_counts=True)
    return Cells(
        x=cells,
        loss=cell_means(value[good], index, np.unique(seed[good], return_inverse=True)[1]),
        n=count.astype(np.float64),
        diverged=diverged,
    )


def cell_means(value: Array, cell: Indices, seed: Indices) -> Array:
    """Mean loss of each cell over all seeds, by the additive model loss = cell + seed.

    Where every cell has every seed these are the plain means. Where a seed is missing from some
    cells, its level would otherwise look like a slope.
    """
    if not value.size:
        return np.empty(0)
    cells, seeds = int(cell.max()) + 1, int(seed.max()) + 1
    design = np.concatenate([np.eye(cells)[cell], np.eye(seeds)[seed]], axis=1)
    effects = np.linalg.lstsq(design, value, rcond=None)[0]
    means: Array = effects[:cells] + effects[cells:].mean()
    return means


def _why_insufficient(axis: str, bowls: dict[int, Bowl]) -> str:
    usable = sum(bowl.status == "ok" for bowl in bowls.values())
    reasons = [
        f"width {width} {advice(axis, bowl)}"
        for width, bowl in bowls.items()
        if bowl.status != "ok"
    ]
    if len(bowls) < MIN_WIDTHS:
        reasons.append(f"sweep {MIN_WIDTHS - len(bowls)} more widths or more")
    return (
        f"{usable} of {len(bowls)} widths have a usable optimum, {MIN_WIDTHS} are needed: "
        + "; ".join(reasons)
    )


def advice(axis: str, bowl: Bowl) -> str:
    """What a bowl that is not ok says, and what to do about it."""
    match bowl.status:
        case "ok":
            return "is ok"
        case "not_bracketed":
            further = "lower" if bowl.side == "low" else "higher"
            return f"is not_bracketed ({bowl.side}): add {further} values of {axis}"
        case "too_few_points":
            return f"has too_few_points ({bowl.n} finite): add values of {axis}"
        case "unresolved":
            return f"is unresolved: add values of {axis} near the optimum, or seeds"
