"""Files that a command cannot use, and the command to run with them instead."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import NAMES, Kind, kind_of

FIT = "run `mutransfer fit-exponents {}` first, and give the exponents file that it writes"
SWEEP_FIRST = "which was not run yet; run `mutransfer sweep-proxy {}` first"
RUNS = "a sweep's folder or a table of runs"

# what to do instead, by command and kind; {} is the source as a shell writes it
INSTEAD: Mapping[str, Mapping[Kind, str]] = {
    "fit-exponents": {
        "spec": SWEEP_FIRST,
        "protocol": "give it with --protocol beside a table of runs",
        "exponents": "which is fitted already; run `mutransfer transfer {} --width WIDTH`",
        "recipe": f"which holds no runs; give {RUNS}",
        "check": f"which holds no runs; give {RUNS}",
        "page": f"which cannot be fitted; give {RUNS}",
    },
    "transfer": {
        "sweep": FIT,
        "folder": FIT,
        "records": FIT,
        "table": FIT,
        "spec": "which was not run yet; run `mutransfer sweep-proxy {} | mutransfer fit-exponents` "
        "first, and give the exponents file that they write",
        "protocol": "run `mutransfer fit-exponents TABLE --protocol {}` first, and give the "
        "exponents file that it writes",
        "recipe": "made for its width already; for another width give its exponents file",
        "check": "give the exponents file that `mutransfer fit-exponents` writes",
        "page": "give the exponents file that `mutransfer fit-exponents` writes",
        "binary": "give the exponents file that `mutransfer fit-exponents` writes",
    },
    "check": {
        "folder": "which holds no records; give a sweep's, or a table with --records",
        "table": "run `mutransfer check --records {}`",
        "protocol": "run `mutransfer check --records TABLE --protocol {}`",
        "check": "give the file that was checked",
        "page": "give a recipe, exponents, records or a sweep spec",
        "binary": "give a recipe, exponents, records or a sweep spec",
    },
    "report": {
        "folder": f"which holds no records; give {RUNS}",
        "spec": SWEEP_FIRST,
        "protocol": "run `mutransfer report TABLE --protocol {}`",
        "exponents": "which holds no runs; give the sweep's folder or the table that was fitted",
        "recipe": f"which holds no runs; give {RUNS}",
        "check": f"which holds no runs; put it beside a sweep's records and give {RUNS}",
        "page": f"written already, it seems; open it in a browser, or give {RUNS}",
        "empty": f"nothing can be drawn; give {RUNS}",
        "binary": f"give {RUNS}",
    },
    "records": {
        "folder": "which holds no records",
        "spec": SWEEP_FIRST,
        "protocol": "give it with --protocol beside a table of runs",
        "exponents": f"which holds no runs; run `mutransfer check {{}}`, or give {RUNS}",
        "recipe": f"which holds no runs; run `mutransfer check {{}}`, or give {RUNS}",
        "check": f"which holds no runs; give {RUNS}",
        "page": f"which holds no runs; give {RUNS}",
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
    kind = kind_of(source)
    instead = INSTEAD[command].get(kind)
    if instead is None:
        return kind
    where, written = ("stdin", "FILE") if source is None else (source, shlex.quote(str(source)))
    joint = ", " if instead.startswith(("which", "made", "written")) else "; "
    raise InputError(f"{where}: is {NAMES[kind]}{joint}{instead.format(written)}")
