"""`mutransfer fit-exponents`: records or a table of results in, exponents out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import note, stdin_or, stdout_or
from mutransfer_cli.cli.fit_sources import (
    Convention,
    FitOptions,
    Keep,
    TableOptions,
    fit_records,
    fit_table,
)
from mutransfer_cli.cli.options import AsJson, OutputFile
from mutransfer_cli.errors import InputError

MOST_OCTAVES = 50


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
        typer.Option(help="Loss column of a table; of records eval_loss (default) or train_loss."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Fit each value of a column on its own.")
    ] = None,
    keep: Annotated[
        Keep | None, typer.Option(help="Which of rows that repeat a run with another loss counts.")
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="How the runs of a table were made (mutransfer.protocol/1)."
        ),
    ] = None,
    decay_convention: Annotated[
        Convention | None, typer.Option(help="Of a table's weight decays, which vary.")
    ] = None,
    optima: Annotated[
        bool, typer.Option("--optima", help="The table holds the best values by width, no losses.")
    ] = False,
    grid_spacing: Annotated[
        float | None,
        typer.Option(
            metavar="OCTAVES",
            help="Of the grids behind --optima. Default: the smallest gap between optima.",
        ),
    ] = None,
    scatter_below: Annotated[
        float | None,
        typer.Option(
            metavar="OCTAVES",
            help="Assume that optima scatter about the line by less; for few widths.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of the losses behind the interval of form_spread.")
    ] = 0,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit how the optimal learning rate and weight decay move with width.

    Writes mutransfer.exponents/1: for each swept axis the optimum and its interval at every width,
    and the exponent of width with a 95 % interval. Exit code 4, with the output written, when fewer
    than three widths have a usable optimum (with --by: in every group).
    """
    sources = stdin_or(results, "a sweep's folder, record files, a table, or - for stdin")
    _refuse_outside(grid_spacing, "--grid-spacing")
    _refuse_outside(scatter_below, "--scatter-below")
    table = TableOptions(
        columns, metric, by, keep, protocol, decay_convention, optima, grid_spacing
    )
    options = FitOptions(scatter_below, resamples)

    from mutransfer_cli.cli.fit_report import print_fit, print_groups
    from mutransfer_cli.emit.breakers import warnings_of
    from mutransfer_cli.files.dump import dump
    from mutransfer_cli.files.sources import holds_records
    from mutransfer_cli.files.yaml_io import write_result

    records = [holds_records(source) for source in sources]
    if any(records) and not all(records):
        raise InputError("records of a sweep and tables of own results: give one or the other")
    if not all(records):
        document, trials = fit_table(sources, table, options)
    elif table.of_tables:
        raise InputError(
            f"{', '.join(table.of_tables)}: is for tables of own results; the records of a sweep "
            "know their columns and protocol"
        )
    else:
        document, trials = fit_records(sources, metric, options)
    if by:
        print_groups(document, by)
    else:
        print_fit(document, trials)
    for sentence in warnings_of(document, trials):
        note(f"warning: {sentence}")
    write_result(dump(document, as_json), stdout_or(output))
    groups = [group.axes for group in document.groups.values()] or [document.axes]
    if all(any(axis.status != "ok" for axis in axes.values()) for axes in groups):
        raise typer.Exit(4)


def _refuse_outside(octaves: float | None, option: str) -> None:
    if octaves is not None and not 0 < octaves <= MOST_OCTAVES:
        raise InputError(
            f"{option} {octaves:g}: expected a positive number of octaves, {MOST_OCTAVES} at most"
        )
