"""`mutransfer report`: a sweep or a table of runs in, one HTML page out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.completion import run_folders
from mutransfer_cli.cli.console import GroupName, OutputFile, note, stdin_or, stdout_or
from mutransfer_cli.cli.next_command import accepted
from mutransfer_cli.cli.own_table import fit_own, with_table_options
from mutransfer_cli.cli.usage import width_of
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.options import TableOptions

if TYPE_CHECKING:
    from mutransfer_cli.report.run import Run


PAUSE = 5  # seconds between two pages of a sweep that runs


@with_table_options
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Folder of a sweep, its records, or a table of own results, or - for stdin. "
            "Default: stdin when piped. Several are compared on one page.",
            show_default=False,
            autocompletion=run_folders,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            metavar="WIDTH",
            parser=width_of,
            help="Target width. Default: that of the folder's recipe, or else 8 times the largest.",
            show_default=False,
        ),
    ] = None,
    *,
    table: TableOptions,
    group: GroupName = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            help="Write each figure as SVG and PDF, as wide as a paper's column, and each table as "
            "CSV.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write the page again while the sweep runs; needs -o.")
    ] = False,
    output: OutputFile = None,
) -> None:
    """Write a sweep or a table of own results, its fit and its measurements as one HTML page.

    The page begins with what to do: which values to use at the target width. It is self-contained:
    it loads nothing, runs nothing and can be printed. Sections for which there are no records are
    left out. Of several sweeps or tables it shows the answers side by side, and in which settings
    they differ. Needs matplotlib.
    """
    from mutransfer_cli.report.compare import comparison, told_apart
    from mutransfer_cli.report.page import page

    sources = stdin_or(runs, "a sweep's folder or a table, or - for stdin")
    for source in sources:
        accepted(source, "report")
    target = stdout_or(output)
    if figures is not None and len(sources) > 1:
        raise InputError("--figures: is for one sweep or table; give them one at a time")

    def render(refresh: int | None) -> str:
        found = [_read(source, table, group) for source in sources]
        if len(found) == 1:
            return page(found[0], width, refresh)
        names = told_apart([source or Path("stdin") for source in sources])
        if len(set(names)) < len(names):
            raise InputError(f"report: {names[0]} is given twice; give different sweeps or tables")
        return comparison(dict(zip(names, found, strict=True)), width, refresh)

    if watch:
        _watch(sources, target, render)
        return
    if figures is not None:
        _export(_read(sources[0], table, group), figures, width)
        if output is None and sys.stdout.isatty():
            return
    _write(render(None), target)


def _write(html: str, target: Path | None) -> None:
    from mutransfer_cli.spec.yaml_io import write_result

    write_result(html, target)
    if target is not None:
        note(f"report: {target}")


def _export(run: Run, folder: Path, width: int | None) -> None:
    from mutransfer_cli.report.export import export
    from mutransfer_cli.report.page import all_figures

    count = export(run, all_figures(run), folder, width)
    note(f"figures: {count} files in {folder}")


def _watch(
    sources: Sequence[Path | None], target: Path | None, render: Callable[[int | None], str]
) -> None:
    """Write the page whenever one of the sweeps has grown, until none is in training any more."""
    from mutransfer_cli.sweep.store import is_written

    if target is None:
        raise InputError("--watch: needs a file for the page; give one with -o")
    paths = [source for source in sources if source is not None]
    if len(paths) < len(sources):
        raise InputError("--watch: stdin cannot be watched; give the folder of the sweep")
    try:
        while any(map(is_written, paths)):
            try:
                _write(render(PAUSE), target)
            except InsufficientEvidence:
                note("report: no trial has ended yet")
            time.sleep(PAUSE)
    finally:
        _write(render(None), target)


def _read(source: Path | None, table: TableOptions, group: str | None) -> Run:
    from mutransfer_cli.report.run import read_run, run_of_table

    if accepted(source, "report") in ("sweep", "records"):
        table.refuse(f"{source or 'stdin'} holds the records of a sweep")
        if group is not None:
            raise InputError("--group: is for tables that are fitted with --by; leave it out")
        return read_run(source)
    document, rows = fit_own(source, table, group)
    name = "stdin" if source is None else source.resolve().name
    return run_of_table(name if group is None else f"{name}, {group}", document, rows)
