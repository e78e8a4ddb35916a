"""Exponents from optima without losses: best points of grids, whose spacing is their error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponent import Details, axis_of, forms_of, law_fit, law_parts, optimum_of
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.law import MIN_WIDTHS, laws_where
from mutransfer_cli.spec.rounding import merged


def fit_optima(
    optima: pd.DataFrame, axis: str, spacing: float, scatter_below: float | None = None
) -> Axis:
    """Fit the exponent of optima that were read off grids.

    The true optimum lies anywhere within half a spacing of the best point: a variance of
    spacing^2 / 12. Several rows of a width, such as seeds, are averaged; they share the grid, so
    that their number does not reduce the error.

    Args:
        optima: one row per optimum with columns `width` and `axis`.
        spacing: spacing of the grids, octaves.

    Raises:
        InputError: an optimum that has no logarithm.
    """
    by_width = log2_of(optima[axis]).groupby(optima["width"])
    widths, means = by_width.size().index.tolist(), by_width.mean().tolist()
    u_GK, y_GK = np.log2(np.array([widths], dtype=np.float64)), np.array([means])
    used_GK = np.ones((1, len(means)), dtype=bool)
    covariance_GKK = spacing**2 / 12 * np.eye(len(means))[None]
    enough_G, freedom_G = used_GK.sum(1) >= MIN_WIDTHS, np.array([np.inf])
    at = (u_GK, y_GK, covariance_GKK, freedom_G)
    laws = laws_where(enough_G, used_GK, *at, law_fit(scatter_below))
    law: dict[str, Any] | None = None
    if enough_G[0]:
        law = law_parts(laws, 0, scatter_below)
        law["forms"] = forms_of(used_GK[0], u_GK[0], y_GK[0], covariance_GKK[0], laws, 0)
    optimum = {
        width: optimum_of(x, x - spacing / 2, x + spacing / 2, residual=laws.residual(0, width, x))
        for width, x in zip(widths, means, strict=True)
    }
    fit = axis_of(axis, optimum, law, Details(counts={}))
    resolution = f"grid resolution only: each optimum known to ±{spacing / 2:g} octave"
    return fit.model_copy(update={"sentence": f"{fit.sentence}; {resolution}"})


def grid_spacing(optima: pd.Series[float], where: str = "") -> float:
    """The smallest gap between different optima, octaves; those that rounding tells apart are one.

    Args:
        where: names the group of the optima in the error.

    Raises:
        InputError: all are the same, or one has no logarithm.
    """
    gaps = np.diff(np.unique(log2_of(merged(optima)).to_numpy()))
    if not gaps.size:
        raise InputError(
            f"all optima of {optima.name}{where} are the same, so that the spacing of their grid "
            "cannot be seen; give it in octaves",
            remedy="grid_spacing",
        )
    return float(gaps.min())


def log2_of(optima: pd.Series[float]) -> pd.Series[float]:
    if (optima <= 0).any():
        raise InputError(f"an optimal {optima.name} of 0 has no logarithm; leave such rows out")
    return optima.map(math.log2)
