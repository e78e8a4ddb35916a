"""`mutransfer fit-exponents`: fit exponents to a sweep's records or a table of own results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.completion import run_folders
from mutransfer_cli.cli.console import AsJson, OutputFile, note, stdin_or, warn
from mutransfer_cli.cli.next_command import accepted
from mutransfer_cli.cli.saving import STDOUT, is_for_people, place_of_fit, print_next_of_fit, save
from mutransfer_cli.cli.talk import aloud
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions, refuse_octaves
from mutransfer_cli.rules.weight_decay import DecayConvention

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Exponents


def fit_records(
    sources: Sequence[Path | None],
    table: TableOptions,
    scatter_below: float | None,
    resamples: int,
) -> tuple[Exponents, pd.DataFrame]:
    """Return the exponents, and the trials with the fitted loss as eval_loss."""
    from mutransfer_cli.fit.from_records import exponents_of_records
    from mutransfer_cli.spec.sources import load_records

    metric = table.metric_of_records()
    return exponents_of_records(load_records(sources, warn=warn), metric, scatter_below, resamples)


def fit_table(
    sources: Sequence[Path | None],
    table: TableOptions,
    scatter_below: float | None,
    resamples: int,
) -> tuple[Exponents, pd.DataFrame]:
    """Return the exponents, and the rows with their loss as eval_loss."""
    from mutransfer_cli.fit.from_tables import exponents_of_table
    from mutransfer_cli.spec.results import read_results

    table.refuse_contradictions(resamples)
    if table.protocol is not None:
        accepted(table.protocol, "--protocol")
    results = read_results(sources, table.choices())
    return exponents_of_table(results, table, scatter_below, resamples, note)


def fit_exponents(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a sweep, record files, tables of own results (CSV, JSON lines, "
            "Parquet), or - for stdin. Default: stdin when piped.",
            show_default=False,
            autocompletion=run_folders,
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
    refuse_octaves(grid_spacing=grid_spacing, scatter_below=scatter_below)
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
    from mutransfer_cli.spec.yaml_io import dump

    for source in sources:
        accepted(source, "fit-exponents")
    records = [holds_records(source) for source in sources]
    if any(records) and not all(records):
        raise InputError("records of a sweep and tables of own results: give one or the other")
    fit = fit_records if any(records) else fit_table
    document, trials = fit(sources, table, scatter_below, resamples)
    warnings = warnings_of(document, trials)
    to_file = STDOUT if as_json and output is None else output
    with aloud(is_for_people(to_file)):
        if by:
            print_groups(document, ", ".join(by), warnings)
        else:
            print_fit(document, trials, warnings)
    saved = save(dump(document, as_json), to_file, place_of_fit(sources))
    groups = {name: group.axes for name, group in document.groups.items()} or {"": document.axes}
    usable = [
        name for name, axes in groups.items() if all(axis.status == "ok" for axis in axes.values())
    ]
    if to_file != STDOUT:
        print_next_of_fit(document, saved, usable)
    if not usable:
        raise typer.Exit(4)
