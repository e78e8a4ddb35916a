"""`mutransfer init`: a first spec that runs as it is, or a protocol for a table of runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import note
from mutransfer_cli.cli.next_command import accepted, refuse_file
from mutransfer_cli.errors import InputError

SPEC, PROTOCOL = Path("spec.yaml"), Path("protocol.yaml")


def init(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE:FUNCTION",
            help="Your model, such as my.py:build or package.module:build, a function of width. "
            "This runs that code.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE:FUNCTION",
            help="For --model: the function that returns its samples, if it does not read text.",
        ),
    ] = None,
    hf: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Config.json of a Hugging Face causal LM."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Runs that you have already: write their protocol."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, - for stdout. Default: spec.yaml or protocol.yaml on a terminal, "
            "stdout when piped.",
        ),
    ] = None,
) -> None:
    """Write a first spec with comments, sized to about two minutes on this machine.

    The model is tried, by default the built-in transformer, and a few steps of each width are
    timed. With --table the protocol of runs that exist is written instead, for fit-exponents.
    """
    given = {"--model": model, "--hf": hf, "--table": table}
    several = [option for option, value in given.items() if value is not None]
    if len(several) > 1:
        raise InputError(f"{' and '.join(several)}: give one of them")
    if data is not None and model is None:
        raise InputError("--data: is for the samples of an own model; give --model too")
    for function in (model, data):
        if function is not None:
            refuse_file(function, "function")
    if hf is not None:
        accepted(hf, "--hf")
    target = _new_file(output, SPEC if table is None else PROTOCOL)
    if table is not None:
        _write_protocol(table, target)
        return
    from mutransfer_cli.spec.sources import own_function
    from mutransfer_cli.spec.yaml_io import write_result
    from mutransfer_cli.sweep.starter import OVERHEAD, starter
    from mutransfer_cli.words import duration

    own = None if model is None else own_function(model, "model")
    samples = None if data is None else own_function(data, "data")
    found = starter(own, samples, hf, target, note)
    write_result(found.text, target)
    size = found.size
    note(
        f"{target or 'the spec'}: {size.trials} trials at {len(size.widths)} widths, about "
        f"{duration(size.seconds + OVERHEAD)} on {found.where}"
    )
    note(f"next: mutransfer sweep-proxy {shlex.quote(str(target or SPEC))}")


def _new_file(output: Path | None, default: Path) -> Path | None:
    """The file to write, None for stdout; nothing is overwritten."""
    if str(output) == "-" or (output is None and not sys.stdout.isatty()):
        return None
    target = output or default
    if target.exists():
        raise InputError(f"{target}: is there already; remove it, or give another name with -o")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    return target


def _write_protocol(table: Path, target: Path | None) -> None:
    from mutransfer_cli.spec.protocol_starter import protocol_starter
    from mutransfer_cli.spec.yaml_io import write_result

    accepted(table, "--table")
    found = protocol_starter(table, target or PROTOCOL)
    write_result(found.text, target)
    for sentence in found.recognised:
        note(sentence)
    note(f"next: {found.command}")
