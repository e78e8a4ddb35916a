"""The joint fit of learning rate and weight decay: two exponents, or the ridge that hides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mutransfer_cli.fit.cells import SAME, broken, cell_means, cells_of, first_noise, profile
from mutransfer_cli.fit.exponent import by_widths, fit_of, law_fit, law_of
from mutransfer_cli.fit.joint import Joint, fit_planes
from mutransfer_cli.fit.judge import BowlStatus, Side
from mutransfer_cli.fit.law import Laws
from mutransfer_cli.fit.planes import Planes
from mutransfer_cli.fit.result import LEVEL, Bowl, Fit, Law

Array = npt.NDArray[np.float64]
Convention = Literal["lr_coupled", "independent"]

MIN_DECAYS = 3  # a parabola has as many coefficients
# direction in (log2 lr, log2 weight decay) in which the decay a step grows, and its name
PRODUCTS: dict[Convention, tuple[tuple[float, float], str]] = {
    "lr_coupled": ((1.0, 1.0), "lr * weight_decay"),
    "independent": ((0.0, 1.0), "weight_decay"),
}


@dataclass(frozen=True)
class Ridge:
    """Direction across a ridge, degrees from the lr axis, and its standard error.

    Attributes:
        product_only: the direction is compatible with that of the decay a step: 45 degrees (lr *
            weight_decay) when decay is lr_coupled, 90 (weight_decay) when it is independent.
        across: law of the position across the ridge, scaled as that product.
    """

    angle: float
    angle_error: float
    product_only: bool
    across: Law


@dataclass(frozen=True)
class WithoutDecay:
    """The best run without weight decay at one width: its lr, its mean loss and its excess over
    the best run with weight decay, nats; None where there is none."""

    lr: float
    loss: float
    excess: float | None


@dataclass(frozen=True)
class DecayFit:
    """
    Attributes:
        lr, weight_decay: status `ridge` where they cannot be told apart; lr is None where it is
            held, and weight decay fitted on its own.
        product: the decay a step; ok also on a ridge that is compatible with it. None without lr.
        ridge: None where there is none.
        without_decay: by width; trials with weight decay 0 have no logarithm and no part in the
            fit.
        best: (width, lr, weight decay) of the widest optimum; of the best trial at the widest
            width with a finite loss if there is no optimum; None if there is neither.
    """

    lr: Fit | None
    weight_decay: Fit
    product: Fit | None
    ridge: Ridge | None
    without_decay: dict[int, WithoutDecay]
    best: tuple[int, float, float] | None


def has_decay_axis(trials: pd.DataFrame) -> bool:
    """Whether weight decay has at some width the positive values that a fit of it needs."""
    decays = trials[trials["weight_decay"] > 0].groupby("width")["weight_decay"].nunique()
    return bool((decays >= MIN_DECAYS).any())


def fit_decay(
    groups: Mapping[str, pd.DataFrame],
    convention: Convention,
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
) -> dict[str, DecayFit]:
    """The joint fit of each group on its own; those with as many widths are computed together.

    Args:
        groups: one row a trial with columns `width`, `lr`, `weight_decay` (0 or positive) and
            `loss`, as of `fit_exponents`.
        convention: of the weight decays.
        others: columns of further axes; at each cell the best of them counts.

    Raises:
        InsufficientEvidence: a group without a trial that has weight decay.
    """
    decayed = {name: trials[trials["weight_decay"] > 0] for name, trials in groups.items()}
    product, _ = PRODUCTS[convention]
    found: dict[str, DecayFit] = {}
    for stack in by_widths(decayed).values():
        axes = ["lr", "weight_decay"]
        profiled = [profile(trials, axes, others, loss) for trials in stack.values()]
        # from the lowest loss up: of equal losses of 5 nothing but rounding would have curvature
        lowest = [float(np.nan_to_num(trials[loss].min())) for trials in profiled]
        raised = [
            t.assign(**{loss: t[loss] - low}) for t, low in zip(profiled, lowest, strict=True)
        ]
        planes = planes_of(raised, loss)
        joint = fit_planes(planes, LEVEL, product, law_fit(scatter_below))
        joint = replace(joint, loss=joint.loss + np.array(lowest)[:, None])
        for g, (name, trials) in enumerate(zip(stack, profiled, strict=True)):
            widths = sorted(trials["width"].unique().tolist())
            cells = dict(zip(widths, (planes.weight[g] > 0).sum(1).tolist(), strict=True))
            cells |= dict.fromkeys(set(groups[name]["width"].tolist()) - set(widths), 0)
            lr, weight_decay, of_product, ridge = _fits(joint, g, cells, convention, scatter_below)
            found[name] = DecayFit(
                lr=lr,
                weight_decay=weight_decay,
                product=of_product,
                ridge=ridge,
                without_decay=without_decay(groups[name], others, loss),
                best=widest_optimum(joint, g, widths) or best_trial(trials, loss),
            )
    return {name: found[name] for name in groups}


def decay_alone(
    fit: Fit, trials: pd.DataFrame, others: Sequence[str] = (), loss: str = "loss"
) -> DecayFit:
    """The fit of weight decay where the learning rate is held, with what goes beside it."""
    best = best_trial(trials[trials["weight_decay"] > 0], loss)
    optima = {w: bowl.optimum for w, bowl in fit.bowls.items() if bowl.optimum is not None}
    if optima and best is not None:
        widest = max(optima)
        best = (widest, best[1], float(2 ** optima[widest]))
    return DecayFit(
        lr=None,
        weight_decay=fit,
        product=None,
        ridge=None,
        without_decay=without_decay(trials, others, loss),
        best=best,
    )


def planes_of(sweeps: Sequence[pd.DataFrame], loss: str) -> Planes:
    """Cells of sweeps with as many widths each, stacked; diverged and broken cells absent.

    Broken runs above the optimum are found along the learning rate, for each weight decay apart.
    """
    parts = [
        _plane(table, loss) for sweep in sweeps for _, table in sweep.groupby("width", sort=True)
    ]
    deep = max(1, *(len(part.x) for part in parts))
    seeds = max(part.losses.shape[1] for part in parts)
    shape = (len(sweeps), len(parts) // len(sweeps), deep)
    x, y, mean, weight = (np.zeros((len(parts), deep)) for _ in range(4))
    away = np.full((len(parts), deep, seeds), np.nan)
    for index, part in enumerate(parts):
        count = len(part.x)
        x[index, :count], y[index, :count] = part.x, part.y
        mean[index, :count], weight[index, :count] = part.mean, part.n
        away[index, :count, : part.losses.shape[1]] = part.losses - part.mean[:, None]
    widths = [np.sort(sweep["width"].unique()) for sweep in sweeps]
    return Planes(
        x=x.reshape(shape),
        y=y.reshape(shape),
        loss=mean.reshape(shape),
        weight=weight.reshape(shape),
        log2_width=np.log2(np.array(widths, dtype=np.float64)),
        away=away.reshape(*shape, seeds),
    )


@dataclass(frozen=True)
class _Plane:
    """Cells of one width: x, y, mean loss and trials [C], and losses by seed [C, S]."""

    x: Array
    y: Array
    mean: Array
    n: Array
    losses: Array


def _plane(table: pd.DataFrame, loss: str) -> _Plane:
    y = np.log2(table["weight_decay"].to_numpy(dtype=np.float64)).round(SAME)
    decays, row = np.unique(y, return_inverse=True)
    # cells_of takes a sweep's widths for the rows of one width here
    cells = cells_of([table.assign(width=row + 1)], "lr", loss)
    kept = cells.without(broken(cells, first_noise(cells)))
    there = kept.present[0]
    decay = np.broadcast_to(decays[:, None], there.shape)
    of_cells = (kept.x[0][there], decay[there], kept.mean[0][there], kept.n[0][there])
    return _Plane(*of_cells, kept.losses[0][there])


def without_decay(
    trials: pd.DataFrame, others: Sequence[str], loss: str
) -> dict[int, WithoutDecay]:
    """By width, of those that have a finite trial without weight decay."""
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
        found[width] = WithoutDecay(lr, lowest, excess)
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


def _fits(
    joint: Joint,
    g: int,
    cells: Mapping[int, int],
    convention: Convention,
    scatter_below: float | None,
) -> tuple[Fit, Fit, Fit, Ridge | None]:
    """Sweep g of the joint fit: lr, weight decay, their product, and the ridge if there is one.

    Args:
        cells: how many each width has: those of the joint fit in its order, then others without.
    """
    law = partial(law_of, g=g, widths=int(joint.used[g].sum()), scatter_below=scatter_below)
    direction, name = PRODUCTS[convention]

    def fit(axis: str, laws: Laws, along: tuple[float, float]) -> Fit:
        bowls = {
            width: _vertex(joint, g, k, np.array(along), n)
            for k, (width, n) in enumerate(cells.items())
        }
        return fit_of(
            axis, dict(sorted(bowls.items())), law(laws) if joint.status[g] == "ok" else None
        )

    lr = fit("lr", joint.lr, (1.0, 0.0))
    weight_decay = fit("weight_decay", joint.wd, (0.0, 1.0))
    product = fit(name, joint.product, direction)
    if joint.status[g] != "ridge":
        return lr, weight_decay, product, None
    ridge = Ridge(
        angle=float(joint.angle[g]),
        angle_error=float(joint.angle_error[g]),
        product_only=bool(joint.product_only[g]),
        across=law(joint.across),
    )
    lr, weight_decay, product = (_on_ridge(one, ridge, name) for one in (lr, weight_decay, product))
    if ridge.product_only:
        across = {w: _across(joint, g, k, n) for k, (w, n) in enumerate(cells.items())}
        product = fit_of(name, across, ridge.across)
    return lr, weight_decay, product, ridge


def _vertex(joint: Joint, g: int, k: int, along: Array, n: int) -> Bowl:
    """The optimum of one width in one direction of (log2 lr, log2 weight decay)."""
    if n == 0:
        return Bowl("too_few_points")
    status = cast(BowlStatus, str(joint.width_status[g, k]))
    side = cast(Side, str(joint.side[g, k])) if joint.side[g, k] else None
    if np.isnan(joint.vertices[g, k]).any():
        lost: BowlStatus = "unresolved" if status == "ok" else status
        return Bowl(lost, side, n=n)
    at = float(joint.vertices[g, k] @ along)
    error = float(np.sqrt(along @ joint.covariance[g, k] @ along))
    reach = error * float(stats.t.ppf(0.5 + LEVEL / 2, joint.freedom[g]))
    of_axis = along.astype(bool)
    curvature = joint.own_curvature[g, k][of_axis]
    return Bowl(
        status="ok",
        optimum=at,
        low=at - reach,
        high=at + reach,
        loss=float(joint.loss[g, k]),
        noise=float(joint.noise[g]),
        curvature=float(curvature[0]) if curvature.size == 1 else None,
        near_edge=bool(joint.near_edge[g, k][of_axis].any()),
        n=n,
    )


def _across(joint: Joint, g: int, k: int, n: int) -> Bowl:
    """The optimum of one width across a ridge."""
    if n == 0 or not joint.used[g, k]:
        return _vertex(joint, g, k, np.ones(2), n)
    at = float(joint.across_optimum[g, k])
    t = float(stats.t.ppf(0.5 + LEVEL / 2, joint.freedom[g]))
    reach = t * float(np.sqrt(joint.across_variance[g, k]))
    return Bowl("ok", optimum=at, low=at - reach, high=at + reach, n=n)


def _on_ridge(fit: Fit, ridge: Ridge, product: str) -> Fit:
    """What is left of one axis: a ridge has no optimum along it."""
    direction = f"{ridge.angle:.1f} +- {ridge.angle_error:.1f} degrees from the lr axis"
    if ridge.product_only:
        sentence = (
            f"lr and weight_decay lie on a ridge ({direction}): only {product} is identified, and "
            "neither has an exponent of its own; keep one of them fixed and fit the other"
        )
    else:
        sentence = (
            f"lr and weight_decay lie on a ridge ({direction}): only what lies across it is "
            "identified, and neither has an exponent of its own; extend the grid along the ridge, "
            "or keep one of them fixed"
        )
    return Fit(fit.axis, "ridge", sentence, fit.bowls, None, {})
