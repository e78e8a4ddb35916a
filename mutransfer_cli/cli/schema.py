"""`mutransfer schema`: the JSON Schema of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mutransfer_cli.cli.console import stdout_or
from mutransfer_cli.cli.next_command import refuse_file
from mutransfer_cli.errors import InputError


def schema(
    name: Annotated[
        str, typer.Argument(help="Which file: sweep, protocol, trial, exponents, recipe, check.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Write to FILE, or into the folder DIR under the name that the first line of "
            "each exponents and recipe file there looks for.",
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of a file.

    Draft 7, for editors and for validators that know nothing of this tool; that of trial is for one
    line of trials.jsonl.
    """
    from mutransfer_cli.spec.schema import json_schema
    from mutransfer_cli.spec.yaml_io import schema_file, write_result
    from mutransfer_cli.strict import nearest

    found = documents()
    if name not in found:
        refuse_file(name, "schema")
        raise InputError(f"{name}: no such file{nearest(name, found)}")
    text = json.dumps(json_schema(*found[name]), indent=2) + "\n"
    target = stdout_or(output)
    if target is not None and target.is_dir():
        target /= schema_file(found[name][0])
    write_result(text, target)


def documents() -> dict[str, tuple[str, Any]]:
    """By a file's name, its schema and the model of it."""
    from mutransfer_cli.check.measure import CHECK_SCHEMA, Check
    from mutransfer_cli.fit.exponents import EXPONENTS_SCHEMA, Exponents
    from mutransfer_cli.recipe.types import RECIPE_SCHEMA, Recipe
    from mutransfer_cli.spec.protocol import PROTOCOL_SCHEMA, DeclaredProtocol
    from mutransfer_cli.spec.records import TRIAL_SCHEMA, SweepHeader, ThroughputRecord, TrialRecord
    from mutransfer_cli.spec.sweep import SWEEP_SCHEMA, SweepSpec

    return {
        "sweep": (SWEEP_SCHEMA, SweepSpec),
        "protocol": (PROTOCOL_SCHEMA, DeclaredProtocol),
        "trial": (TRIAL_SCHEMA, SweepHeader | TrialRecord | ThroughputRecord),
        "exponents": (EXPONENTS_SCHEMA, Exponents),
        "recipe": (RECIPE_SCHEMA, Recipe),
        "check": (CHECK_SCHEMA, Check),
    }
