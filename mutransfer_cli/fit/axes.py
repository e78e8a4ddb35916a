"""All swept axes of a sweep: learning rate and weight decay together, every other on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mutransfer_cli.fit.decay import Convention, DecayFit, fit_decay, has_decay_axis
from mutransfer_cli.fit.exponent import compared, fit_groups
from mutransfer_cli.fit.result import Fit, warned
from mutransfer_cli.fit.sentences import size_warnings


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
    pair = ("lr", "weight_decay")
    joint: dict[str, DecayFit] = {}
    if set(pair) <= set(axes):
        assert convention is not None, "callers refuse weight decays without a convention"
        rest = [axis for axis in axes if axis not in pair]
        joint = fit_decay(groups, convention, rest, loss, scatter_below)
    has_train_loss = all("train_loss" in trials for trials in groups.values())
    found: dict[str, dict[str, Fit]] = {name: {} for name in groups}
    for axis in axes:
        others = [other for other in varying(groups, axes) if other != axis]
        if joint and axis in pair:
            fits = {name: getattr(decay, axis) for name, decay in joint.items()}
        else:
            positive = {name: trials[trials[axis] > 0] for name, trials in groups.items()}
            fits = fit_groups(positive, axis, others, loss, scatter_below, resamples)
            if has_train_loss:
                by_train = fit_groups(positive, axis, others, "train_loss")
                fits = {name: compared(fit, by_train[name]) for name, fit in fits.items()}
        for name, fit in fits.items():
            found[name][axis] = warned(fit, size_warnings(groups[name], sizes))
    return {name: SweepFit(axes=found[name], decay=joint.get(name)) for name in groups}


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
