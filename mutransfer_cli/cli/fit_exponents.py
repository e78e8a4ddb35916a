"""`mutransfer fit-exponents`: fit exponents to a sweep's records or a table of own results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import AsJson, OutputFile, note, stdin_or, stdout_or
from mutransfer_cli.cli.next_command import accepted
from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import AXES, AxisName
from mutransfer_cli.rules.weight_decay import DecayConvention

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Axis, Exponents, Group
    from mutransfer_cli.spec.protocol import DeclaredProtocol
    from mutransfer_cli.spec.rows import Choices

MOST_OCTAVES = 50


@dataclass(frozen=True)
class TableOptions:
    """The options for tables; None, False or empty if not given."""

    columns: str | None
    metric: str | None
    maximize: bool
    by: tuple[str, ...]
    where: str | None
    last: str | None
    keep: str | None
    size: tuple[str, ...]
    protocol: Path | None
    decay_convention: DecayConvention | None
    optima: bool
    grid_spacing: float | None
    path_pattern: str | None

    @property
    def given(self) -> list[str]:
        """The options that the user gave."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]

    def refuse_for_records(self) -> None:
        """Refuse all options but the metric, because records hold their columns and protocol.

        Raises:
            InputError: such an option, or a metric that records lack.
        """
        given = [option for option in self.given if option != "--metric"]
        if given:
            raise InputError(
                f"{', '.join(given)}: is for tables of own results; the records of a sweep hold "
                "their columns and protocol"
            )
        if self.metric not in (None, "eval_loss", "train_loss"):
            raise InputError(f"--metric {self.metric}: records have eval_loss and train_loss")

    def refuse_contradictions(self, resamples: int) -> None:
        """Refuse options that contradict --optima or its absence.

        Raises:
            InputError: such an option.
        """
        losses = ("--metric", "--maximize", "--last", "--keep")
        of_losses = [option for option in self.given if option in losses]
        of_losses += ["--resamples"] if resamples else []
        if self.optima and of_losses:
            raise InputError(f"{of_losses[0]}: is for losses; --optima has none, leave it out")
        if self.grid_spacing is not None and not self.optima:
            raise InputError("--grid-spacing: is for --optima; leave it out")

    def choices(self) -> Choices:
        """Gather what the options say about the rows and columns of the table.

        Raises:
            InputError: --columns or --keep is malformed.
        """
        from mutransfer_cli.spec.columns import parse_columns
        from mutransfer_cli.spec.rows import Choices

        keep = None
        if self.keep is not None:
            which, _, keep = (part.strip() for part in self.keep.partition(":"))
            if which != "last" or not keep:
                raise InputError(
                    f"--keep {self.keep}: expected last:COLUMN with a column that says which row "
                    "is later, such as last:created_at (last:row is the order of the table)"
                )
        return Choices(
            columns=parse_columns(self.columns) if self.columns else {},
            metric=self.metric,
            maximize=self.maximize,
            by=self.by,
            where=self.where,
            last=self.last,
            keep=keep,
            sizes=self.size,
            optima=self.optima,
            path_pattern=self.path_pattern,
        )


def fit_records(
    sources: Sequence[Path | None],
    table: TableOptions,
    scatter_below: float | None,
    resamples: int,
) -> tuple[Exponents, pd.DataFrame]:
    """Return the exponents, and the trials with the fitted loss as eval_loss."""
    from mutransfer_cli.fit.from_records import exponents_of_records
    from mutransfer_cli.spec.sources import load_records

    table.refuse_for_records()
    records = load_records(sources, warn=note)
    return exponents_of_records(records, table.metric or "eval_loss", scatter_below, resamples)


def fit_table(
    sources: Sequence[Path | None],
    table: TableOptions,
    scatter_below: float | None,
    resamples: int,
) -> tuple[Exponents, pd.DataFrame]:
    """Return the exponents, and the rows with their loss as eval_loss."""
    from mutransfer_cli.fit.axes import fit_axes, held_decay
    from mutransfer_cli.fit.from_records import exponents_of, statuses
    from mutransfer_cli.spec.protocol import completed, load_protocol
    from mutransfer_cli.spec.results import read_results
    from mutransfer_cli.spec.rounding import with_one_value_each

    table.refuse_contradictions(resamples)
    results = read_results(sources, table.choices())
    for sentence in results.notes:
        note(sentence)
    rows, by, sizes = results.rows, results.group, results.sizes
    option = table.decay_convention
    protocol = None if table.protocol is None else load_protocol(table.protocol, option)
    if protocol is not None and protocol.weight_decay_values == "applied":
        rows = _to_base(rows, protocol, table, by)
    if not table.optima:  # optima of different widths may differ by less than rounding
        rows = with_one_value_each(rows)
    groups = _grouped(rows, by)
    if protocol is not None and table.protocol is not None:
        protocol = completed(protocol, table.protocol, held_decay(rows), _varies(groups))
    convention = _convention(protocol, option, _varies(groups))
    if table.optima:
        losses = [0.0] * len(rows)
        fits = _fit_optima(groups, sizes, table.grid_spacing, scatter_below, protocol)
    else:
        losses = rows["loss"].tolist()
        options = (convention, "loss", scatter_below, resamples, sizes, protocol)
        fits = fit_axes(groups, AXES, *options)
        if resamples and any(fit.decay for fit in fits.values()):
            note("--resamples: is for axes fitted on their own; lr and weight_decay are not")
    document = exponents_of(
        results.metric, statuses(losses), fits, protocol, by, convention=convention
    )
    document = document.model_copy(update={"rows_left_out": results.left_out})
    return document, rows.rename(columns={"loss": "eval_loss"})


def _grouped(rows: pd.DataFrame, by: str | None) -> dict[str, pd.DataFrame]:
    return {str(name): part for name, part in rows.groupby(by)} if by else {"": rows}


def _varies(groups: Mapping[str, pd.DataFrame]) -> bool:
    """Whether weight decay varies within a group."""
    from mutransfer_cli.fit.axes import held_decay

    return any("weight_decay" in rows and held_decay(rows) is None for rows in groups.values())


def _to_base(
    rows: pd.DataFrame, protocol: DeclaredProtocol, table: TableOptions, by: str | None
) -> pd.DataFrame:
    """The rows with base values in place of applied weight decays."""
    from mutransfer_cli.fit.base_decay import applied_exponent, refuse_another_rule, to_base

    _convention(protocol, table.decay_convention, _varies(_grouped(rows, by)))
    found, section = to_base(rows, protocol), protocol.parameterization
    if not table.optima:
        refuse_another_rule(rows, _grouped(found, by).values(), protocol)
    note(
        f"weight_decay: base values are those of the table over (width / {section.base_width})^"
        f"{applied_exponent(protocol)}, by {section.weight_decay}"
    )
    return found


def _convention(
    protocol: DeclaredProtocol | None, option: DecayConvention | None, varies: bool
) -> DecayConvention | None:
    """The convention of the table's weight decays.

    Raises:
        InputError: they vary and nothing declares it.
    """
    declared = protocol.given_convention if protocol else option
    if varies and not declared:
        raise InputError(
            "weight_decay varies: give --decay-convention lr_coupled (torch: w -= lr * wd * w) or "
            "independent (w -= schedule * wd * w), or decay_convention in the protocol"
        )
    return protocol.parameterization.decay_convention if protocol else option


def _fit_optima(
    groups: Mapping[str, pd.DataFrame],
    sizes: Sequence[str],
    spacing: float | None,
    scatter_below: float | None,
    protocol: DeclaredProtocol | None,
) -> dict[str, Group]:
    from mutransfer_cli.fit.axes import group_of
    from mutransfer_cli.fit.optima import fit_optima, grid_spacing
    from mutransfer_cli.fit.sentences import size_warnings
    from mutransfer_cli.spec.rounding import merged

    found = {}
    for name, rows in groups.items():
        axes: list[AxisName] = [
            a for a in AXES if a in rows and (a == "lr" or merged(rows[a]).nunique() > 1)
        ]
        where = f" of {name}" if name else ""
        if not axes:
            raise InputError(
                f"--optima: the table holds no optimum{where}; give a column {', '.join(AXES)}"
            )
        fits: dict[AxisName, Axis] = {}
        for axis in axes:
            step = spacing or grid_spacing(rows[axis], where)
            if spacing is None:
                note(f"--grid-spacing{where}: taken as {step:.3g} octaves, the least gap of {axis}")
            fit = fit_optima(rows, axis, step, scatter_below)
            fits[axis] = fit.warned(size_warnings(rows, sizes))
        found[name] = group_of(fits, None, rows, protocol)
    return found


def fit_exponents(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a sweep, record files, tables of own results (CSV, JSON lines, "
            "Parquet), or - for stdin. Default: stdin when piped.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Own column names, such as width=dim,lr=base_lr,loss=val_loss,seed=run."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Loss column; for records eval_loss (default) or train_loss."),
    ] = None,
    maximize: Annotated[
        bool, typer.Option("--maximize", help="Higher values of --metric are better.")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Fit each value of a column on its own; several columns: each combination.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION", help='Rows of a table to take: "optimizer=muonh and depth=4".'
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The table is a log: take the last row of each run by this step."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="last:COLUMN",
            help="Keep the latest of several rows of a run, such as last:created_at.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A further column that holds a size, as depth and steps do.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="How the runs of a table were made (mutransfer.protocol/1)."
        ),
    ] = None,
    decay_convention: Annotated[
        DecayConvention | None,
        typer.Option(help="Convention of a table's weight decays, if they vary."),
    ] = None,
    optima: Annotated[
        bool, typer.Option("--optima", help="The table holds the best values by width, no losses.")
    ] = False,
    grid_spacing: Annotated[
        float | None,
        typer.Option(
            metavar="OCTAVES",
            help="Spacing of the grids behind --optima. Default: the smallest gap between optima.",
        ),
    ] = None,
    scatter_below: Annotated[
        float | None,
        typer.Option(
            metavar="OCTAVES",
            help="Assume that optima scatter about the line by less than this, if widths are few.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of the losses for the interval of form_spread.")
    ] = 0,
    path_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="For folders: where the runs are and what their paths say, such as "
            "width{width}_lr{lr}/log.csv.",
        ),
    ] = None,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit how the optimal learning rate and weight decay scale with width.

    Writes mutransfer.exponents/1: for each swept axis the optimum and its interval at every width,
    and the exponent of width with a 95% interval. Exit code 4, with the output written, when fewer
    than three widths have a usable optimum (with --by: in every group).
    """
    sources = stdin_or(results, "a sweep's folder, record files, a table, or - for stdin")
    for option, octaves in (("grid-spacing", grid_spacing), ("scatter-below", scatter_below)):
        if octaves is not None and not 0 < octaves <= MOST_OCTAVES:
            raise InputError(
                f"--{option} {octaves:g}: expected a positive number of octaves, {MOST_OCTAVES} at "
                "most"
            )
    table = TableOptions(
        columns,
        metric,
        maximize,
        tuple(by or ()),
        where,
        last,
        keep,
        tuple(size or ()),
        protocol,
        decay_convention,
        optima,
        grid_spacing,
        path_pattern,
    )
    from mutransfer_cli.cli.fit_report import print_fit, print_groups
    from mutransfer_cli.fit.breakers import warnings_of
    from mutransfer_cli.spec.sources import holds_records
    from mutransfer_cli.spec.yaml_io import dump, write_result

    for source in sources:
        accepted(source, "fit-exponents")
    records = [holds_records(source) for source in sources]
    if any(records) and not all(records):
        raise InputError("records of a sweep and tables of own results: give one or the other")
    fit = fit_records if any(records) else fit_table
    document, trials = fit(sources, table, scatter_below, resamples)
    if by:
        print_groups(document, ", ".join(by))
    else:
        print_fit(document, trials)
    for sentence in warnings_of(document, trials):
        note(f"warning: {sentence}")
    write_result(dump(document, as_json), stdout_or(output))
    groups = [group.axes for group in document.groups.values()] or [document.axes]
    if all(any(axis.status != "ok" for axis in axes.values()) for axes in groups):
        raise typer.Exit(4)
