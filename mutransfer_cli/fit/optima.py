"""Exponents from optima without losses: best points of grids, whose spacing is their error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponent import fit_of, forms_of, laws_of
from mutransfer_cli.fit.result import Bowl, Fit
from mutransfer_cli.fit.table import SAME


def fit_optima(
    optima: pd.DataFrame, axis: str, spacing: float, scatter_below: float | None = None
) -> Fit:
    """The exponent of optima that were read off grids.

    The true optimum lies anywhere within half a spacing of the best point: a variance of
    spacing^2 / 12. Several rows of a width, such as seeds, are averaged; they share the grid, so
    that their number makes no error smaller.

    Args:
        optima: one row an optimum with columns `width` and `axis`.
        spacing: of the grids, octaves.

    Raises:
        InputError: an optimum that has no logarithm.
    """
    by_width = log2_of(optima[axis]).groupby(optima["width"])
    widths, counts = by_width.size().index.tolist(), by_width.size().tolist()
    means = by_width.mean().tolist()
    bowls = {
        width: Bowl("ok", optimum=x, low=x - spacing / 2, high=x + spacing / 2, n=n)
        for width, x, n in zip(widths, means, counts, strict=True)
    }
    used = np.ones((1, len(means)), dtype=bool)
    u, y = np.log2(np.array([widths], dtype=np.float64)), np.array([means])
    covariance = spacing**2 / 12 * np.eye(len(means))[None]
    (law,) = laws_of(used, u, y, covariance, np.array([np.inf]), scatter_below)
    if law is not None:
        law = replace(law, forms=forms_of(used[0], u[0], y[0], covariance[0], law))
    fit = fit_of(axis, bowls, law)
    resolution = f"grid resolution only: each optimum known to +-{spacing / 2:g} octave"
    return replace(fit, sentence=f"{fit.sentence}; {resolution}")


def grid_spacing(optima: pd.Series[float], where: str = "") -> float:
    """The smallest gap between different optima, octaves.

    Args:
        where: whose they are, for the error.

    Raises:
        InputError: all are the same, or one has no logarithm.
    """
    gaps = np.diff(np.unique(log2_of(optima).to_numpy().round(SAME)))
    if not gaps.size:
        raise InputError(
            f"all optima of {optima.name}{where} are the same, so that the spacing of their grid "
            "cannot be seen; give it in octaves with --grid-spacing"
        )
    return float(gaps.min())


def log2_of(optima: pd.Series[float]) -> pd.Series[float]:
    if (optima <= 0).any():
        raise InputError(f"an optimal {optima.name} of 0 has no logarithm; leave such rows out")
    return optima.map(math.log2)
