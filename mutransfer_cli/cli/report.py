"""`mutransfer report`: a sweep or a table of runs in, one HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mutransfer_cli.cli.console import GroupName, OutputFile, note, stdin_or, stdout_or
from mutransfer_cli.cli.next_command import accepted
from mutransfer_cli.cli.own_table import fit_own, with_table_options
from mutransfer_cli.cli.usage import width_of
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions

if TYPE_CHECKING:
    from mutransfer_cli.report.run import Run


@with_table_options
def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="Folder of a sweep, its records, or a table of own results, or - for stdin. "
            "Default: stdin when piped.",
            show_default=False,
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
    output: OutputFile = None,
) -> None:
    """Write a sweep or a table of own results, its fit and its measurements as one HTML page.

    The page begins with what to do: which values to use at the target width. It is self-contained:
    it loads nothing, runs nothing and can be printed. Sections for which there are no records are
    left out. Needs matplotlib.
    """
    source = stdin_or([run] if run else None, "a sweep's folder or a table, or - for stdin")[0]
    found = _read(source, table, group)

    from mutransfer_cli.report.page import page
    from mutransfer_cli.spec.yaml_io import write_result

    target = stdout_or(output)
    write_result(page(found, width), target)
    if target is not None:
        note(f"report: {target}")


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
