"""`mutransfer check`: check whether hyperparameters transfer, with an exit code as the answer."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from mutransfer_cli.cli.completion import run_folders
from mutransfer_cli.cli.console import (
    AsJson,
    GroupName,
    OutputFile,
    TargetName,
    Variant,
    note,
    stdin_or,
    stdout_or,
)
from mutransfer_cli.cli.next_command import refuse_file
from mutransfer_cli.cli.own_table import with_table_options
from mutransfer_cli.cli.usage import read_width, width_of
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions

if TYPE_CHECKING:
    from mutransfer_cli.check.measure import Check, GateName


EXIT = {"pass": 0, "fail": 3, "inconclusive": 4}
SUMMARY = "GITHUB_STEP_SUMMARY"


@with_table_options
def check(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe, exponents file, records (a sweep's folder or file), or a sweep spec (a "
            "file or a shipped name), or - for stdin. Default: stdin when piped.",
            show_default=False,
            autocompletion=run_folders,
        ),
    ] = None,
    gates: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of static, coordinates, exponent, transfer, spectrum, separated by commas. "
            "Default: all that the source allows.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Runs at a larger width that judge the source: a sweep or a table of own results; "
            "with --spec, the folder to train them into (default: runs/SPEC-WIDTH). Without a "
            "source: the runs to judge, or - for stdin.",
        ),
    ] = None,
    model: TargetName = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="package.module:function that makes the optimizer of the model (runs that code).",
            show_default=False,
        ),
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Sweep spec behind a recipe, exponents or records; gates that train use it: "
            "coordinates, and transfer if --held-out or --gates asks for it.",
            show_default=False,
        ),
    ] = None,
    variant: Variant = None,
    widths: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHS",
            help="Widths for gate coordinates, separated by commas. Default: 64,128,256,512, or "
            "what a config can have near them.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Seeds for gate coordinates, at every width. Default: 5.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Time limit for all training; a gate that does not end within it is inconclusive.",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            metavar="WIDTH",
            parser=width_of,
            help="Width to forecast, and to train with --spec. Default: the records' largest.",
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE=NUMBER",
            help="exponent=0.1, spectrum=0.1, coordinates=0.25; transfer=0.0025 is a share of the "
            "loss. Repeatable.",
        ),
    ] = None,
    *,
    table: TableOptions,
    group: GroupName = None,
    github: Annotated[
        bool, typer.Option("--github", help="Annotations on stderr, a table in the step summary.")
    ] = False,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JUnit XML as well.", show_default=False),
    ] = None,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Check whether hyperparameters transfer.

    Writes mutransfer.check/1: for each gate the measured quantity, its 95% interval, the tolerance
    and a verdict: pass when the interval lies inside the tolerance, fail when outside, otherwise
    inconclusive. Exit code 0 when all pass, 3 when one fails, otherwise 4.
    """
    alone = source is None and records is not None and (str(records) == "-" or not _is_piped())
    given = records if alone else source
    path = stdin_or([given] if given else None, "a recipe, exponents or records")[0]
    if optimizer is not None and model is None:
        raise InputError("--optimizer: is for a model; give that with --model")
    if model is not None:
        refuse_file(model, "--model")
    if optimizer is not None:
        refuse_file(optimizer, "function")
    if budget is not None and not 0 < budget < math.inf:
        raise InputError(f"--budget {budget:g}: expected minutes, more than 0")

    from mutransfer_cli import __version__
    from mutransfer_cli.check.gates import Asked
    from mutransfer_cli.check.measure import CHECK_SCHEMA, Check, worst
    from mutransfer_cli.cli.check_sources import Source, TrainingOptions
    from mutransfer_cli.spec.yaml_io import dump, write_result

    asked = Asked(_named(gates), _tolerances(tolerance or []), held_out)
    training = TrainingOptions(spec, variant, _widths(widths), seeds, budget)
    larger = None if alone else records
    options = (group, model, optimizer, training, table)
    found = Source(path, larger, *options, of_runs=alone).verdicts(asked)
    document = Check(
        schema_=CHECK_SCHEMA,
        tool_version=__version__,
        source=str(path or "stdin"),
        verdict=worst(gate.verdict for gate in found),
        gates=tuple(found),
    )
    _say(document)
    _for_ci(document, github, junit)
    write_result(dump(document, as_json), stdout_or(output))
    raise typer.Exit(EXIT[document.verdict])


def _is_piped() -> bool:
    """Whether anything arrives on stdin."""
    from mutransfer_cli.spec.kinds import kind_of

    return not sys.stdin.isatty() and kind_of(None) != "empty"


def _named(gates: str | None) -> frozenset[GateName] | None:
    from mutransfer_cli.check.measure import GateName

    if gates is None:
        return None
    known = get_args(GateName)
    names = [name.strip() for name in gates.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"--gates {name}: unknown; there are {', '.join(known)}")
    return frozenset(cast("list[GateName]", names))


def _widths(widths: str | None) -> tuple[int, ...] | None:
    if widths is None:
        return None
    found = [read_width(width.strip()) for width in widths.split(",")]
    read = sorted({width for width in found if width is not None})
    if None in found:
        raise InputError(
            f"--widths {widths}: expected widths separated by commas, such as 64,128,256,512"
        )
    return tuple(read)


def _tolerances(given: list[str]) -> dict[GateName, float]:
    from mutransfer_cli.check.measure import GateName

    found: dict[GateName, float] = {}
    for item in given:
        name, _, number = item.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if name not in get_args(GateName) or not 0 < value < float("inf"):
            raise InputError(f"--tolerance {item}: expected GATE=NUMBER, such as exponent=0.15")
        found[cast("GateName", name)] = value
    return found


def _say(document: Check) -> None:
    from mutransfer_cli.check.outputs import summed_up

    for gate in document.gates:
        note(f"{gate.gate}: {gate.verdict}")
        for sentence in summed_up(gate):
            # no line may begin with text of a file: GitHub's runner reads "  ::..." as a command
            note(f"  - {sentence}")
    note(f"verdict: {document.verdict}")


def _for_ci(document: Check, github: bool, junit: Path | None) -> None:
    from mutransfer_cli.check.outputs import github_annotations, summary
    from mutransfer_cli.check.outputs import junit as as_junit
    from mutransfer_cli.spec.yaml_io import append_text, write_result

    if github:
        for annotation in github_annotations(document):
            note(annotation)
        step = os.environ.get(SUMMARY)
        if step:
            append_text(summary(document), Path(step))
        else:
            note(f"--github: {SUMMARY} is not set, so there is no step summary to add to")
    if junit is not None:
        write_result(as_junit(document), junit)
