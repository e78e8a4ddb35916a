"""The two kinds of results: a sweep's own records, and tables of a user's runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.cli.console import note
from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import AXES

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.files.declared import DeclaredProtocol
    from mutransfer_cli.files.exponents import Exponents
    from mutransfer_cli.fit.axes import SweepFit
    from mutransfer_cli.rules.weight_decay import DecayConvention


class Keep(StrEnum):
    last = "last"


class Convention(StrEnum):
    lr_coupled = "lr_coupled"
    independent = "independent"


@dataclass(frozen=True)
class TableOptions:
    """What the command line says of a table; None and False where it says nothing."""

    columns: str | None
    metric: str | None
    by: str | None
    keep: Keep | None
    protocol: Path | None
    decay_convention: Convention | None
    optima: bool
    grid_spacing: float | None

    @property
    def given(self) -> list[str]:
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]

    def refuse_contradictions(self) -> None:
        of_losses = [option for option in self.given if option in ("--metric", "--keep")]
        if self.optima and of_losses:
            raise InputError(f"{of_losses[0]}: is for losses; --optima has none, leave it out")
        if self.grid_spacing is not None and not self.optima:
            raise InputError("--grid-spacing: is for --optima; leave it out")


@dataclass(frozen=True)
class FitOptions:
    scatter_below: float | None
    resamples: int


def fit_records(
    sources: Sequence[Path | None], options: FitOptions
) -> tuple[Exponents, pd.DataFrame]:
    from mutransfer_cli.emit.exponents import exponents_of
    from mutransfer_cli.files.frames import trial_frame
    from mutransfer_cli.files.sources import load_records
    from mutransfer_cli.fit.axes import axes_of, fit_axes

    records = load_records(sources, warn=note)
    header, trials = records.header, trial_frame(records.trials)
    convention = header.protocol.parameterization.decay_convention
    axes = axes_of(trials, AXES)
    fits = fit_axes(
        {"": trials}, axes, convention, "eval_loss", options.scatter_below, options.resamples
    )
    counts = Counter(record.status for record in records.trials)
    document = exponents_of(
        "eval_loss",
        {"ok": counts["ok"], "diverged": counts["diverged"], "failed": counts["failed"]},
        fits,
        header.protocol,
        base_plan=header.base_plan,
        convention=convention,
        weight_decay=_held(trials),
    )
    return document, trials


def fit_table(
    sources: Sequence[Path | None], table: TableOptions, options: FitOptions
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents, and the rows with their loss as eval_loss."""
    from mutransfer_cli.emit.exponents import exponents_of, statuses
    from mutransfer_cli.files.declared import load_protocol
    from mutransfer_cli.files.results import parse_columns, read_results

    table.refuse_contradictions()
    named = parse_columns(table.columns) if table.columns else {}
    keep_last = table.keep is not None
    rows = read_results(sources, named, table.metric, table.by, keep_last, table.optima)
    weight_decay = _held(rows)
    protocol = load_protocol(table.protocol, weight_decay) if table.protocol else None
    convention = _convention(table, protocol, "weight_decay" in rows and weight_decay is None)
    groups = {str(name): part for name, part in rows.groupby(table.by)} if table.by else {"": rows}
    if table.optima:
        metric, losses = "optima", [0.0] * len(rows)
        fits = _fit_optima(groups, rows, table.grid_spacing, options)
    else:
        metric, losses = table.metric or named.get("loss", "loss"), rows["loss"].tolist()
        fits = _fit_losses(groups, rows, convention, options)
    document = exponents_of(
        metric,
        statuses(losses),
        fits,
        protocol,
        table.by,
        convention=convention,
        weight_decay=weight_decay,
    )
    return document, rows.rename(columns={"loss": "eval_loss"})


def _held(trials: pd.DataFrame) -> float | None:
    """The one weight decay of all trials."""
    if "weight_decay" not in trials or trials["weight_decay"].nunique() != 1:
        return None
    return float(trials["weight_decay"].iloc[0])


def _convention(
    table: TableOptions, protocol: DeclaredProtocol | None, varies: bool
) -> DecayConvention | None:
    """Of the table's weight decays.

    Raises:
        InputError: they vary and nothing says it, or the option and the protocol differ.
    """
    option: DecayConvention | None = None
    if table.decay_convention is not None:
        option = table.decay_convention.value
    declared = protocol.said_convention if protocol else None
    if option and declared and option != declared:
        raise InputError(
            f"--decay-convention {option}: {table.protocol} says {declared}; leave the option out"
        )
    if varies and not (option or declared):
        where = "its parameterization in --protocol" if protocol else "--decay-convention"
        raise InputError(
            f"weight_decay varies: give {where} lr_coupled (torch: w -= lr * wd * w) or "
            "independent (w -= schedule * wd * w)"
        )
    return option or declared


def _fit_losses(
    groups: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    convention: DecayConvention | None,
    options: FitOptions,
) -> dict[str, SweepFit]:
    from mutransfer_cli.files.results import SIZES
    from mutransfer_cli.fit.axes import axes_of, fit_axes

    axes = axes_of(rows, AXES)
    if "weight_decay" not in axes and "weight_decay" in rows and rows["weight_decay"].nunique() > 1:
        note("weight_decay has too few values to be fitted: each optimum is at its best one")
    return fit_axes(
        groups, axes, convention, "loss", options.scatter_below, options.resamples, SIZES
    )


def _fit_optima(
    groups: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    spacing: float | None,
    options: FitOptions,
) -> dict[str, SweepFit]:
    from mutransfer_cli.fit.axes import SweepFit
    from mutransfer_cli.fit.optima import fit_optima, grid_spacing

    axes = [axis for axis in AXES if axis in rows]
    if not axes:
        raise InputError(f"--optima: the table holds no optimum; give a column {', '.join(AXES)}")
    by_axis = {}
    for axis in axes:
        step = spacing or grid_spacing(rows[axis])
        if spacing is None:
            note(f"--grid-spacing: taken as {step:.3g} octaves, the smallest gap of {axis}")
        by_axis[axis] = fit_optima(groups, axis, step, options.scatter_below)
    return {name: SweepFit({axis: by_axis[axis][name] for axis in axes}, None) for name in groups}
