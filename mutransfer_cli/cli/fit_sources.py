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
    from mutransfer_cli.files.records import Records
    from mutransfer_cli.fit.axes import SweepFit
    from mutransfer_cli.fit.result import Fit
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

    @property
    def of_tables(self) -> list[str]:
        """The options given that records have no use for."""
        return [option for option in self.given if option != "--metric"]

    def refuse_contradictions(self, options: FitOptions) -> None:
        of_losses = [option for option in self.given if option in ("--metric", "--keep")]
        if self.optima and of_losses:
            raise InputError(f"{of_losses[0]}: is for losses; --optima has none, leave it out")
        if self.optima and options.resamples:
            raise InputError("--resamples: is for losses; --optima has none, leave it out")
        if self.grid_spacing is not None and not self.optima:
            raise InputError("--grid-spacing: is for --optima; leave it out")


@dataclass(frozen=True)
class FitOptions:
    scatter_below: float | None
    resamples: int


def fit_records(
    sources: Sequence[Path | None], metric: str | None, options: FitOptions
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents, and the trials with the loss they are fitted to as eval_loss."""
    from mutransfer_cli.files.sources import load_records

    if metric not in (None, "eval_loss", "train_loss"):
        raise InputError(f"--metric {metric}: records have eval_loss and train_loss")
    return fit_of_records(load_records(sources, warn=note), metric, options)


def fit_of_records(
    records: Records, metric: str | None, options: FitOptions
) -> tuple[Exponents, pd.DataFrame]:
    """`fit_records` of what was read."""
    from mutransfer_cli.emit.exponents import exponents_of
    from mutransfer_cli.files.frames import trial_frame
    from mutransfer_cli.fit.axes import fit_axes

    header, trials = records.header, trial_frame(records.trials)
    if metric == "train_loss":
        trials = trials.drop(columns="eval_loss").rename(columns={"train_loss": "eval_loss"})
    convention = header.protocol.parameterization.decay_convention
    fits = fit_axes(
        {"": trials}, AXES, convention, "eval_loss", options.scatter_below, options.resamples
    )
    counts = Counter(record.status for record in records.trials)
    document = exponents_of(
        metric or "eval_loss",
        {"ok": counts["ok"], "diverged": counts["diverged"], "failed": counts["failed"]},
        fits,
        header.protocol,
        base_plan=header.base_plan,
        convention=convention,
        weight_decay={"": held_decay(trials)},
    )
    return document, trials


def fit_table(
    sources: Sequence[Path | None], table: TableOptions, options: FitOptions
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents, and the rows with their loss as eval_loss."""
    from mutransfer_cli.emit.exponents import exponents_of, statuses
    from mutransfer_cli.files.declared import load_protocol
    from mutransfer_cli.files.results import SIZES, parse_columns, read_results
    from mutransfer_cli.fit.axes import fit_axes

    table.refuse_contradictions(options)
    named = parse_columns(table.columns) if table.columns else {}
    keep_last = table.keep is not None
    rows = read_results(sources, named, table.metric, table.by, keep_last, table.optima)
    groups = {str(name): part for name, part in rows.groupby(table.by)} if table.by else {"": rows}
    varies = "weight_decay" in rows and any(held_decay(part) is None for part in groups.values())
    option: DecayConvention | None = None
    if table.decay_convention is not None:
        option = table.decay_convention.value
    protocol = None
    if table.protocol is not None:
        protocol = load_protocol(table.protocol, held_decay(rows), varies, option)
    convention = _convention(protocol, option, varies)
    if table.optima:
        metric, losses = "optima", [0.0] * len(rows)
        fits = _fit_optima(groups, table.grid_spacing, options)
    else:
        metric, losses = table.metric or named.get("loss", "loss"), rows["loss"].tolist()
        below, resamples = options.scatter_below, options.resamples
        fits = fit_axes(groups, AXES, convention, "loss", below, resamples, SIZES)
        if resamples and any(fit.decay for fit in fits.values()):
            note("--resamples: is for axes fitted on their own; lr and weight_decay are not")
    document = exponents_of(
        metric,
        statuses(losses),
        fits,
        protocol,
        table.by,
        convention=convention,
        weight_decay={name: _decay_of(part, protocol) for name, part in groups.items()},
    )
    return document, rows.rename(columns={"loss": "eval_loss"})


def held_decay(trials: pd.DataFrame) -> float | None:
    """The one weight decay of all trials; None where it varies or has no column."""
    if "weight_decay" not in trials or trials["weight_decay"].nunique() != 1:
        return None
    return float(trials["weight_decay"].iloc[0])


def _decay_of(trials: pd.DataFrame, protocol: DeclaredProtocol | None) -> float | None:
    """That of the table, or of the protocol where the table has no column."""
    if "weight_decay" in trials or protocol is None:
        return held_decay(trials)
    return protocol.optimizer.weight_decay


def _convention(
    protocol: DeclaredProtocol | None, option: DecayConvention | None, varies: bool
) -> DecayConvention | None:
    """Of the table's weight decays.

    Raises:
        InputError: they vary and nothing says it.
    """
    said = protocol.said_convention if protocol else option
    if varies and not said:
        raise InputError(
            "weight_decay varies: give --decay-convention lr_coupled (torch: w -= lr * wd * w) or "
            "independent (w -= schedule * wd * w), or decay_convention in the protocol"
        )
    return protocol.parameterization.decay_convention if protocol else option


def _fit_optima(
    groups: Mapping[str, pd.DataFrame], spacing: float | None, options: FitOptions
) -> dict[str, SweepFit]:
    from mutransfer_cli.files.results import SIZES
    from mutransfer_cli.fit.axes import SweepFit
    from mutransfer_cli.fit.optima import fit_optima, grid_spacing
    from mutransfer_cli.fit.result import warned
    from mutransfer_cli.fit.sentences import size_warnings

    found = {}
    for name, rows in groups.items():
        axes = [a for a in AXES if a in rows and (a == "lr" or rows[a].nunique() > 1)]
        where = f" of {name}" if name else ""
        if not axes:
            raise InputError(
                f"--optima: the table holds no optimum{where}; give a column {', '.join(AXES)}"
            )
        fits: dict[str, Fit] = {}
        for axis in axes:
            step = spacing or grid_spacing(rows[axis], where)
            if spacing is None:
                note(f"--grid-spacing{where}: taken as {step:.3g} octaves, the least gap of {axis}")
            fit = fit_optima(rows, axis, step, options.scatter_below)
            fits[axis] = warned(fit, size_warnings(rows, SIZES))
        found[name] = SweepFit(fits, None)
    return found
