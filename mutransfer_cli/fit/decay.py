"""The joint fit of learning rate and weight decay: two exponents, or the ridge that hides them.

Shapes: G sweeps, K widths, C cells, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mutransfer_cli.fit.arrays import Array, padded, t_quantile
from mutransfer_cli.fit.bad_runs import broken
from mutransfer_cli.fit.cells import SAME, cells_of, first_noise
from mutransfer_cli.fit.exponent import (
    Details,
    axis_of,
    by_widths,
    interval_of,
    law_fit,
    law_parts,
    optimum_of,
    unusable,
    without_law,
)
from mutransfer_cli.fit.exponents import Axis, Decay, RidgeShape, WithoutDecay
from mutransfer_cli.fit.joint import Joint, fit_planes
from mutransfer_cli.fit.law import Laws
from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.fit.planes import Planes
from mutransfer_cli.fit.sentences import ridge_sentence
from mutransfer_cli.fit.table import cell_means, prepared, profile
from mutransfer_cli.rules.weight_decay import DecayConvention

MIN_DECAYS = 3  # a parabola has as many coefficients
# direction in (log2 lr, log2 weight decay) in which the decay per step grows, and its name
PRODUCTS: dict[DecayConvention, tuple[tuple[float, float], str]] = {
    "lr_coupled": ((1.0, 1.0), "lr * weight_decay"),
    "independent": ((0.0, 1.0), "weight_decay"),
}


@dataclass(frozen=True)
class DecayFit:
    """The fit of weight decay, joint with the learning rate where that varies."""

    lr: Axis | None
    """None where lr does not vary; status `ridge` where the two cannot be told apart."""
    weight_decay: Axis
    """As for lr."""
    decay: Decay
    """Further results, without the horizon."""
    best: tuple[int, float, float] | None
    """(width, lr, weight decay) of the widest optimum, otherwise of the best trial at the widest
    width with a finite loss; None if there is neither."""

    def warned(self, warnings: dict[str, str]) -> DecayFit:
        """The same with further warnings, by code, of both axes."""
        lr = self.lr and self.lr.warned(warnings)
        return replace(self, lr=lr, weight_decay=self.weight_decay.warned(warnings))


def has_decay_axis(trials: pd.DataFrame) -> bool:
    """Whether weight decay has, at some width, as many positive values as a fit needs."""
    decays = trials[trials["weight_decay"] > 0].groupby("width")["weight_decay"].nunique()
    return bool((decays >= MIN_DECAYS).any())


def fit_decay(
    groups: Mapping[str, pd.DataFrame],
    convention: DecayConvention,
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
) -> dict[str, DecayFit]:
    """Fit each group on its own; those with the same number of widths are computed together.

    Args:
        groups: one row per trial with columns `width`, `lr`, `weight_decay` (0 or positive) and
            `loss`, as for `fit_exponents`.
        convention: convention of the weight decays.
        others: columns of further axes; at each cell the best of them counts.

    Raises:
        InsufficientEvidence: a group without a trial that has weight decay.
    """
    groups, warnings = prepared(groups, ["lr", "weight_decay", *others], loss)
    decayed = {name: trials[trials["weight_decay"] > 0] for name, trials in groups.items()}
    product, _ = PRODUCTS[convention]
    found: dict[str, DecayFit] = {}
    for stack in by_widths(decayed).values():
        axes = ["lr", "weight_decay"]
        profiled = [profile(trials, axes, others, loss) for trials in stack.values()]
        # losses above the lowest one: rounding would otherwise give equal losses near 5 a curvature
        lowest = [float(np.nan_to_num(trials[loss].min())) for trials in profiled]
        raised = [
            t.assign(**{loss: t[loss] - low}) for t, low in zip(profiled, lowest, strict=True)
        ]
        planes = planes_of(raised, loss)
        joint = fit_planes(planes, product, law_fit(scatter_below))
        joint = replace(joint, loss=joint.loss + np.array(lowest)[:, None])
        for g, (name, trials) in enumerate(zip(stack, profiled, strict=True)):
            widths = sorted(trials["width"].unique().tolist())
            counts = dict(zip(widths, (planes.weight[g] > 0).sum(1).tolist(), strict=True))
            counts |= dict.fromkeys(set(groups[name]["width"].tolist()) - set(widths), 0)
            zero = without_decay(groups[name], others, loss)
            best = widest_optimum(joint, g, widths) or best_trial(trials, loss)
            fit = _Sweep(joint, g, counts, scatter_below).fit(convention, zero, best)
            found[name] = fit.warned(warnings[name])
    return {name: found[name] for name in groups}


def decay_alone(
    fit: Axis, trials: pd.DataFrame, others: Sequence[str] = (), loss: str = "loss"
) -> DecayFit:
    """The fit of weight decay at one learning rate, with its further results."""
    best = best_trial(trials[trials["weight_decay"] > 0], loss)
    if fit.usable and best is not None:
        widest, at = max(fit.usable.items())
        assert at.value is not None
        best = (widest, best[1], at.value)
    zero = without_decay(trials, others, loss)
    decay = Decay(product=None, ridge=None, without_decay=zero, horizon=None)
    return DecayFit(lr=None, weight_decay=fit, decay=decay, best=best)


def planes_of(sweeps: Sequence[pd.DataFrame], loss: str) -> Planes:
    """Stack the cells of sweeps with the same number of widths; diverged and broken ones are
    absent.

    Broken runs above the optimum are found along the learning rate, at each weight decay.
    """
    parts = [_plane(table, loss) for sweep in sweeps for _, table in sweep.groupby("width")]
    x, y, mean, n, away = zip(*parts, strict=True)
    widths = [np.unique(sweep["width"]) for sweep in sweeps]
    g = len(sweeps)
    return Planes(
        x=padded(x, g, 0.0),
        y=padded(y, g, 0.0),
        loss=padded(mean, g, 0.0),
        weight=padded(n, g, 0.0),
        log2_width=np.log2(np.array(widths, dtype=np.float64)),
        away=padded(away, g, np.nan),
    )


def _plane(table: pd.DataFrame, loss: str) -> tuple[Array, Array, Array, Array, Array]:
    """Cells of one width: x, y, mean loss and number of trials [C], and the deviations of each seed
    from the mean [C, S]."""
    y = np.log2(table["weight_decay"].to_numpy(dtype=np.float64)).round(SAME)
    decays, row = np.unique(y, return_inverse=True)
    # cells_of takes the widths of a sweep for the weight decays of one width here
    cells = cells_of([table.assign(width=row + 1)], "lr", loss)
    kept = cells.without(broken(cells, first_noise(cells)))
    there = kept.present[0]
    decay = np.broadcast_to(decays[:, None], there.shape)[there]
    x, mean, n, losses = (cell[0][there] for cell in (kept.x, kept.mean, kept.n, kept.losses))
    # columns by the name of the seed, which may differ between the weight decays
    of_seed = np.where(kept.seeded[0][:, None], kept.seed[0], "")[there]
    names = np.unique(of_seed[of_seed != ""])
    away = np.full((len(x), max(len(names), 1)), np.nan)
    row, column = np.nonzero(of_seed != "")
    away[row, np.searchsorted(names, of_seed[row, column])] = (losses - mean[:, None])[row, column]
    return x, decay, mean, n, away


def without_decay(
    trials: pd.DataFrame, others: Sequence[str], loss: str
) -> dict[int, WithoutDecay]:
    """Best run with weight decay 0, by width; widths without a finite loss there are left out."""
    means = cell_means(trials, ["lr", "weight_decay", *others], loss)
    means = means[np.isfinite(means[loss])].sort_values(loss)
    zero, decayed = (
        means[mask].drop_duplicates("width").set_index("width")
        for mask in (means["weight_decay"] == 0, means["weight_decay"] > 0)
    )
    found = {}
    for width in sorted(zero.index.tolist()):
        lr, lowest = float(zero.at[width, "lr"]), float(zero.at[width, loss])
        excess = lowest - float(decayed.at[width, loss]) if width in decayed.index else None
        found[width] = WithoutDecay(lr=lr, loss=lowest, excess=excess)
    return found


def best_trial(trials: pd.DataFrame, loss: str) -> tuple[int, float, float] | None:
    """(width, lr, weight decay) of the least finite mean loss at the widest width that has one."""
    means = cell_means(trials, ["lr", "weight_decay"], loss)
    means = means[np.isfinite(means[loss])]
    if means.empty:
        return None
    best = means[means["width"] == means["width"].max()].sort_values(loss).iloc[0]
    return int(best["width"]), float(best["lr"]), float(best["weight_decay"])


def widest_optimum(joint: Joint, g: int, widths: Sequence[int]) -> tuple[int, float, float] | None:
    """(width, lr, weight decay) of the widest width that has an optimum."""
    for width, vertex in reversed(list(zip(widths, joint.vertices[g], strict=True))):
        if np.isfinite(vertex).all():
            return width, float(2 ** vertex[0]), float(2 ** vertex[1])
    return None


@dataclass(frozen=True)
class _Sweep:
    """Sweep g of a joint fit."""

    joint: Joint
    g: int
    counts: dict[int, int]
    """Cells by width: those of the joint fit in its order, then widths without any."""
    scatter_below: float | None

    def fit(
        self,
        convention: DecayConvention,
        zero: dict[int, WithoutDecay],
        best: tuple[int, float, float] | None,
    ) -> DecayFit:
        """Fits of lr, weight decay and their product, and the ridge if there is one.

        Args:
            zero: best runs without weight decay by width.
        """
        joint, g = self.joint, self.g
        direction, name = PRODUCTS[convention]
        ridge = None
        if joint.status[g] == "ridge":
            across = joint.across
            ridge = RidgeShape(
                angle=float(joint.angle[g]),
                angle_error=float(joint.angle_error[g]),
                product_only=bool(joint.product_only[g]),
                exponent=interval_of(float(across.exponent[g]), float(across.half_width[g])),
            )
        sentence = ridge_sentence(ridge, name) if ridge else None
        if ridge is not None and ridge.product_only:
            at = (joint.across_optimum[g], joint.across_variance[g])
            optima = self._optima(joint.across, *at)
            product = axis_of(name, optima, self._law(joint.across), Details(self.counts))
        else:
            product = self._axis(name, joint.product, direction, sentence)
        return DecayFit(
            lr=self._axis("lr", joint.lr, (1.0, 0.0), sentence),
            weight_decay=self._axis("weight_decay", joint.wd, (0.0, 1.0), sentence),
            decay=Decay(product=product, ridge=ridge, without_decay=zero, horizon=None),
            best=best,
        )

    def _law(self, laws: Laws) -> dict[str, object]:
        return law_parts(laws, self.g, self.scatter_below)

    def _axis(self, name: str, laws: Laws, along: tuple[float, float], ridge: str | None) -> Axis:
        """The fit in one direction of (log2 lr, log2 weight decay).

        Args:
            ridge: the sentence of a ridge, on which this direction has no law; None without one.
        """
        joint, g, direction = self.joint, self.g, np.array(along)
        of_axis = direction.astype(bool)

        def details_at(k: int) -> dict[str, float | None]:
            curvature = joint.own_curvature[g, k][of_axis]
            own = float(curvature[0]) if curvature.size == 1 else None
            return {"loss": float(joint.loss[g, k]), "curvature": own}

        # position and variance along the direction: v' d and d' C d
        position_K = np.array([vertex @ direction for vertex in joint.vertices[g]])
        variance_K = np.array([direction @ errors @ direction for errors in joint.covariance[g]])
        optima = self._optima(laws, position_K, variance_K, details_at)
        if ridge is not None:
            return without_law("ridge", ridge, {}, optima)
        near = zip(self.counts, joint.near_edge[g][:, of_axis].any(1), strict=False)
        details = Details(
            counts=self.counts,
            noise=dict.fromkeys(self.counts, float(joint.noise[g])),
            near_edge=tuple(sorted(width for width, is_near in near if is_near)),
        )
        return axis_of(name, optima, self._law(laws) if joint.status[g] == "ok" else None, details)

    def _optima(
        self,
        laws: Laws,
        position_K: Array,
        variance_K: Array,
        details_at: Callable[[int], dict[str, float | None]] = lambda _: {},
    ) -> dict[int, Optimum]:
        """Optima by width, in order; a width without a position has none."""
        joint, g, found = self.joint, self.g, dict[int, Optimum]()
        t = float(t_quantile(joint.freedom[g]))
        for k, (width, cells) in enumerate(self.counts.items()):
            if cells and not np.isnan(position_K[k]):
                at, reach = float(position_K[k]), t * float(np.sqrt(variance_K[k]))
                residual = laws.residual(g, width, at)
                found[width] = optimum_of(
                    at, at - reach, at + reach, residual=residual, **details_at(k)
                )
                continue
            if not cells:
                found[width] = unusable("too_few_points")
                continue
            status = str(joint.width_status[g, k])
            found[width] = unusable(
                "unresolved" if status == "ok" else status, str(joint.side[g, k])
            )
        return dict(sorted(found.items()))
