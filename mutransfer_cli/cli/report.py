"""`mutransfer report`: a sweep's folder in, one HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import OutputFile, note, stdout_or
from mutransfer_cli.errors import InputError


def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a sweep.", show_default=False)
    ],
    output: OutputFile = None,
) -> None:
    """Write a sweep, its fit and its measurements as one HTML page.

    The page is self-contained: it loads nothing, runs nothing and can be printed. A section for
    which the folder has no records says so in a sentence. Needs matplotlib.
    """
    if not run.is_dir():
        raise InputError(f"{run}: is not a folder; give the one that sweep-proxy -o wrote")

    from mutransfer_cli.report.page import page
    from mutransfer_cli.report.run import read_run
    from mutransfer_cli.spec.yaml_io import write_result

    target = stdout_or(output)
    write_result(page(read_run(run)), target)
    if target is not None:
        note(f"report: {target}")
