"""How far the form of the bowls moves the exponent, over resampled losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mutransfer_cli.fit.bowls import Bowls, fit_bowls
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.law import weighted_line
from mutransfer_cli.fit.result import LEVEL

Array = npt.NDArray[np.float64]

SEED = 0


def form_interval(
    cells: Cells,
    bowls: Bowls,
    first_noise: Array,
    sweep: int,
    used: npt.NDArray[np.bool_],
    scatter: float,
    resamples: int,
) -> tuple[float, float]:
    """Interval at LEVEL of the form spread of one sweep: its exponent minus that of parabolas.

    Every draw adds normal noise of the width's own size to the mean loss of each cell and fits all
    widths again, all draws at once. An interval without 0 says that the form matters more than the
    noise.

    Args:
        cells: as fitted, broken ones left out.
        first_noise: as fitted with, [G].
        used: widths that the exponent is fitted to, [K].
        scatter: of the law, octaves; weighs the widths as there.
    """
    random = np.random.default_rng(SEED)
    one = {name: values[sweep] for name, values in vars(cells).items()}
    drawn = {name: np.repeat(values[None], resamples, axis=0) for name, values in one.items()}
    noise = bowls.noise[sweep][:, None] * random.standard_normal(drawn["mean"].shape)
    mean = np.where(drawn["n"] > 0, drawn["mean"] + noise, 0.0)
    # without the seeds' own losses; their noise is in the draws
    drawn |= {"mean": mean, "losses": np.where(drawn["n"] > 0, mean, np.nan)[..., None]}
    refitted = fit_bowls(Cells(**drawn), np.repeat(first_noise[sweep], resamples))
    u = drawn["log2_width"][:, used]
    covariance = bowls.covariance[sweep][np.ix_(used, used)] + scatter**2 * np.eye(used.sum())
    tilted, parabola = (
        weighted_line(u, optimum[:, used], np.repeat(covariance[None], resamples, axis=0)).slope
        for optimum in (refitted.optimum, refitted.parabola)
    )
    low, high = np.quantile(tilted - parabola, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
