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
    """Write a sweep, its fit and what was measured as one HTML page.

    The page stands alone: it loads nothing, runs nothing and can be printed. What the folder has no
    records of is left out of it with a sentence. Needs matplotlib.
    """
    if not run.is_dir():
        raise InputError(f"{run}: is not a folder; give that of a sweep (sweep-proxy -o FOLDER)")

    from mutransfer_cli.check.measure import CHECK, read_check
    from mutransfer_cli.fit.breakers import warnings_of
    from mutransfer_cli.fit.from_records import exponents_of_records
    from mutransfer_cli.report.measured import compared_trials
    from mutransfer_cli.report.page import page
    from mutransfer_cli.report.run import Run
    from mutransfer_cli.spec.measurements import CURVES, DIAGNOSTICS, read_curves, read_diagnostics
    from mutransfer_cli.spec.sources import load_records
    from mutransfer_cli.spec.yaml_io import write_result

    said: list[str] = []
    records = load_records([run], warn=said.append)
    document, trials = exponents_of_records(records)
    measured = [trial.trial for trial in compared_trials(records)]
    found = Run(
        name=run.resolve().name,
        records=records,
        document=document,
        trials=trials,
        curves=read_curves(run / CURVES, [trial.trial for trial in records.trials]),
        diagnostics=read_diagnostics(run / DIAGNOSTICS, measured),
        warnings=[*said, *warnings_of(document, trials)],
        check=read_check(run / CHECK),
    )
    target = stdout_or(output)
    write_result(page(found), target)
    if target is not None:
        note(f"report: {target}")
