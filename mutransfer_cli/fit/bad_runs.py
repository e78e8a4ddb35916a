"""Runs that a bowl cannot explain: broken ones above its optimum, and single bad ones.

Shapes: G sweeps, K widths, C cells, S columns of runs, T candidate bowls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from mutransfer_cli.fit.arrays import JITTER, Array, Mask, arrays_of, nanmedian, put, rows
from mutransfer_cli.fit.bowls import TILT_RANGE, Bowls, fit_bowls, misses, predicted
from mutransfer_cli.fit.cells import Cells, first_noise, low_noise
from mutransfer_cli.fit.judge import Judgements, judge
from mutransfer_cli.fit.optimum import LeftOut
from mutransfer_cli.fit.phi import reach, shape

PLACES = np.linspace(-1, 1, 9)  # of a candidate's optimum about the lowest cell, in cells
TILTS = np.linspace(-0.6, TILT_RANGE[1], 7)
PLAUSIBLE = 9.0  # chi^2 above the best candidate: three standard errors
COARSENESS = 0.003  # of the squares about the mean: what the steps of the candidates may miss
PARAMETERS = 4  # of a bowl; fewer cells do not bound where it rises
TIMES, TIMES_MIRRORED = 2.0, 3.0  # the greatest excess of a plausible bowl; that of a lower cell
DOUBTFUL, BAD = 4.5, 6.0  # standard errors off a bowl: to look closer, and to leave a run out
LEAST_OFF = 0.5  # excess losses of a low cell: a run less far off does little harm
DISCREPANCY = 0.1  # share of the excess loss that doubted bowls may be off
BETTER = 4.0  # times the mean square of the misfit with the run
ROUNDS, TOGETHER = 3, 64  # sweeps whose copies are fitted at once
MOST_CELLS = 64  # of a width; among more, one bad run does little harm
LEAST_FREEDOM = 3.0  # of the noise of a width that a bad run is measured by


@dataclass(frozen=True)
class Settled:
    """Bowls of sweeps without the runs that they cannot explain."""

    cells: Cells
    """The fitted cells: neither broken cells nor bad runs."""
    first_noise: Array
    """Sd of a cell mean that the bowls were fitted with, [G]."""
    bowls: Bowls
    judged: Judgements


@dataclass(frozen=True)
class Quality:
    """How well bowls explain their widths, all [G, K]; each on its own, since other widths may have
    bad runs."""

    variance: Array
    """Variance of a cell mean by the width's own cells."""
    of_run: Array
    """The same for a single run."""
    freedom: Array
    """Degrees of freedom behind it."""
    cells: Array
    """Number of cells fitted."""
    ok: Mask
    """Whether the optimum is usable."""

    @classmethod
    def of(cls, found: Settled) -> Quality:
        misfit, cells = found.bowls.misfit(found.cells), found.cells
        variance_GK = misfit.all_squares / np.maximum(misfit.all_freedom, 0.5)
        of_run_GK = variance_GK * cells.mean_n[:, None]
        return cls(variance_GK, of_run_GK, misfit.all_freedom, cells.count, found.judged.ok)

    def by_cell(self, copies: int) -> Quality:
        """From copies [G * C, K] to [G, K, C]."""
        return Quality(
            *(
                values.reshape(-1, copies, values.shape[-1]).swapaxes(1, 2)
                for values in arrays_of(self).values()
            )
        )


def settle(cells: Cells) -> tuple[Settled, Mask]:
    """Fit the bowls, and leave out runs that are far off the bowl through all others.

    Where a run is off its bowl or a width has no usable optimum, the sweep is fitted again without
    each cell in turn. A run is bad if it is far off the bowl fitted without its cell, if that bowl
    fits BETTER, and if not all of several runs of the cell are off: then the bowl has that shape.

    Args:
        cells: in units of the excess of a low cell.

    Returns:
        The fit, and the bad runs [G, K, C, S] in the order of `cells`.
    """
    found = fit_healthy(cells)
    bad_GKCS = np.zeros(cells.losses.shape, dtype=bool)
    for _ in range(ROUNDS if cells.x.shape[-1] <= MOST_CELLS else 0):
        at_G, quality = np.flatnonzero(_doubtful(found)), Quality.of(found)
        worse = np.zeros_like(bad_GKCS)
        for start in range(0, at_G.size, TOGETHER):
            some_G = at_G[start : start + TOGETHER]
            worse[some_G] = _bad_runs(rows(cells, some_G), bad_GKCS[some_G], rows(quality, some_G))
        if not worse.any():
            break
        bad_GKCS |= worse
        found = fit_healthy(cells.without_runs(bad_GKCS))
    return _near_the_bottom(found), bad_GKCS


def _near_the_bottom(found: Settled) -> Settled:
    """Trust cells the less the higher they are, in sweeps whose bowls miss their cells, and where
    that gives more usable optima.

    Far from the optimum, noise and form are often others: what counts is near the bottom.
    """
    missing_G = misses(found.cells, found.bowls, found.first_noise)
    at_G = np.flatnonzero(missing_G | ~found.judged.ok.all(1))
    if not at_G.size:
        return found
    some, noise_G, missing_G = rows(found.cells, at_G), found.first_noise[at_G], missing_G[at_G]
    # the noise of few cells may be far too small by chance
    missed_G = np.maximum(noise_G, np.median(found.bowls.noise[at_G], axis=1) / 2)
    doubted = doubted_cells(some, np.where(missing_G, missed_G, low_noise(some, noise_G)))
    flat_G = np.asarray(found.bowls.quartic[at_G].any(1))
    bowls = fit_bowls(doubted, noise_G, flat_G)
    judged = judge(doubted, bowls, noise_G)
    more_G = judged.ok.sum(1) - found.judged.ok[at_G].sum(1)
    taken_G = (more_G > 0) | (missing_G & (more_G == 0) & (bowls.freedom >= LEAST_FREEDOM))
    put(found.bowls, at_G[taken_G], rows(bowls, taken_G))
    put(found.judged, at_G[taken_G], rows(judged, taken_G))
    trust_GKC = found.cells.trust.copy()
    trust_GKC[at_G[taken_G]] = doubted.trust[taken_G]
    return replace(found, cells=replace(found.cells, trust=trust_GKC))


def doubted_cells(cells: Cells, noise_G: Array) -> Cells:
    """Cells that weigh as if bowls were right to DISCREPANCY of the excess loss, and no better."""
    lowest_GK = cells.at(cells.mean, cells.best)
    excess_GKC = np.where(cells.present, cells.mean - lowest_GK[..., None], 0.0)
    off_GKC = DISCREPANCY * excess_GKC / noise_G[:, None, None]
    return replace(cells, trust=1 / (1 + off_GKC**2))


def left_out(cells: Cells, kept: Cells, bad_GKCS: Mask, bowls: Bowls) -> list[tuple[LeftOut, ...]]:
    """The runs of each sweep that are not fitted.

    Args:
        cells: all cells, in the unit of the losses.
        kept: the fitted cells.
        bowls: in the unit of the losses.
    """
    found: list[list[LeftOut]] = [[] for _ in cells.x]
    fewer_GK = kept.count < cells.count
    doubtful_GKC = bad_GKCS.any(-1) | (fewer_GK[..., None] & cells.present)
    fitted_GKC = predicted(bowls, cells)[0] if doubtful_GKC.any() else np.zeros_like(cells.x)
    for g, k, c in zip(*np.nonzero(doubtful_GKC), strict=True):
        x, fitted = cells.x[g, k, c], float(fitted_GKC[g, k, c])
        width, value = round(2 ** cells.log2_width[g, k]), float(2**x)
        runs: list[tuple[Literal["bad_run", "broken"], str | None, float]] = [
            ("bad_run", str(cells.seed[g, k, c, s]) or None, float(cells.losses[g, k, c, s]))
            for s in np.flatnonzero(bad_GKCS[g, k, c])
        ]
        if not runs and x not in kept.x[g, k]:
            runs = [("broken", None, float(cells.mean[g, k, c]))]
        found[g] += [
            LeftOut(
                reason=reason, width=width, value=value, seed=seed, loss=loss, excess=loss - fitted
            )
            for reason, seed, loss in runs
        ]
    return [tuple(runs) for runs in found]


def fit_healthy(cells: Cells) -> Settled:
    """Fit the bowls without broken cells, and judge them."""
    noise_G = first_noise(cells)
    kept = cells.without(broken(cells, noise_G))
    bowls = fit_bowls(kept, noise_G)
    return Settled(kept, noise_G, bowls, judge(kept, bowls, noise_G))


def _doubtful(found: Settled) -> Mask:
    """Sweeps [G] with a run off its bowl or a width without a usable optimum."""
    cells, bowls = found.cells, found.bowls
    inside_GKCS = ~np.isnan(cells.losses) & (bowls.weight > 0)[..., None]
    off_GKCS = cells.away + (cells.mean - bowls.fitted)[..., None]
    own_GKC = bowls.leverage / np.maximum(cells.n, 1)
    off_GKCS = off_GKCS / np.sqrt(np.maximum(1 - own_GKC, 0.05))[..., None]
    off_GN = np.where(inside_GKCS, np.abs(off_GKCS), np.nan).reshape(len(off_GKCS), -1)
    # robust standard deviation: 1.4826 times the median absolute deviation
    limit_G = np.maximum(DOUBTFUL * 1.4826 * nanmedian(off_GN, axis=1), LEAST_OFF)
    far_G = (np.nan_to_num(off_GN) > np.nan_to_num(limit_G)[:, None]).any(1)
    return np.asarray(far_G | ~found.judged.ok.all(1))


def _bad_runs(cells: Cells, bad_GKCS: Mask, before: Quality) -> Mask:
    """Further bad runs, at most those of one cell of each width, [G, K, C, S].

    Args:
        bad_GKCS: runs that are left out already.
        before: the quality of the fit without those.
    """
    g, k, c, s = cells.losses.shape
    # copies of each sweep, [G * C], without cell i of every width in copy i
    one_CKCS = np.broadcast_to(np.eye(c, dtype=bool)[:, None, :, None], (c, k, c, s))
    without = (bad_GKCS[:, None] | one_CKCS).reshape(g * c, k, c, s)
    copies = rows(cells, np.repeat(np.arange(g), c))
    refit = fit_healthy(copies.without_runs(without))
    # the loss of each cell by the copy that lacks it, and the noise of a run of its width there
    fitted, variance = predicted(refit.bowls, copies)
    # the variance in those of a run
    of_run_GK = np.maximum(refit.bowls.noise**2, JITTER**2) * refit.cells.mean_n[:, None]
    variance /= of_run_GK[..., None]
    fitted_GKC, error_GKC = (
        np.einsum("gckc->gkc", values.reshape(g, c, k, c)) for values in (fitted, variance)
    )
    losses_GKCS = np.where(bad_GKCS, np.nan, cells.losses)
    off_GKCS = np.abs(losses_GKCS - fitted_GKC[..., None])
    after = Quality.of(refit).by_cell(c)
    # by chance a copy may have hardly any noise; not less than what the widths typically have
    known_GKC = np.where(after.freedom >= LEAST_FREEDOM, after.of_run, np.inf)
    typical_G = np.median(known_GKC.min(-1), axis=1)
    of_run_GKC = np.maximum(after.of_run, typical_G[:, None, None])
    limit_GKC = np.maximum(BAD * np.sqrt(of_run_GKC * (1 + error_GKC)), LEAST_OFF)
    far_GKCS = np.nan_to_num(off_GKCS) > limit_GKC[..., None]
    runs_GKC, far_GKC = (~np.isnan(losses_GKCS)).sum(-1), far_GKCS.sum(-1)
    single_GKC = (far_GKC > 0) & ((far_GKC < runs_GKC) | (runs_GKC == 1))
    # bowls are extrapolated to the ends of a grid, where the noise may be another
    end_GKC = (cells.x == cells.first[..., None]) | (cells.x == cells.last[..., None])
    single_GKC &= ~(end_GKC & before.ok[..., None])
    chosen_GKC = _best_copy(after, before, single_GKC & (after.freedom >= LEAST_FREEDOM))
    return np.asarray(far_GKCS & chosen_GKC[..., None])


def _best_copy(after: Quality, before: Quality, candidates_GKC: Mask) -> Mask:
    """The copy that explains a width best, where that is better than before, [G, K, C]: of those
    that explain the most cells, the one of the least noise."""
    better_GKC = after.variance * BETTER < before.variance[..., None]
    better_GKC |= after.cells > before.cells[..., None] + 1
    better_GKC |= after.ok & ~before.ok[..., None]
    better_GKC &= candidates_GKC
    most_GK1 = np.where(better_GKC, after.cells, 0).max(-1, keepdims=True)
    better_GKC &= after.cells >= most_GK1 - 1
    least_GK1 = np.where(better_GKC, after.variance, np.inf).argmin(-1)[..., None]
    return np.asarray(better_GKC & (np.arange(better_GKC.shape[-1]) == least_GK1))


def broken(cells: Cells, noise_G: Array) -> Mask:
    """Cells above the optimum that no bowl through the cells below them reaches, [G, K, C].

    Going up from the lowest cell, each is compared with bowls a phi(x - mu; tilt) fitted to the
    healthy cells so far, over a grid of mu and tilt. It is broken where its excess loss is above
    TIMES the greatest that a plausible bowl has there, and 6 sqrt(2) noise more; and so are those
    above it, up to one that is back at the most likely bowl. Left out are broken cells with no
    healthy one above them: a broken one below healthy ones is a bad run, not a cliff.
    """
    best_GK, at_best = cells.best, cells.at(cells.x, cells.best)
    excess_GKC = cells.mean - cells.at(cells.mean, best_GK)[..., None]
    margin_GK = 6 * np.sqrt(2) * noise_G[:, None]
    place_T, tilt_T = np.array(list(product(PLACES, TILTS))).T
    centre_GKT = at_best[..., None] + place_T * cells.spacing[..., None]
    reach_GK1 = reach(cells)[..., None]
    sums = Sums(*(np.zeros_like(centre_GKT) for _ in range(6)))
    growth_GK = np.exp(TILT_RANGE[1] * cells.spacing)
    count_GK, highest_GK = np.zeros(best_GK.shape), np.zeros(best_GK.shape)
    broken_GKC, cliff_GK = np.zeros(cells.x.shape, dtype=bool), np.zeros(best_GK.shape, dtype=bool)
    for c in range(cells.x.shape[-1]):
        d_GKT, e_GK = cells.x[..., c, None] - centre_GKT, excess_GKC[..., c]
        phi_GKT, _, _ = shape(np.clip(d_GKT, -reach_GK1, reach_GK1), tilt_T)
        # the cell that is one further below the lowest cell than this one is above it
        mirrored_GK = cells.at(excess_GKC, np.clip(2 * best_GK - c - 1, 0, best_GK))
        likeliest_GK, greatest_GK = sums.predict(phi_GKT, noise_G)
        # three cells do not determine a bowl, but bound how steep its exponential may be
        steepest_GK = np.where(count_GK >= PARAMETERS - 1, growth_GK * highest_GK, np.inf)
        undetermined_GK = np.isinf(greatest_GK)
        greatest_GK = np.where(undetermined_GK, steepest_GK, greatest_GK)
        likeliest_GK = np.where(undetermined_GK, steepest_GK, likeliest_GK)
        bound_GK = np.maximum(TIMES * greatest_GK, TIMES_MIRRORED * mirrored_GK)
        back_GK = np.maximum(TIMES * likeliest_GK, TIMES_MIRRORED * mirrored_GK)
        there_GK = cells.present[..., c] & (c > best_GK)
        allowed_GK = np.where(cliff_GK, back_GK, bound_GK) + margin_GK
        cliff_GK = np.where(there_GK, e_GK > allowed_GK, cliff_GK)
        broken_GKC[..., c] = there_GK & cliff_GK
        healthy_GK = cells.present[..., c] & ~cliff_GK
        count_GK = count_GK + healthy_GK
        highest_GK = np.where(healthy_GK, np.maximum(highest_GK, e_GK), highest_GK)
        sums.add(healthy_GK[..., None] & (d_GKT >= -reach_GK1), phi_GKT, e_GK[..., None])
    healthy_GKC = cells.present & ~broken_GKC
    followed_GKC = np.logical_or.accumulate(healthy_GKC[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(broken_GKC & ~followed_GKC)


@dataclass(frozen=True)
class Sums:
    """Running sums over healthy cells, [G, K, T], for the least squares of excess = b + a phi."""

    one: Array
    phi: Array
    phi2: Array
    excess: Array
    phi_excess: Array
    excess2: Array

    def add(self, counts_GKT: Mask, phi_GKT: Array, excess_GK1: Array) -> None:
        """Add a cell in place, for the candidates whose window holds it."""
        one = np.ones_like(phi_GKT)
        terms = (one, phi_GKT, phi_GKT**2, excess_GK1, phi_GKT * excess_GK1, excess_GK1**2)
        for total_GKT, term in zip(vars(self).values(), terms, strict=True):
            total_GKT += counts_GKT * term

    def predict(self, phi_GKT: Array, noise_G: Array) -> tuple[Array, Array]:
        """Excess [G, K] at the next cell by the likeliest candidate, and the greatest one by any
        plausible one; infinite where too few cells determine the candidates."""
        n, p, pp, e, pe, ee = vars(self).values()
        spread = n * pp - p**2
        known = spread > JITTER * n * pp
        a = np.maximum((n * pe - p * e) / np.where(known, spread, 1.0), 0.0)
        b = (e - a * p) / np.maximum(n, 1)
        # squares of e - b - a phi
        left = ee - 2 * a * pe - 2 * b * e + a**2 * pp + 2 * a * b * p + n * b**2
        left = np.where(known, np.maximum(left, 0.0), np.inf)
        least_GK1 = left.min(-1, keepdims=True)
        freedom_GK1 = np.maximum(n.max(-1, keepdims=True) - PARAMETERS, 1)
        variance_GK1 = np.maximum(noise_G[:, None, None] ** 2, least_GK1 / freedom_GK1)
        missed = COARSENESS * np.maximum(ee - e**2 / np.maximum(n, 1), 0)
        plausible = left <= least_GK1 + PLAUSIBLE * variance_GK1 + missed
        fitted_GKT = b + a * phi_GKT
        likeliest_GK = np.take_along_axis(fitted_GKT, left.argmin(-1)[..., None], axis=-1)[..., 0]
        greatest_GK = np.where(plausible & known, fitted_GKT, -np.inf).max(-1)
        determined_GK = known.all(-1) & (n.max(-1) >= PARAMETERS) & (n.min(-1) >= PARAMETERS - 1)
        return (
            np.where(determined_GK, likeliest_GK, np.inf),
            np.where(determined_GK, greatest_GK, np.inf),
        )
