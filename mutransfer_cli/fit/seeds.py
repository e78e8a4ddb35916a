"""Lines that the runs of a seed share over the cells of a sweep, and that shift whole bowls.

    loss = cell + level of the seed + slope of the seed * x + noise

Level and slope are random effects: a seed that has few of the cells says little about its own line,
which is then shrunk towards none. Runs without a seed that several cells share are replicates.
Shapes: G sweeps, K widths, C cells, S columns of runs, each of one seed where `seeded`, T points of
a grid, Q = 2 S effects (levels, then slopes).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from mutransfer_cli.fit.arrays import JITTER, LEVEL, Array, Mask

RATIOS = (0.0, 0.1, 1.0, 10.0, 100.0, 1e4)  # variance of an effect over that of the noise
PRICE = 4.0  # of an effect, in units of -2 log likelihood (Akaike 1974)
MOST_MISSING = 0.5  # of the window; a seed that lacks more does not show how it moves the optimum
LEAST_SHARED, LEAST_SHARE = 2, 1 / 3  # cells, and share of them, that tell a seed's level and slope


@dataclass(frozen=True)
class SeedLines:
    """Lines of all seeds."""

    line: Array
    """Level + slope * x of each seed at each cell, [G, K, C, S]; 0 for replicates."""
    spent: Array
    """Degrees of freedom that the lines take from the noise within cells, [G, K]."""


def seed_lines(x_GKC: Array, losses_GKCS: Array, seeded_GKS: Mask) -> SeedLines:
    """Predict level and slope of each seed (Henderson 1975) at the variances that are most likely.

    The variances of levels and of slopes, over that of the noise, are the ones on a grid whose
    restricted likelihood (Patterson & Thompson 1971), pooled over widths, is greatest; an effect is
    assumed only where it pays its PRICE.

    Args:
        x_GKC: positions of the cells, octaves; any number where there is none.
        losses_GKCS: NaN where a column has no run.
    """
    there_GKCS = ~np.isnan(losses_GKCS)
    n_GKC = there_GKCS.sum(-1)
    none = SeedLines(np.zeros_like(losses_GKCS), np.zeros(n_GKC.shape[:2]))
    mixed_G = ((n_GKC >= 2).any(-1) & (seeded_GKS.sum(-1) >= 2)).any(1)
    if not mixed_G.any():
        return none
    at = (x_GKC[mixed_G], losses_GKCS[mixed_G], there_GKCS[mixed_G], seeded_GKS[mixed_G])
    line, spent = none.line.copy(), none.spent.copy()
    line[mixed_G], spent[mixed_G] = _predicted(*at)
    return SeedLines(line, spent)


def _predicted(
    x_GKC: Array, losses_GKCS: Array, there_GKCS: Mask, seeded_GKS: Mask
) -> tuple[Array, Array]:
    """Lines, [G, K, C, S], and what they spend, [G, K], of sweeps with seeds to compare."""
    n_GKC = np.maximum(there_GKCS.sum(-1), 1)
    x_GKC = _standardised(x_GKC, np.asarray(there_GKCS.any(-1)))
    known_GKCS = np.where(there_GKCS, losses_GKCS, 0.0)
    away_GKCS = np.where(there_GKCS, known_GKCS - (known_GKCS.sum(-1) / n_GKC)[..., None], 0.0)
    # Z' P Z and Z' P y, with P the projection that takes the cell means out: within a cell
    # P = I - 1 1' / n, and a run's row of Z holds 1 and x in the two columns of its seed
    # a level needs two cells that other runs share, a slope LEAST_SHARE of all cells
    shared_GKS = (there_GKCS & (n_GKC >= 2)[..., None]).sum(2)
    cells_GK1 = there_GKCS.any(-1).sum(-1, keepdims=True)
    own_GKCS = (there_GKCS & (seeded_GKS & (shared_GKS >= LEAST_SHARED))[:, :, None]).astype(
        np.float64
    )
    sloped_GKS = shared_GKS > LEAST_SHARE * cells_GK1
    power_PGKC = np.stack([np.ones_like(x_GKC), x_GKC, x_GKC**2])
    alone_PGKS = np.einsum("pgkc,gkcs->pgks", power_PGKC, own_GKCS)
    shared_PGKSS = np.einsum("pgkc,gkcs,gkct->pgkst", power_PGKC / n_GKC, own_GKCS, own_GKCS)
    block = alone_PGKS[..., None] * np.eye(own_GKCS.shape[-1]) - shared_PGKSS
    squares_GKQQ = np.block([[block[0], block[1]], [block[1], block[2]]])
    right_GKQ = np.concatenate(
        [np.einsum("gkc,gkcs,gkcs->gks", p, own_GKCS, away_GKCS) for p in power_PGKC[:2]], axis=-1
    )
    counts_GKQ = np.concatenate([np.ones_like(sloped_GKS), sloped_GKS], axis=-1)
    squares_GKQQ = squares_GKQQ * counts_GKQ[..., None] * counts_GKQ[..., None, :]
    right_GKQ = right_GKQ * counts_GKQ
    total_G = (away_GKCS**2).sum((1, 2, 3))
    freedom_G = (there_GKCS.sum(-1) - there_GKCS.any(-1)).sum((1, 2))
    ratio_GQ = _likeliest(squares_GKQQ, right_GKQ, total_G, freedom_G)
    effect_GKQ, spent_GK = _shrunk(squares_GKQQ, right_GKQ, ratio_GQ)
    level_GKS, slope_GKS = np.split(effect_GKQ, 2, axis=-1)
    line_GKCS = level_GKS[:, :, None] + slope_GKS[:, :, None] * x_GKC[..., None]
    return line_GKCS, spent_GK


def _standardised(x_GKC: Array, there_GKC: Mask) -> Array:
    """x in standard deviations of the cells of its width, so that slopes compare with levels."""
    count_GK1 = np.maximum(there_GKC.sum(-1, keepdims=True), 1)
    centred_GKC = np.where(there_GKC, x_GKC, 0.0)
    centred_GKC = centred_GKC - centred_GKC.sum(-1, keepdims=True) / count_GK1
    centred_GKC = np.where(there_GKC, centred_GKC, 0.0)
    spread_GK1 = np.sqrt((centred_GKC**2).sum(-1, keepdims=True) / count_GK1)
    return np.asarray(centred_GKC / np.where(spread_GK1 > 0, spread_GK1, 1.0))


def _likeliest(squares_GKQQ: Array, right_GKQ: Array, total_G: Array, freedom_G: Array) -> Array:
    """Variance ratio of every effect, [G, Q], by restricted likelihood."""
    seeds = right_GKQ.shape[-1] // 2
    grid_TQ = np.array([[a] * seeds + [b] * seeds for a, b in product(RATIOS, RATIOS)])
    cost_TG = np.empty((len(grid_TQ), len(total_G)))
    floor_G = JITTER * total_G + np.finfo(float).tiny
    for t, ratio_Q in enumerate(grid_TQ):
        root_Q = np.sqrt(ratio_Q)
        # V over the noise is I + Z D Z' within cells: its determinant and inverse are of order Q
        inner_GKQQ = np.eye(2 * seeds) + root_Q[:, None] * squares_GKQQ * root_Q
        scaled_GKQ = root_Q * right_GKQ
        solved_GKQ = np.linalg.solve(inner_GKQQ, scaled_GKQ[..., None])[..., 0]
        left_G = np.maximum(total_G - (scaled_GKQ * solved_GKQ).sum((1, 2)), floor_G)
        cost_TG[t] = np.linalg.slogdet(inner_GKQQ).logabsdet.sum(1) + freedom_G * np.log(left_G)
        cost_TG[t] += PRICE * ((ratio_Q[0] > 0) + (ratio_Q[-1] > 0))
    return np.asarray(grid_TQ[cost_TG.argmin(0)])


def _shrunk(squares_GKQQ: Array, right_GKQ: Array, ratio_GQ: Array) -> tuple[Array, Array]:
    """Best linear unbiased predictions of the effects, [G, K, Q], and the trace of the map from the
    losses to them, [G, K]."""
    root_GKQ1 = np.sqrt(ratio_GQ)[:, None, :, None]
    scaled_GKQQ = root_GKQ1 * squares_GKQQ * np.swapaxes(root_GKQ1, -1, -2)
    columns = np.concatenate([root_GKQ1 * right_GKQ[..., None], scaled_GKQQ], axis=-1)
    solved = np.linalg.solve(np.eye(scaled_GKQQ.shape[-1]) + scaled_GKQQ, columns)
    spent_GK = np.trace(solved[..., 1:], axis1=-2, axis2=-1)
    return (root_GKQ1 * solved[..., :1])[..., 0], np.asarray(spent_GK)


def own_lines(away_GKCS: Array, weight_GKC: Array, columns_GKCP: Array) -> Array:
    """Level and slope of each seed's deviations alone, evaluated at all cells, [G, K, C, S].

    Args:
        away_GKCS: each loss minus its cell's mean; NaN where a seed has no trial.
        columns_GKCP: the design of level and slope.
    """
    has_GKCS = ~np.isnan(away_GKCS)
    by_seed_GKCS = weight_GKC[..., None] * has_GKCS
    # one weighted least squares for each seed over the cells that it has
    normal_GKSPP = np.einsum("gkcs,gkci,gkcj->gksij", by_seed_GKCS, columns_GKCP, columns_GKCP)
    normal_GKSPP = normal_GKSPP + JITTER * np.eye(columns_GKCP.shape[-1])
    known_GKCS = np.where(has_GKCS, away_GKCS, 0.0)
    right_GKSP = np.einsum("gkcs,gkci,gkcs->gksi", by_seed_GKCS, columns_GKCP, known_GKCS)
    shift_GKSP = np.linalg.solve(normal_GKSPP, right_GKSP[..., None])[..., 0]
    return np.asarray(np.einsum("gkci,gksi->gkcs", columns_GKCP, shift_GKSP))


def whole_deviations(
    away_GKCS: Array, weight_GKC: Array, columns_GKCP: Array
) -> tuple[Array, Mask]:
    """Deviations with the seed's own line where it has no trial, and which seeds have enough cells
    to be counted, [G, K, S]; arguments as for `own_lines`."""
    has_GKCS = ~np.isnan(away_GKCS)
    filled_GKCS = np.where(has_GKCS, away_GKCS, own_lines(away_GKCS, weight_GKC, columns_GKCP))
    there_GKS = (weight_GKC[..., None] * has_GKCS).sum(2)
    return filled_GKCS, there_GKS > MOST_MISSING * weight_GKC.sum(2)[..., None]


def inflation(
    displaced_GKS: Array, there_GKS: Mask, expected_GK: Array, freedom_G: Array
) -> tuple[Array, Array]:
    """Factor on the variance of the optima, [G], at least 1, and its degrees of freedom.

    Seeds that share their data order move whole bowls. The factor is 1 unless the seeds'
    displacements exceed by F at LEVEL what independent noise explains.

    Args:
        displaced_GKS: displacement of the optimum by each seed.
        there_GKS: which seeds count.
        expected_GK: variance of the optima by independent noise.
        freedom_G: degrees of freedom behind it.
    """
    seeds_GK = there_GKS.sum(-1)
    mean_GK = (displaced_GKS * there_GKS).sum(-1) / np.maximum(seeds_GK, 1)
    # variance of the mean over seeds, against the one that independent noise gives
    squares_GK = (there_GKS * (displaced_GKS - mean_GK[..., None]) ** 2).sum(-1)
    observed_GK = squares_GK / np.maximum(seeds_GK - 1, 1) / np.maximum(seeds_GK, 1)
    counted_GK = (seeds_GK >= 2) & np.isfinite(expected_GK)
    known_GK = np.where(counted_GK, np.maximum(expected_GK, JITTER**2), 1.0)
    ratio_GK = np.where(counted_GK, observed_GK / known_GK, 0.0)
    # mean ratio over widths, each weighted by its degrees of freedom, S - 1
    by_width_GK = np.where(counted_GK, seeds_GK - 1, 0)
    of_seeds_G = by_width_GK.sum(1).astype(np.float64)
    ratio_G = (ratio_GK * by_width_GK).sum(1) / np.maximum(of_seeds_G, 1)
    limit_G = stats.f.ppf(LEVEL, np.maximum(of_seeds_G, 1), np.maximum(freedom_G, 0.5))
    alarm_G = (of_seeds_G > 0) & (ratio_G > limit_G)
    return np.where(alarm_G, ratio_G, 1.0), np.where(alarm_G, of_seeds_G, freedom_G)
