"""All swept axes of a sweep: learning rate and weight decay together, every other on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mutransfer_cli.fit.decay import Convention, DecayFit, fit_decay, has_decay_axis
from mutransfer_cli.fit.exponent import compared, fit_groups, fit_of
from mutransfer_cli.fit.result import Bowl, Fit, warned
from mutransfer_cli.fit.sentences import size_warnings

PAIR = ("lr", "weight_decay")


@dataclass(frozen=True)
class SweepFit:
    """
    Attributes:
        axes: by hyperparameter.
        decay: the joint fit behind `lr` and `weight_decay`; None where weight decay is no axis.
    """

    axes: dict[str, Fit]
    decay: DecayFit | None


def fit_axes(
    groups: Mapping[str, pd.DataFrame],
    axes: Sequence[str],
    convention: Convention | None = None,
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
    sizes: Sequence[str] = (),
) -> dict[str, SweepFit]:
    """The fits of each group on its own.

    Each axis is fitted at the best value of the others, except that learning rate and weight decay
    are fitted together where both vary enough.

    Args:
        groups: one row a trial, as for `fit_exponents`; with a column `train_loss` the optima of
            the training loss are held against those of the loss.
        axes: columns that vary; a `weight_decay` that is not among them counts as one of the
            others.
        convention: of the weight decays; needed where `axes` holds lr and weight_decay.
        sizes: columns, such as depth, that are to be the same at all widths.
    """
    fits, joint = _by_loss(groups, axes, convention, loss, scatter_below, resamples)
    if all("train_loss" in trials for trials in groups.values()):
        by_train, _ = _by_loss(groups, axes, convention, "train_loss", scatter_below, 0)
        for axis in axes:
            for name, fit in fits[axis].items():
                fits[axis][name] = compared(fit, by_train[axis][name])
    found = {}
    for name, trials in groups.items():
        warnings = size_warnings(trials, sizes)
        by_axis = {axis: warned(fits[axis][name], warnings) for axis in axes}
        found[name] = SweepFit(axes=by_axis, decay=joint.get(name))
    return found


def _by_loss(
    groups: Mapping[str, pd.DataFrame],
    axes: Sequence[str],
    convention: Convention | None,
    loss: str,
    scatter_below: float | None,
    resamples: int,
) -> tuple[dict[str, dict[str, Fit]], dict[str, DecayFit]]:
    """Fits by axis and group, and the joint fits of the groups that have one."""
    joint: dict[str, DecayFit] = {}
    if set(PAIR) <= set(axes):
        assert convention is not None, "callers refuse weight decays without a convention"
        decayed = {name: trials for name, trials in groups.items() if has_decay_axis(trials)}
        rest = [axis for axis in axes if axis not in PAIR]
        joint = fit_decay(decayed, convention, rest, loss, scatter_below)
    fits: dict[str, dict[str, Fit]] = {}
    for axis in axes:
        others = [other for other in varying(groups, axes) if other != axis]
        together = joint if axis in PAIR else {}
        fits[axis] = {name: getattr(fit, axis) for name, fit in together.items()}
        alone = {name: trials for name, trials in groups.items() if name not in together}
        if axis == "weight_decay":
            few = {name: t for name, t in alone.items() if not has_decay_axis(t)}
            fits[axis] |= {name: too_few_decays(trials) for name, trials in few.items()}
            alone = {name: t[t[axis] > 0] for name, t in alone.items() if name not in few}
        fits[axis] |= fit_groups(alone, axis, others, loss, scatter_below, resamples)
    return fits, joint


def too_few_decays(trials: pd.DataFrame) -> Fit:
    """Of a group that lacks the positive weight decays that its neighbours have."""
    bowls = {}
    for width in sorted(trials["width"].unique().tolist()):
        decays = trials.loc[trials["width"] == width, "weight_decay"]
        bowls[width] = Bowl("too_few_points", n=int(decays[decays > 0].nunique()))
    return fit_of("weight_decay", bowls, None)


def varying(groups: Mapping[str, pd.DataFrame], axes: Sequence[str]) -> list[str]:
    """The axes, and weight decay where it varies too little to be one."""
    few = any(
        "weight_decay" in trials and trials["weight_decay"].nunique() > 1
        for trials in groups.values()
    )
    return [*axes, *(["weight_decay"] if few and "weight_decay" not in axes else [])]


def axes_of(trials: pd.DataFrame, candidates: Sequence[str]) -> list[str]:
    """The candidates with more than one value; lr where there is none.

    Weight decay is an axis with three positive values or more at some width.
    """
    found = [
        axis
        for axis in candidates
        if axis in trials
        and (has_decay_axis(trials) if axis == "weight_decay" else trials[axis].nunique() > 1)
    ]
    return found or ["lr"]
