"""Across widths: two forms beside the straight line, to show how far a prediction depends on it.

Shapes: G fits at once, K widths, P coefficients. Everything in log2 units (octaves).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mutransfer_cli.fit.law import EXACT, with_scatter

Array = npt.NDArray[np.float64]

MIN_WIDTHS_OF_FORMS = 5


@dataclass(frozen=True)
class FormFits:
    """log2 optimum at x = log2 width - centre by two forms; all [G], log2 units.

    curved: value + exponent * x + bend * x^2.
    saturating: limit + drift * 2^-x.

    Attributes:
        centre: mean log2 width.
        exponent: the slope at the centre.
        bend: half the change of the slope per octave of width.
        bend_error: standard error, of K - 3 degrees of freedom.
        limit: at infinite width.
        drift: how far the optimum at the centre lies from the limit.
        drift_error: standard error, of K - 2 degrees of freedom.
    """

    centre: Array
    value: Array
    exponent: Array
    bend: Array
    bend_error: Array
    limit: Array
    drift: Array
    drift_error: Array


def fit_forms(log2_width: Array, optimum: Array, covariance: Array, scatter: Array) -> FormFits:
    """A parabola, and the c / n drift of an optimum that transfers (arXiv 2505.02222).

    Args:
        log2_width, optimum: [G, K], K at least MIN_WIDTHS_OF_FORMS.
        covariance: of the optima's measurement errors, [G, K, K].
        scatter: of the optima about the straight line, [G]. It only weighs the widths: it contains
            the bend, so the errors are scaled by the residuals of the form.
    """
    k = log2_width.shape[1]
    assert k >= MIN_WIDTHS_OF_FORMS, "callers refuse fewer widths"
    covariance = covariance + EXACT * np.eye(k)
    centre = log2_width.mean(1)
    x = log2_width - centre[:, None]
    ones = np.ones_like(x)
    curved, curved_error = _least_squares([ones, x, x**2], optimum, covariance, scatter)
    saturating, saturating_error = _least_squares([ones, 2.0**-x], optimum, covariance, scatter)
    return FormFits(
        centre=centre,
        value=curved[:, 0],
        exponent=curved[:, 1],
        bend=curved[:, 2],
        bend_error=curved_error[:, 2],
        limit=saturating[:, 0],
        drift=saturating[:, 1],
        drift_error=saturating_error[:, 1],
    )


def _least_squares(
    columns: list[Array], y: Array, covariance: Array, scatter: Array
) -> tuple[Array, Array]:
    """Coefficients and standard errors, [G, P], of y [G, K] on columns of [G, K] each.

    Standard errors as of the line's slope: sqrt(Q / (K - P)) times that of V = covariance +
    scatter^2 I, Q = r' V^-1 r (Knapp & Hartung 2003), never below that of the measurement alone.
    """
    z = np.stack(columns, axis=-1)
    gain, variance = _gain(z, with_scatter(covariance, scatter))
    coefficient = np.einsum("gpk,gk->gp", gain, y)
    residual = y - np.einsum("gkp,gp->gk", z, coefficient)
    weighted = np.linalg.solve(with_scatter(covariance, scatter), residual[..., None])[..., 0]
    scale = (residual * weighted).sum(1) / (z.shape[1] - z.shape[2])
    _, measurement = _gain(z, covariance)
    return coefficient, np.sqrt(np.maximum(scale[:, None] * variance, measurement))


def _gain(z: Array, covariance: Array) -> tuple[Array, Array]:
    """(Z' V^-1 Z)^-1 Z' V^-1, [G, P, K], and the diagonal of (Z' V^-1 Z)^-1, [G, P]."""
    weighted = np.swapaxes(np.linalg.solve(covariance, z), 1, 2)
    inverse = np.linalg.inv(weighted @ z)
    return np.einsum("gpq,gqk->gpk", inverse, weighted), np.einsum("gpp->gp", inverse)
