"""All swept axes of a sweep: learning rate and weight decay together, every other on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mutransfer_cli.fit.decay import Convention, DecayFit, decay_alone, fit_decay, has_decay_axis
from mutransfer_cli.fit.exponent import compared, fit_groups
from mutransfer_cli.fit.result import Fit, warned
from mutransfer_cli.fit.sentences import decay_warning, size_warnings

PAIR = ("lr", "weight_decay")


@dataclass(frozen=True)
class SweepFit:
    """
    Attributes:
        axes: by hyperparameter.
        decay: the joint fit behind `lr` and `weight_decay`, or that of weight decay where lr is
            held; None where weight decay is no axis.
    """

    axes: dict[str, Fit]
    decay: DecayFit | None


def fit_axes(
    groups: Mapping[str, pd.DataFrame],
    candidates: Sequence[str],
    convention: Convention | None = None,
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
    sizes: Sequence[str] = (),
) -> dict[str, SweepFit]:
    """The fits of each group on its own; what others swept does not matter.

    Each axis is fitted at the best value of the others, except that learning rate and weight decay
    are fitted together where both vary enough.

    Args:
        groups: one row a trial, as for `fit_exponents`; with a column `train_loss` the optima of
            the training loss are held against those of the loss.
        candidates: columns that may be axes.
        convention: of the weight decays; needed where they vary.
        sizes: columns, such as depth, that are to be the same at all widths.
    """
    alike: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for name, trials in groups.items():
        alike.setdefault(tuple(axes_of(trials, candidates)), {})[name] = trials
    found: dict[str, SweepFit] = {}
    for axes, some in alike.items():
        fits, joint = _by_loss(some, axes, convention, loss, scatter_below, resamples)
        if all("train_loss" in trials for trials in some.values()):
            by_train, _ = _by_loss(some, axes, convention, "train_loss", scatter_below, 0)
            for axis in axes:
                for name, fit in fits[axis].items():
                    fits[axis][name] = compared(fit, by_train[axis][name])
        for name, trials in some.items():
            warnings = size_warnings(trials, sizes) | decay_warning(trials, axes)
            by_axis = {axis: warned(fits[axis][name], warnings) for axis in axes}
            found[name] = SweepFit(axes=by_axis, decay=joint.get(name))
    return {name: found[name] for name in groups}


def _by_loss(
    groups: Mapping[str, pd.DataFrame],
    axes: Sequence[str],
    convention: Convention | None,
    loss: str,
    scatter_below: float | None,
    resamples: int,
) -> tuple[dict[str, dict[str, Fit]], dict[str, DecayFit]]:
    """Fits by axis and group of groups with the same axes, and what goes with a weight decay."""
    joint: dict[str, DecayFit] = {}
    together = set(PAIR) <= set(axes)
    if together:
        assert convention is not None, "callers refuse weight decays without a convention"
        rest = [axis for axis in axes if axis not in PAIR]
        joint = fit_decay(groups, convention, rest, loss, scatter_below)
    fits: dict[str, dict[str, Fit]] = {}
    for axis in axes:
        if together and axis in PAIR:
            fits[axis] = {name: getattr(fit, axis) for name, fit in joint.items()}
            continue
        others = [other for other in varying(groups, axes) if other != axis]
        positive = {name: trials[trials[axis] > 0] for name, trials in groups.items()}
        fits[axis] = fit_groups(positive, axis, others, loss, scatter_below, resamples)
        if axis == "weight_decay":
            joint = {
                name: decay_alone(fits[axis][name], trials, others, loss)
                for name, trials in groups.items()
            }
    return fits, joint


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
