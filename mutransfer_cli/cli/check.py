"""`mutransfer check`: does it transfer? An answer as an exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from mutransfer_cli.cli.console import note, stdin_or, stdout_or
from mutransfer_cli.cli.options import AsJson, OutputFile
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from mutransfer_cli.check.gates import Asked
    from mutransfer_cli.files.check import Check, Gate, GateName
    from mutransfer_cli.files.recipe import Recipe
    from mutransfer_cli.files.records import Records

EXIT = {"pass": 0, "fail": 3, "inconclusive": 4}
SUMMARY = "GITHUB_STEP_SUMMARY"


def check(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe, exponents file, or records (a sweep's folder or file), or - for stdin. "
            "Default: stdin when piped.",
            show_default=False,
        ),
    ] = None,
    gates: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Which of static, exponent, transfer, spectrum, with commas. Default: all that "
            "the source allows.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Sweep at a larger width, by which a recipe or exponents are judged.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Model that a recipe is for: its config.json, package.module:function (runs that "
            "code), or a YAML file with the model of a spec.",
            show_default=False,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="FUNCTION",
            help="package.module:function that makes the optimizer of the model (runs that code).",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(
            metavar="WIDTH", min=1, help="Width that is forecast. Default: the records' largest."
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE=NUMBER",
            help="exponent=0.1, spectrum=0.1; transfer=0.0025 is a share of the loss. Repeatable.",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Which group, of exponents fitted with --by.")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Annotations on stderr, a table in the step summary.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JUnit XML too.", show_default=False)
    ] = None,
    output: OutputFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether hyperparameters transfer.

    Writes mutransfer.check/1: of each gate the measured quantity, its 95 % interval, the tolerance
    and a verdict: pass when the interval lies inside the tolerance, fail when outside, else
    inconclusive. Exit code 0 when all pass, 3 when one fails, else 4.
    """
    path = stdin_or([source] if source else None, "a recipe, exponents or records")[0]
    if optimizer is not None and model is None:
        raise InputError("--optimizer: is made for a model; give it with --model")

    from mutransfer_cli import __version__
    from mutransfer_cli.check.gates import Asked
    from mutransfer_cli.files.check import CHECK_SCHEMA, Check
    from mutransfer_cli.files.dump import dump
    from mutransfer_cli.files.yaml_io import write_result
    from mutransfer_cli.fit.equivalence import worst

    asked = Asked(_named(gates), _tolerances(tolerance or []), held_out)
    found = _verdicts(path, records, group, (model, optimizer), asked)
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


def _verdicts(
    path: Path | None,
    held_out: Path | None,
    group: str | None,
    target: tuple[str | None, str | None],
    asked: Asked,
) -> list[Gate]:
    from mutransfer_cli.check.gates import gates_of_exponents, gates_of_records
    from mutransfer_cli.files.diagnostics import DIAGNOSTICS, read_diagnostics
    from mutransfer_cli.files.exponents import EXPONENTS_SCHEMA, Exponents
    from mutransfer_cli.files.recipe import RECIPE_SCHEMA, Recipe
    from mutransfer_cli.files.sources import holds_records, load_records
    from mutransfer_cli.files.strict import validated
    from mutransfer_cli.files.yaml_io import load_yaml, read_text

    is_records = holds_records(path)
    where = str(path or "stdin")
    document = None if is_records else load_yaml(read_text(path), where)
    schema = document.get("schema") if isinstance(document, dict) else None
    if target[0] is not None and schema != RECIPE_SCHEMA:
        raise InputError(f"--model: is for a recipe, and {where} is none; leave it out")
    if is_records:
        if held_out is not None:
            raise InputError("--records: is for a recipe or exponents; records are judged alone")
        read = load_records([path], warn=note)
        folder = path if path is not None and path.is_dir() else None
        ids = [trial.trial for trial in read.trials]
        measured = read_diagnostics(folder / DIAGNOSTICS, ids) if folder else []
        return gates_of_records(read, measured, asked)
    larger: Records | None = load_records([held_out], warn=note) if held_out else None
    if schema == EXPONENTS_SCHEMA:
        exponents = validated(Exponents, document, where)
        return gates_of_exponents(exponents, group, larger, asked)
    if schema == RECIPE_SCHEMA:
        return _of_recipe(validated(Recipe, document, where), where, target, larger, asked)
    raise InputError(
        f"{where}: is neither a recipe, exponents nor records; its schema is {schema!r}"
    )


def _of_recipe(
    recipe: Recipe,
    where: str,
    target: tuple[str | None, str | None],
    larger: Records | None,
    asked: Asked,
) -> list[Gate]:
    from mutransfer_cli.check.gates import gates_of_recipe
    from mutransfer_cli.check.static import static_gate

    model, optimizer = target
    static = None
    if asked.wants("static", by_default=True):
        if model is None:
            static = static_gate(recipe)
        else:
            from mutransfer_cli.apply.static import check_model

            found = check_model(recipe, where, model, optimizer, note)
            static = static_gate(recipe, found.findings, found.unchecked)
    elif model is not None:
        raise InputError("--model: is for the gate static, which is not asked for")
    return gates_of_recipe(recipe, larger, static, asked)


def _named(gates: str | None) -> frozenset[GateName] | None:
    from mutransfer_cli.files.check import GateName

    if gates is None:
        return None
    known = get_args(GateName)
    names = [name.strip() for name in gates.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"--gates {name}: unknown; there are {', '.join(known)}")
    return frozenset(cast("list[GateName]", names))


def _tolerances(given: list[str]) -> dict[GateName, float]:
    from mutransfer_cli.files.check import GateName

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
    from mutransfer_cli.check.outputs import sentences

    for gate in document.gates:
        note(f"{gate.gate}: {gate.verdict}")
        for sentence in sentences(gate):
            note(f"  {sentence}")
    note(f"verdict: {document.verdict}")


def _for_ci(document: Check, github: bool, junit: Path | None) -> None:
    from mutransfer_cli.check.outputs import github_annotations, summary
    from mutransfer_cli.check.outputs import junit as as_junit
    from mutransfer_cli.files.yaml_io import append_text, write_result

    if github:
        for annotation in github_annotations(document):
            note(annotation)
        step = os.environ.get(SUMMARY)
        if step:
            append_text(summary(document), Path(step))
        else:
            note(f"--github: {SUMMARY} is not set, so that there is no summary to add to")
    if junit is not None:
        write_result(as_junit(document), junit)
