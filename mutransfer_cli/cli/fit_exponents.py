"""`mutransfer fit-exponents`: records in, exponents out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import note, stdin_or, stdout_or
from mutransfer_cli.cli.options import AsJson, OutputFile


def fit_exponents(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of a sweep, record files, or - for stdin. Default: stdin when piped.",
            show_default=False,
        ),
    ] = None,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit how the optimal learning rate moves with width.

    Writes mutransfer.exponents/1: for each swept axis the optimum and its interval at every width,
    and the exponent of width with a 95 % interval. Exit code 4, with the output written, when fewer
    than three widths have a usable optimum.
    """
    sources = stdin_or(results, "a sweep's folder, record files, or - for stdin")

    from mutransfer_cli.cli.tables import print_fit
    from mutransfer_cli.emit.exponents import exponents_of
    from mutransfer_cli.files.dump import dump
    from mutransfer_cli.files.frames import swept_axes, trial_frame
    from mutransfer_cli.files.sources import load_records
    from mutransfer_cli.files.yaml_io import write_result
    from mutransfer_cli.fit.exponent import fit_exponent

    records = load_records(sources, warn=note)
    frame = trial_frame(records.trials)
    axes = swept_axes(frame)
    fits = {axis: fit_exponent(frame, axis, [a for a in axes if a != axis]) for axis in axes}
    document = exponents_of(records, fits)
    print_fit(document, records.trials)
    write_result(dump(document, as_json), stdout_or(output))
    if any(fit.status != "ok" for fit in fits.values()):
        raise typer.Exit(4)
