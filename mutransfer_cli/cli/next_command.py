"""Files that a command cannot use, and the command to run with them instead."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from mutransfer_cli.spec.kinds import Kind

RUNS = "a sweep's folder or a table of runs"
NO_RUNS = f"it holds no runs; give {RUNS}"
FIT = "run `mutransfer fit-exponents {}` first, and give the exponents file that it writes"
EXPONENTS = "give the exponents file that `mutransfer fit-exponents` writes"
UNSWEPT = "run `mutransfer sweep-proxy {}` first, and give its folder"
CHECKED = "give a recipe, exponents, records or a sweep spec"

# what to do instead, by command and kind; {} is the source as a shell writes it
INSTEAD: Mapping[str, Mapping[Kind, str]] = {
    "fit-exponents": {
        "spec": UNSWEPT,
        "protocol": "give it with --protocol beside a table of runs",
        "exponents": "it is fitted already; run `mutransfer transfer {} --width WIDTH`",
        "recipe": NO_RUNS,
        "check": NO_RUNS,
        "trainer": NO_RUNS,
        "page": NO_RUNS,
    },
    "transfer": {
        "sweep": FIT,
        "folder": FIT,
        "records": FIT,
        "table": FIT,
        "spec": "run `mutransfer sweep-proxy {} | mutransfer fit-exponents` first, and give the "
        "exponents file that they write",
        "protocol": "run `mutransfer fit-exponents TABLE --protocol {}` first, and give the "
        "exponents file that it writes",
        "recipe": "it holds for one width; for another one give the exponents file behind it",
        "check": EXPONENTS,
        "trainer": EXPONENTS,
        "page": EXPONENTS,
        "binary": EXPONENTS,
    },
    "check": {
        "folder": "run `mutransfer check --records {}`, if it holds runs",
        "table": "run `mutransfer check --records {}`",
        "protocol": "run `mutransfer check --records TABLE --protocol {}`",
        "check": "give the file that was checked",
        "trainer": "give the recipe itself, as `mutransfer transfer` writes it without --to",
        "page": CHECKED,
        "binary": CHECKED,
    },
    "report": {
        "spec": UNSWEPT,
        "protocol": "run `mutransfer report TABLE --protocol {}`",
        "exponents": "it holds no runs; give the sweep's folder or the table that was fitted",
        "recipe": NO_RUNS,
        "check": f"put it beside a sweep's records as check.yaml, and give {RUNS}",
        "trainer": NO_RUNS,
        "page": f"open it in a browser, or give {RUNS}",
        "empty": f"give {RUNS}",
        "binary": f"give {RUNS}",
    },
    "records": {
        "spec": UNSWEPT,
        "protocol": "give it with --protocol, and a table with --records",
        "exponents": "it holds no runs; run `mutransfer check {}`, or add runs with --records",
        "recipe": "it holds no runs; run `mutransfer check {}`, or add runs with --records",
        "check": NO_RUNS,
        "trainer": NO_RUNS,
        "page": NO_RUNS,
        "empty": f"give {RUNS}",
        "binary": f"give {RUNS}",
    },
}


def accepted(source: Path | None, command: str) -> Kind:
    """The kind of a source (None is stdin), which the command can use.

    Args:
        command: name of the command, or `records` for the option of that name.

    Raises:
        InputError: the source is of another kind, or cannot be read.
    """
    from mutransfer_cli.spec.kinds import NAMES, kind_of
    from mutransfer_cli.spec.sources import find_spec

    is_spec = source is not None and not source.exists() and find_spec(str(source)) is not None
    kind = "spec" if is_spec else kind_of(source)
    instead = INSTEAD[command].get(kind)
    if instead is None:
        return kind
    where, written = ("stdin", "FILE") if source is None else (source, shlex.quote(str(source)))
    raise InputError(f"{where}: is {NAMES[kind]}; {instead.format(written)}")
