"""Fit all swept axes of a sweep: lr and weight decay together, every other on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd

from mutransfer_cli.fit.breakers import horizon_of, short_horizon
from mutransfer_cli.fit.decay import DecayFit, decay_alone, fit_decay, has_decay_axis
from mutransfer_cli.fit.exponent import fit_groups
from mutransfer_cli.fit.exponents import AnyProtocol, Axis, Group
from mutransfer_cli.fit.sentences import decay_warnings, size_warnings, train_warnings
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.rounding import merged, with_one_value_each

PAIR = ("lr", "weight_decay")


def fit_axes(
    groups: Mapping[str, pd.DataFrame],
    candidates: Sequence[str],
    convention: DecayConvention | None = None,
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
    sizes: Sequence[str] = (),
    protocol: AnyProtocol | None = None,
) -> dict[str, Group]:
    """Fit each group on its own, whatever the other groups swept.

    Each axis is fitted at the best value of the others; only learning rate and weight decay are
    fitted together where both vary enough.

    Args:
        groups: one row per trial, as for `fit_exponents`; with a column `train_loss` the optima of
            the training loss are compared with those of the loss.
        candidates: columns that may be axes, in their order.
        convention: convention of the weight decays; needed where they vary.
        sizes: columns, such as depth, that should be the same at all widths.
        protocol: how the runs were made; None where that is not known.
    """
    groups = {name: with_one_value_each(trials, candidates) for name, trials in groups.items()}
    by_axes: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for name, trials in groups.items():
        by_axes.setdefault(tuple(axes_of(trials, candidates)), {})[name] = trials
    found: dict[str, Group] = {}
    for axes, some in by_axes.items():
        fits, decays = _by_loss(some, axes, convention, loss, scatter_below, resamples)
        compared = all("train_loss" in trials for trials in some.values())
        if compared:
            by_train, _ = _by_loss(some, axes, convention, "train_loss", scatter_below, 0)
        for name, trials in some.items():
            warnings = size_warnings(trials, sizes) | decay_warnings(trials, axes)
            by_axis: dict[AxisName, Axis] = {}
            for axis in cast("Sequence[AxisName]", axes):
                fit = fits[axis][name]
                if compared:
                    fit = fit.warned(train_warnings(fit, by_train[axis][name], axis))
                by_axis[axis] = fit.warned(warnings)
            found[name] = group_of(by_axis, decays.get(name), trials, protocol)
    return {name: found[name] for name in groups}


def group_of(
    axes: Mapping[AxisName, Axis],
    fit: DecayFit | None,
    trials: pd.DataFrame,
    protocol: AnyProtocol | None,
) -> Group:
    """The fits of a group with the exponents and the horizon that its protocol implies.

    Args:
        fit: the fit of weight decay, where that is an axis.
    """
    found = {
        name: axis.model_copy(update={"expected_exponent": _expected(name, protocol)})
        for name, axis in axes.items()
    }
    decay = None
    if fit is not None:
        horizon = horizon_of(protocol, *fit.best) if protocol and fit.best else None
        decay = fit.decay.model_copy(update={"horizon": horizon})
        found["weight_decay"] = found["weight_decay"].warned(short_horizon(horizon))
    held = held_decay(trials)
    if "weight_decay" not in trials and protocol is not None:
        held = protocol.optimizer.weight_decay
    return Group(axes=found, decay=decay, weight_decay=held)


def _expected(axis: AxisName, protocol: AnyProtocol | None) -> float | None:
    """The exponent that the rule expects; None where it does not know it."""
    if protocol is None:
        return None
    if axis == "lr":
        return float(protocol.rule.expected_base_lr_exponent)
    if axis == "weight_decay":
        return 0.0 if protocol.scales_decay else None
    # under one global rate the roles drift apart, and how their factors move is not derived
    return 0.0 if protocol.rule.lr_rule == "per_layer" else None


def held_decay(trials: pd.DataFrame) -> float | None:
    """The one weight decay of all trials; None where it varies or has no column."""
    if "weight_decay" not in trials:
        return None
    decays = merged(trials["weight_decay"])
    return float(decays.iloc[0]) if decays.nunique() == 1 else None


def _by_loss(
    groups: Mapping[str, pd.DataFrame],
    axes: Sequence[str],
    convention: DecayConvention | None,
    loss: str,
    scatter_below: float | None,
    resamples: int,
) -> tuple[dict[str, dict[str, Axis]], dict[str, DecayFit]]:
    """Fits by axis and group of groups with the same axes, and the fits of weight decay."""
    decays: dict[str, DecayFit] = {}
    together = set(PAIR) <= set(axes)
    if together:
        assert convention is not None, "callers refuse weight decays without a convention"
        rest = [axis for axis in axes if axis not in PAIR]
        decays = fit_decay(groups, convention, rest, loss, scatter_below)
    fits: dict[str, dict[str, Axis]] = {}
    for axis in axes:
        if together and axis in PAIR:
            fits[axis] = {name: getattr(fit, axis) for name, fit in decays.items()}
            continue
        others = [other for other in varying(groups, axes) if other != axis]
        positive = {name: trials[trials[axis] > 0] for name, trials in groups.items()}
        fits[axis] = fit_groups(positive, axis, others, loss, scatter_below, resamples)
        if axis == "weight_decay":
            decays = {
                name: decay_alone(fits[axis][name], trials, others, loss)
                for name, trials in groups.items()
            }
    return fits, decays


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
