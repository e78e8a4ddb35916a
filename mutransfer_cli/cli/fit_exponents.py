"""`mutransfer fit-exponents`: records or a table of results in, exponents out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import note, stdin_or, stdout_or
from mutransfer_cli.cli.options import AsJson, OutputFile

if TYPE_CHECKING:
    from mutransfer_cli.files.exponents import Exponents


class Keep(StrEnum):
    last = "last"


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
        typer.Option(
            help="Own column names, such as width=dim,lr=base_lr,loss=val_loss,seed=run. "
            "A table on stdin needs this or another option of tables."
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Loss column of a table.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Fit each value of a column on its own.")
    ] = None,
    keep: Annotated[
        Keep | None, typer.Option(help="Which of rows that repeat a run with another loss counts.")
    ] = None,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit how the optimal learning rate moves with width.

    Writes mutransfer.exponents/1: for each swept axis the optimum and its interval at every width,
    and the exponent of width with a 95 % interval. Exit code 4, with the output written, when fewer
    than three widths have a usable optimum (with --by: in every group).
    """
    sources = stdin_or(results, "a sweep's folder, record files, a table, or - for stdin")

    from mutransfer_cli.files.dump import dump
    from mutransfer_cli.files.sources import holds_records
    from mutransfer_cli.files.yaml_io import write_result

    of_table = any(option is not None for option in (columns, metric, by, keep))
    if of_table or not all(holds_records(source) for source in sources):
        document = _of_table(sources, columns, metric, by, keep)
    else:
        document = _of_records(sources)
    write_result(dump(document, as_json), stdout_or(output))
    groups = [group.axes for group in document.groups.values()] or [document.axes]
    if all(any(axis.status != "ok" for axis in axes.values()) for axes in groups):
        raise typer.Exit(4)


def _of_records(sources: Sequence[Path | None]) -> Exponents:
    from mutransfer_cli.cli.tables import print_fit
    from mutransfer_cli.emit.exponents import exponents_of
    from mutransfer_cli.files.frames import swept_axes, trial_frame
    from mutransfer_cli.files.sources import load_records
    from mutransfer_cli.fit.exponent import compared, fit_exponent

    records = load_records(sources, warn=note)
    frame = trial_frame(records.trials)
    axes = swept_axes(frame)
    fits = {}
    for axis in axes:
        others = [other for other in axes if other != axis]
        by_eval, by_train = (
            fit_exponent(frame, axis, others, loss) for loss in ("eval_loss", "train_loss")
        )
        fits[axis] = compared(by_eval, by_train)
    document = exponents_of(records, fits)
    print_fit(document, frame)
    return document


def _of_table(
    sources: Sequence[Path | None],
    columns: str | None,
    metric: str | None,
    by: str | None,
    keep: Keep | None,
) -> Exponents:
    from mutransfer_cli.cli.tables import print_fit, print_groups
    from mutransfer_cli.emit.exponents import exponents_of_table
    from mutransfer_cli.files.frames import swept_axes
    from mutransfer_cli.files.results import parse_columns, read_results
    from mutransfer_cli.fit.exponent import fit_groups

    named = parse_columns(columns) if columns else {}
    frame = read_results(sources, named, metric, by, keep_last=keep is not None)
    axes = swept_axes(frame)
    others: list[str] = list(axes)
    if "weight_decay" in frame and frame["weight_decay"].nunique() > 1:
        others.append("weight_decay")
        note("weight_decay varies: each optimum is taken at its best value")
    groups = {str(name): rows for name, rows in frame.groupby(by)} if by else {"": frame}
    by_axis = {
        axis: fit_groups(groups, axis, [a for a in others if a != axis], "loss") for axis in axes
    }
    fits = {name: {axis: by_axis[axis][name] for axis in axes} for name in groups}
    metric = metric or named.get("loss", "loss")
    document = exponents_of_table(metric, frame["loss"].tolist(), fits, by)
    if by:
        print_groups(document, by)
    else:
        print_fit(document, frame.rename(columns={"loss": "eval_loss"}))
    return document
