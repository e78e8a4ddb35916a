"""`mutransfer schema`: the JSON Schema of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mutransfer_cli.cli.console import stdout_or


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
    from mutransfer_cli.spec.schema import NAMES, json_schema
    from mutransfer_cli.spec.yaml_io import schema_file, write_result

    text = json.dumps(json_schema(name), indent=2) + "\n"
    target = stdout_or(output)
    if target is not None and target.is_dir():
        target /= schema_file(NAMES[name])
    write_result(text, target)
